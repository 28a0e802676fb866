// A port and the threads attached to it, as a program in C++ would use them.
#pragma once

#include <doctest/doctest.h>

#include <atomic>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "driver/errno.h"
#include "peer.h"
#include "port/port.h"
#include "port/thread.h"
#include "system.h"
#include "verdict.h"

namespace cp::test {

inline PortHold make_port(const char* driver, PortOptions options = {}) {
  options.driver = driver;
  driver::Result error = 0;
  std::string reason;
  PortHold port = Port::create(options, error, reason);
  REQUIRE_MESSAGE(bool(port), reason);
  return port;
}

inline PortOptions options(std::uint32_t concurrency = 4, std::uint32_t buffers = 64,
                           std::uint32_t size = 4096) {
  PortOptions made;
  made.concurrency = concurrency;
  made.buffers.buffer_size = size;
  made.buffers.buffer_count = buffers;
  return made;
}

inline std::size_t open_handles() {
  std::size_t count = 0;
  HandleTable::instance().for_each([&](Handle& handle) { count += handle.id != 0; });
  return count;
}

inline Request* request(PacketKind kind, std::uint32_t token = 0) {
  Request* made = new_request();
  made->kind = kind;
  made->token = token;
  if (kind == PacketKind::kShutdown) made->flags = 1;
  if (kind == PacketKind::kStat) {
    made->details = std::make_unique<cp::Details>();
    made->status = &made->details->status;
  }
  return made;
}

/// Made on the thread that uses it.
class Member {
 public:
  explicit Member(Port& port, PostRing* ring = nullptr) : slots_(new PacketSlot[kBatchLimit]()) {
    driver::Result error = 0;
    thread = port.attach(slots_.get(), error, ring);
    REQUIRE_MESSAGE(thread != nullptr, "attach: ", error);
  }
  ~Member() { leave(false); }

  void leave(bool died) {
    if (thread != nullptr) std::exchange(thread, nullptr)->detach(died);
  }

  bool attached() const { return thread != nullptr; }

  /// Takes the next batch; false when there was none in time or the port is closed.
  bool refill(std::size_t max = kBatchLimit, driver::Deadline patience = kPatience) {
    at_ = 0;
    const std::int64_t count = thread->get(max, driver::now() + patience);
    size_ = count > 0 ? static_cast<std::size_t>(count) : 0;
    return count > 0;
  }

  /// The next packet; kNone when there was none in time or the port is closed.
  Packet next(driver::Deadline patience = kPatience, std::size_t max = kBatchLimit) {
    const driver::Deadline end = driver::now() + patience;
    for (;;) {
      if (at_ > 0) std::atomic_ref(slots_[at_ - 1].state).store(kSlotDone);
      for (; at_ < size_; ++at_) {
        std::uint32_t expected = kSlotReady;
        std::atomic_ref state(slots_[at_].state);
        if (thread->batch()[at_].awaited() ||
            state.compare_exchange_strong(expected, kSlotClaimed)) {
          return thread->batch()[at_++];
        }
      }
      at_ = size_ = 0;
      const driver::Deadline left = end - driver::now();
      if (left < 0 && patience > 0) return {};
      if (!refill(max, left < 0 ? 0 : left)) return {};
    }
  }

  std::uint32_t allocate(const void* bytes, std::size_t length, Request& request) {
    Place place;
    REQUIRE(thread->allocate(length, place));
    std::uint8_t* base = BufferPool::use(place, length);
    REQUIRE(base != nullptr);
    if (bytes != nullptr) std::memcpy(base, bytes, length);
    request.memory.add({base, length}, place);
    request.total += length;
    BufferPool::release(place);  // free once the operation is over
    return place.chunk;
  }

  void send(HandleId handle, const std::string& bytes, std::uint32_t token = 0,
            std::uint32_t timeout = 0) {
    Request* made = request(PacketKind::kSend, token);
    made->timeout = timeout;
    allocate(bytes.data(), bytes.size(), *made);
    thread->submit(made, handle);
  }
  void receive(HandleId handle, bool multishot = true, std::uint32_t token = 0,
               std::uint32_t timeout = 0) {
    Request* made = request(PacketKind::kReceive, token);
    made->multishot = multishot;
    made->timeout = timeout;
    thread->submit(made, handle);
  }
  void accept(HandleId handle, bool multishot = true, std::uint32_t token = 0) {
    Request* made = request(PacketKind::kAccept, token);
    made->multishot = multishot;
    thread->submit(made, handle);
  }
  void timer(HandleId handle, double delay, double interval = 0, std::uint32_t token = 0) {
    Request* made = request(PacketKind::kTimer, token);
    made->offset = static_cast<std::int64_t>(delay * 1e6);
    made->length = static_cast<std::uint64_t>(interval * 1e6);
    made->multishot = interval > 0;
    thread->submit(made, handle);
  }
  void submit(PacketKind kind, HandleId handle, std::uint32_t token = 0) {
    thread->submit(request(kind, token), handle);
  }
  void close(HandleId handle, std::uint32_t token = 0) {
    submit(PacketKind::kClose, handle, token);
  }

  Thread* thread = nullptr;

 private:
  std::unique_ptr<PacketSlot[]> slots_;
  std::size_t at_ = 0, size_ = 0;
};

inline HandleId listener(Member& member, bool keyed, std::uint32_t key = 1) {
  driver::ListenOptions options;
  options.address = any_loopback();
  Thread::Association association;
  association.keyed = keyed;
  association.key = key;
  const std::int64_t id = member.thread->listen(options, keyed, association);
  REQUIRE(id > 0);
  return static_cast<HandleId>(id);
}

inline driver::SocketAddress address_of(Port& port, HandleId handle) {
  driver::SocketAddress address;
  REQUIRE(port.driver().address(Port::look_up(handle).descriptor, false, address) == 0);
  return address;
}

inline std::string contents(const Packet& packet) {
  if (packet.chunk == driver::kNoChunk) return "";
  const Place place{packet.chunk, packet.offset};
  std::string bytes;
  if (const std::uint8_t* base =
          BufferPool::use(place, static_cast<std::uint64_t>(packet.result))) {
    bytes.assign(reinterpret_cast<const char*>(base), static_cast<std::size_t>(packet.result));
    BufferPool::unuse(place);
  }
  BufferPool::release(place);
  return bytes;
}

/// A connection: a keyed handle of the port on one side, a peer on the other.
struct Connection {
  Peer peer;
  HandleId handle;
  std::uint32_t key;
};
inline Connection connection(Port& port, Member& member, HandleId listener) {
  member.accept(listener, false);
  Peer peer(address_of(port, listener));
  REQUIRE(peer.connected);
  // Those of earlier connections may come before it.
  Packet packet = member.next();
  while (packet.kind != PacketKind::kAccept && packet.kind != PacketKind::kNone) {
    packet = member.next();
  }
  REQUIRE(packet.kind == PacketKind::kAccept);
  REQUIRE(packet.error == 0);
  return {std::move(peer), packet.accepted, packet.accepted_key};
}

}  // namespace cp::test
