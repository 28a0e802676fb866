#include "support/raw_ring.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>

#include "support/process.h"

namespace cp::bench {
namespace {

constexpr std::uint32_t kWanted = uring::kSetupClamp | uring::kSetupCqSize |
                                  uring::kSetupSubmitAll | uring::kSetupSingleIssuer |
                                  uring::kSetupDeferTaskrun;

void* map(std::size_t size, int fd, std::uint64_t offset) {
  const int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, flags | MAP_POPULATE, fd,
                      static_cast<off_t>(offset));
  if (memory == MAP_FAILED) die("mmap");
  return memory;
}

}  // namespace

bool RawRing::available() {
  uring::Params params{};
  params.flags = kWanted;
  params.cq_entries = 8;
  const int fd = uring::setup(4, &params);
  if (fd >= 0) close(fd);
  return fd >= 0;
}

RawRing::RawRing(std::uint32_t entries, std::uint32_t cq_entries) {
  uring::Params params{};
  for (const std::uint32_t newest : {std::uint32_t{uring::kSetupNoSqArray}, 0u}) {
    params = {};
    params.flags = kWanted | newest;
    params.cq_entries = cq_entries;
    fd_ = uring::setup(entries, &params);
    if (fd_ >= 0 || errno != EINVAL) break;
  }
  if (fd_ < 0) die("io_uring_setup");
  rings_size_ = std::max<std::size_t>(params.sq.array + params.sq_entries * sizeof(std::uint32_t),
                                      params.cq.cqes + params.cq_entries * sizeof(uring::Cqe));
  rings_ = static_cast<std::uint8_t*>(map(rings_size_, fd_, 0));
  sqes_ = static_cast<uring::Sqe*>(map(params.sq_entries * sizeof(uring::Sqe), fd_, 0x10000000));
  const auto word = [this](std::uint32_t at) {
    return reinterpret_cast<std::uint32_t*>(rings_ + at);
  };
  sq_entries_ = params.sq_entries;
  sq_mask_ = params.sq_entries - 1;
  sq_khead_ = word(params.sq.head);
  sq_ktail_ = word(params.sq.tail);
  cq_mask_ = params.cq_entries - 1;
  cq_khead_ = word(params.cq.head);
  cq_ktail_ = word(params.cq.tail);
  cqes_ = reinterpret_cast<uring::Cqe*>(rings_ + params.cq.cqes);
  if (!(params.flags & uring::kSetupNoSqArray)) {
    for (std::uint32_t i = 0; i < sq_entries_; ++i) word(params.sq.array)[i] = i;
  }
  if (params.features & uring::kFeatureNoIowait) enter_flags_ |= uring::kEnterNoIowait;
  enter_fd_ = fd_;
  uring::ResourceUpdate update{0xffffffff, 0, static_cast<std::uint64_t>(fd_)};
  if (uring::register_(fd_, uring::kRegisterRingFds, &update, 1) == 1) {
    enter_fd_ = static_cast<int>(update.offset);
    enter_flags_ |= uring::kEnterRegisteredRing;
  }
}

RawRing::~RawRing() {
  munmap(sqes_, sq_entries_ * sizeof(uring::Sqe));
  munmap(rings_, rings_size_);
  close(fd_);
}

void RawRing::enter(std::uint32_t wait, std::int64_t deadline) {
  std::atomic_ref(*sq_ktail_).store(sq_tail_, std::memory_order_release);
  uring::Timespec timespec{};
  uring::GetEventsArgument argument{};
  std::uint32_t flags = enter_flags_;
  const bool limited = wait > 0 && deadline != kForever;
  if (limited) {
    const std::int64_t left = std::max<std::int64_t>(0, deadline - now());
    timespec = {left / 1'000'000'000, left % 1'000'000'000};
    argument.timespec = reinterpret_cast<std::uint64_t>(&timespec);
    flags |= uring::kEnterExtArg;
  }
  ++system_calls_;
  const int result = uring::enter(enter_fd_, sq_tail_ - sq_submitted_, wait, flags,
                                  limited ? &argument : nullptr, limited ? sizeof argument : 0);
  if (result >= 0) {
    sq_submitted_ += static_cast<std::uint32_t>(result);
    return;
  }
  if (errno != EINTR && errno != ETIME && errno != EBUSY && errno != EAGAIN) die("io_uring_enter");
  sq_submitted_ = std::atomic_ref(*sq_khead_).load(std::memory_order_acquire);
}

ProvidedRing::ProvidedRing(RawRing& ring, std::uint32_t count, std::uint32_t size)
    : count_(count), size_(size) {
  entries_ = static_cast<uring::BufferEntry*>(map(count * sizeof(uring::BufferEntry), -1, 0));
  memory_ = static_cast<std::uint8_t*>(map(std::size_t{count} * size, -1, 0));
  uring::BufferRingRegistration registration{};
  registration.ring_address = reinterpret_cast<std::uint64_t>(entries_);
  registration.ring_entries = count;
  registration.group = kGroup;
  if (uring::register_(ring.fd(), uring::kRegisterBufferRing, &registration, 1) < 0) {
    die("io_uring_register");
  }
  for (std::uint32_t i = 0; i < count; ++i) give_back(static_cast<std::uint16_t>(i));
  publish();
}

ProvidedRing::~ProvidedRing() {
  munmap(memory_, std::size_t{count_} * size_);
  munmap(entries_, count_ * sizeof(uring::BufferEntry));
}

}  // namespace cp::bench
