#include "driver/linux/passing.h"

#include <sys/uio.h>

#include <cstring>
#include <new>

#include "driver/passed_descriptors.h"

namespace cp::driver {

static_assert(PassedDescriptors::kRoom >= CMSG_SPACE(PassedDescriptors::kMost * sizeof(int)));
static_assert(sizeof(struct msghdr) <= Scratch::kSize);

namespace {

void write_control(struct msghdr& header, PassedDescriptors& passed) {
  const std::size_t bytes = passed.numbers.size() * sizeof(int);
  header.msg_control = passed.control;
  header.msg_controllen = CMSG_SPACE(bytes);
  struct cmsghdr* control = CMSG_FIRSTHDR(&header);
  control->cmsg_level = SOL_SOCKET;
  control->cmsg_type = SCM_RIGHTS;
  control->cmsg_len = CMSG_LEN(bytes);
  for (std::size_t i = 0; i < passed.numbers.size(); ++i) {
    const int fd = static_cast<int>(passed.numbers[i]);
    std::memcpy(CMSG_DATA(control) + i * sizeof fd, &fd, sizeof fd);
  }
}

}  // namespace

struct msghdr* passing_header(Operation& operation) {
  auto* header = new (operation.lane_scratch.make()) msghdr{};
  header->msg_iov = reinterpret_cast<struct iovec*>(operation.slices);
  header->msg_iovlen = operation.slice_count;
  PassedDescriptors& passed = *operation.passed;
  if (operation.code == Opcode::kReceiveHandles) {
    header->msg_control = passed.control;
    header->msg_controllen = sizeof passed.control;
  } else if (!passed.numbers.empty()) {  // of the rest of what was sent in part
    write_control(*header, passed);
  }
  return header;
}

void take_passed(Operation& operation) {
  auto* header = static_cast<struct msghdr*>(operation.lane_scratch.get());
  PassedDescriptors& passed = *operation.passed;
  passed.cut = (header->msg_flags & MSG_CTRUNC) != 0;
  for (struct cmsghdr* control = CMSG_FIRSTHDR(header); control != nullptr;
       control = CMSG_NXTHDR(header, control)) {
    if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(control) + i * sizeof fd, sizeof fd);
      passed.numbers.push_back(fd);
    }
  }
}

}  // namespace cp::driver
