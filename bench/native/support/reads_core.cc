#include <vector>

#include "support/core.h"
#include "support/reads.h"

namespace cp::bench {
namespace {

constexpr std::uint32_t kOpened = 1;  // token of the open
constexpr std::uint32_t kFile = 1;    // key of the file

class CoreReads {
 public:
  CoreReads(const ReadOptions& options, std::uint64_t length)
      : options_(options), plan_(options, length), attached_(*port_for(options)) {
    Thread::Association association;
    association.keyed = true;
    association.key = kFile;
    association.token = kOpened;
    const std::uint32_t flags = driver::kOpenRead | (options.direct ? driver::kOpenDirect : 0u);
    const std::int64_t opened = thread().open(options.file, flags, 0, association);
    const std::int64_t error = opened < 0 ? opened : await(attached_, kOpened);
    if (error < 0) die(options.file.c_str(), static_cast<int>(-error));
    file_ = static_cast<std::uint32_t>(opened);
    places_.resize(options.depth);
    for (Place& place : places_) {
      if (!thread().allocate(options.size, place)) die("allocate", 12);
    }
  }

  ReadCount run() {
    ReadCount count;
    std::uint32_t in_flight = 0;
    for (; in_flight < options_.depth; ++in_flight) read(in_flight);
    const std::int64_t began = now();
    const std::uint64_t calls = thread().system_calls();
    const CpuTime before = CpuTime::used();
    while (!stopping()) {
      const std::int64_t got = thread().get(kBatchLimit, driver::kNever);
      attached_.each(got, [&](const PacketSlot& packet) {
        if (packet.error != 0) ++count.errors;
        count.bytes += static_cast<std::uint64_t>(packet.result);
        ++count.operations;
        read(packet.tag);
      });
    }
    count.cpu = CpuTime::used() - before;
    count.seconds = static_cast<double>(now() - began) / 1e9;
    count.system_calls = static_cast<std::int64_t>(thread().system_calls() - calls);
    return count;
  }

 private:
  static PortHold port_for(const ReadOptions& options) {
    PortOptions port;
    port.driver = options.driver;
    port.buffers.memory_limit = 4ull << 30;
    return make_port(port);
  }
  Thread& thread() { return attached_.thread(); }

  void read(std::uint32_t i) {
    Request* request = transfer(PacketKind::kRead, places_[i], options_.size, false);
    request->offset = static_cast<std::int64_t>(plan_.next());
    request->tag = i;
    thread().submit(request, file_);
  }

  const ReadOptions options_;
  ReadPlan plan_;
  Attached attached_;  // reaps what is in flight before its end
  std::uint32_t file_ = 0;
  std::vector<Place> places_;
};

}  // namespace

ReadCount read_core(const ReadOptions& options, std::uint64_t length) {
  return CoreReads(options, length).run();
}

}  // namespace cp::bench
