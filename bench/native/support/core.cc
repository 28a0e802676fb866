#include "support/core.h"

#include <cstdio>
#include <cstdlib>

namespace cp::bench {

PortHold make_port(PortOptions options) {
  driver::Result error = 0;
  std::string reason;
  PortHold port = Port::create(options, error, reason);
  if (port) return port;
  std::fprintf(stderr, "no port: %s (%lld)\n", reason.c_str(), static_cast<long long>(error));
  std::exit(1);
}

Attached::Attached(Port& port) : slots_(new PacketSlot[kBatchLimit]()) {
  driver::Result error = 0;
  thread_ = port.attach(slots_.get(), error);
  if (thread_ != nullptr) return;
  std::fprintf(stderr, "no lane: %lld\n", static_cast<long long>(error));
  std::exit(1);
}

Request* transfer(PacketKind kind, Place place, std::uint32_t bytes, bool release) {
  Request* request = new_request();
  request->kind = kind;
  std::uint8_t* base = BufferPool::use(place, bytes);
  if (base == nullptr) std::abort();  // the program released it before
  request->memory.add({base, bytes}, place);
  request->total = bytes;
  request->chunk = place.chunk;
  if (release) BufferPool::release(place);
  return request;
}

std::int64_t await(Attached& attached, std::uint32_t token) {
  for (;;) {
    std::int64_t result = 0;
    bool found = false;
    const std::int64_t count = attached.thread().get(1, driver::kNever);
    attached.each(count, [&](const PacketSlot& slot) {
      if ((slot.flags & kPacketAwaited) == 0 || slot.token != token) return;
      found = true;
      result = slot.error != 0 ? slot.error : static_cast<std::int64_t>(slot.result);
    });
    if (found) return result;
  }
}

}  // namespace cp::bench
