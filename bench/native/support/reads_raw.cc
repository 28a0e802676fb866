#include <fcntl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <vector>

#include "support/raw_ring.h"
#include "support/reads.h"

namespace cp::bench {
namespace {

class RawReads {
 public:
  RawReads(const ReadOptions& options, std::uint64_t length)
      : options_(options),
        plan_(options, length),
        ring_(options.depth, options.depth * 2),
        block_((options.size + 4095) / 4096 * 4096) {
    file_ = open(options.file.c_str(), O_RDONLY | O_CLOEXEC | (options.direct ? O_DIRECT : 0));
    if (file_ < 0) die(options.file.c_str());
    const std::size_t total = block_ * options.depth;
    void* memory = mmap(nullptr, total, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED) die("mmap");
    memory_ = static_cast<std::uint8_t*>(memory);
    if (options.direct) register_memory(total);
  }
  ~RawReads() {
    munmap(memory_, block_ * options_.depth);
    close(file_);
  }

  ReadCount run() {
    ReadCount count;
    std::uint32_t in_flight = 0;
    for (; in_flight < options_.depth; ++in_flight) read(in_flight);
    const std::int64_t began = now();
    const CpuTime before = CpuTime::used();
    const auto finished = [&](const uring::Cqe& cqe) {
      if (cqe.result < 0) ++count.errors;
      if (cqe.result > 0) count.bytes += static_cast<std::uint64_t>(cqe.result);
      ++count.operations;
      read(static_cast<std::uint32_t>(cqe.user_data));
    };
    while (!stopping()) {
      ring_.enter(1, kForever);
      ring_.drain(finished);
    }
    count.cpu = CpuTime::used() - before;
    count.seconds = static_cast<double>(now() - began) / 1e9;
    count.system_calls = static_cast<std::int64_t>(ring_.system_calls());
    finish(in_flight);
    return count;
  }

 private:
  /// Not for want of speed only: without registration each direct read pins its pages anew.
  void register_memory(std::size_t total) {
    iovec whole{memory_, total};
    uring::ResourceRegistration registration{};
    registration.count = 1;
    registration.data = reinterpret_cast<std::uint64_t>(&whole);
    if (uring::register_(ring_.fd(), uring::kRegisterBuffers2, &registration, sizeof registration) <
        0) {
      die("io_uring_register");
    }
  }

  void read(std::uint32_t i) {
    uring::Sqe& entry = ring_.next();
    entry.opcode = options_.direct ? uring::kOpReadFixed : uring::kOpRead;
    entry.fd = file_;
    entry.offset = plan_.next();
    entry.address = reinterpret_cast<std::uint64_t>(memory_ + i * block_);
    entry.length = options_.size;
    entry.user_data = i;
  }

  /// The kernel writes into memory that is still there.
  void finish(std::uint32_t in_flight) {
    for (const std::int64_t end = now() + 2'000'000'000; in_flight > 0 && now() < end;) {
      ring_.enter(1, end);
      in_flight -= ring_.drain([](const uring::Cqe&) {});
    }
  }

  const ReadOptions options_;
  ReadPlan plan_;
  RawRing ring_;
  const std::size_t block_;
  int file_ = -1;
  std::uint8_t* memory_ = nullptr;
};

}  // namespace

ReadCount read_raw(const ReadOptions& options, std::uint64_t length) {
  return RawReads(options, length).run();
}

}  // namespace cp::bench
