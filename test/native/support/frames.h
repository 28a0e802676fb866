// A frames stage with a listener, and a next stage that a test carries out packet by packet, as
// lib/stage does.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "member.h"
#include "stage/frames.h"

namespace cp::test {

inline constexpr std::uint8_t kFramesStage = 0;
inline constexpr std::uint8_t kNextStage = 1;
inline constexpr std::uint8_t kThirdStage = 2;

inline std::string u32be(std::uint64_t number) {
  std::string bytes(4, '\0');
  for (int i = 0; i < 4; ++i) bytes[i] = static_cast<char>(number >> (24 - 8 * i));
  return bytes;
}
inline std::string framed(const std::string& text) { return u32be(text.size()) + text; }

/// A document's text: no two parts of it are alike.
inline std::string text_of(std::size_t length, std::uint32_t seed = 1) {
  std::string text(length, '\0');
  std::uint32_t state = seed * 2654435761u + 1;
  for (char& byte : text) {
    state = state * 1664525u + 1013904223u;
    byte = static_cast<char>(state >> 24);
  }
  return text;
}

/// What the next stage has in hand.
struct Arrival {
  std::uint32_t key = 0;
  HandleId handle = 0;
  std::string text;
  bool in_file = false;
  std::uint32_t number = 0;
};

struct FramesSetup {
  PortOptions port, next;
  stage::FramesOptions frames;
  std::size_t records = 1024;
};

class FramesPipeline {
 public:
  explicit FramesPipeline(const char* driver,
                          const std::function<void(FramesSetup&)>& adjust = {}) {
    descriptors_ = open_descriptors();
    handles_ = open_handles();
    FramesSetup setup;
    setup.port.concurrency = setup.next.concurrency = 4;
    setup.port.buffers.buffer_size = setup.next.buffers.buffer_size = 4096;
    setup.port.buffers.buffer_count = setup.next.buffers.buffer_count = 256;
    setup.frames.stage = kFramesStage;
    setup.frames.next_stage = kNextStage;
    setup.frames.threads = 2;
    setup.frames.max = 1 << 24;
    setup.frames.in_memory = 1 << 24;
    setup.frames.farewell_timeout = 30'000;
    setup.frames.directory = temporary_directory();
    if (adjust) adjust(setup);
    port = make_port(driver, setup.port);
    next = make_port(driver, setup.next);
    records = stage::RecordTable::make(setup.records, 128);
    REQUIRE(records != nullptr);
    setup.frames.port = port;
    setup.frames.next = next;
    setup.frames.records = records;
    member.emplace(*next);
    driver::Result error = 0;
    frames = stage::FramesStage::start(setup.frames, error);
    REQUIRE_MESSAGE(frames != nullptr, "start: ", error);
    driver::ListenOptions listening;
    listening.address = any_loopback();
    const std::int64_t id = frames->listen(listening);
    REQUIRE(id > 0);
    listener = static_cast<HandleId>(id);
    address = address_of(*port, listener);
  }
  ~FramesPipeline() { stop(); }

  Peer connect() const {
    Peer peer(address);
    REQUIRE(peer.connected);
    return peer;
  }

  stage::RecordHeader& header(std::uint32_t key) const {
    stage::RecordHeader* header = records->header(key);
    REQUIRE(header != nullptr);
    return *header;
  }

  /// The next document; key 0 when none comes in time.
  Arrival take(driver::Deadline patience = kPatience) { return take(*member, patience); }

  Arrival take(Member& by, driver::Deadline patience = kPatience) const {
    for (;;) {
      const Packet packet = by.next(patience);
      if (packet.kind == PacketKind::kNone) return {};
      if (packet.kind == PacketKind::kHandOff) return arrival(packet.key);
    }
  }

  /// What a record says of its document, read as lib/stage/run/documents.ts does.
  Arrival arrival(std::uint32_t key) const {
    const stage::RecordHeader& record = *records->header(key);
    Arrival it;
    it.key = key;
    it.handle = record.handle;
    it.number = record.number;
    it.in_file = (record.flags & stage::kRecordDocumentInFile) != 0;
    if ((record.flags & stage::kRecordHasDocument) == 0) return it;
    const bool lost = !it.in_file && record.document.memory.chunk == driver::kNoChunk;
    if (lost && record.document_length > 0) return it.text = "(lost)", it;
    const auto length = static_cast<std::size_t>(record.document_length);
    it.text.resize(length);
    if (it.in_file) {
      Port::with_descriptor(record.document.file, [&](driver::Descriptor file) {
        const auto n = read_at(file, it.text.data(), length, 0);
        return n == static_cast<std::int64_t>(length) ? driver::Result{0} : (it.text.clear(), -1);
      });
    } else if (length > 0) {
      const Place place{record.document.memory.chunk, record.document.memory.start};
      const std::uint8_t* base = BufferPool::use(place, length);
      if (base == nullptr) return it.text = "(gone)", it;
      it.text.assign(reinterpret_cast<const char*>(base), length);
      BufferPool::unuse(place);
    }
    return it;
  }

  /// As lib/stage/run does before it calls a handler.
  void begin(const Arrival& it) const { records->cargo(it.key)->document.lease->begun(); }

  void give_memory(Member& by, std::uint32_t key, const std::string& text) const {
    stage::Reply& reply = records->cargo(key)->reply;
    reply.present = true;
    if (text.empty()) return;
    Place place;
    // The other threads' answers may be what fills it.
    if (!eventually([&] { return by.thread->allocate(text.size(), place); })) return;
    BufferPool::assign(place, 0);
    std::memcpy(Chunk::find(place.chunk)->base() + place.offset, text.data(), text.size());
    reply.memory = {place, static_cast<std::uint32_t>(text.size())};
  }
  /// `length` bytes of a file that has `text` from `offset` on.
  void give_file(std::uint32_t key, const std::string& text, std::uint64_t length,
                 std::uint64_t offset = 0) const {
    const driver::Result file = next->driver().temporary_file(temporary_directory().c_str());
    if (file < 0) return;
    for (std::size_t done = 0; done < text.size();) {
      const auto n = write_at(file, text.data() + done, text.size() - done, offset + done);
      if (n <= 0) break;
      done += static_cast<std::size_t>(n);
    }
    stage::Reply& reply = records->cargo(key)->reply;
    reply.present = true;
    reply.file = file;
    reply.file_offset = offset;
    reply.file_length = length;
  }

  /// Hands the connection back to the frames stage, as it is.
  std::int32_t hand_back(std::uint32_t key) const {
    stage::RecordHeader* record = records->header(key);
    record->deadline = 0;
    record->from = record->stage;
    record->stage = kFramesStage;
    return next->hand_off(record->handle, *port, key, &record->port);
  }
  std::int32_t answer(const Arrival& to, const std::string& text) {
    REQUIRE(to.key != 0);
    give_memory(*member, to.key, text);
    return hand_back(to.key);
  }

  /// Gives the kernel what the member has submitted, and takes nothing.
  void flush() { member->thread->get(0, driver::now()); }

  /// Closes a handle that is at the frames stage, as a thread of that port can, which takes
  /// nothing.
  void close_there(HandleId handle) const {
    Member closer(*port);
    closer.close(handle);
  }

  /// Closes the connection at the next stage and frees its record.
  void close(Member& by, const Arrival& it) const {
    by.close(it.handle);
    for (;;) {
      const Packet packet = by.next();
      const bool mine = packet.kind == PacketKind::kClose && packet.handle == it.handle;
      if (mine || packet.kind == PacketKind::kNone) break;
    }
    records->release(it.key, *by.thread);
  }

  /// Ends everything and checks that nothing is left.
  void stop() {
    if (!frames) return;
    frames->stop();
    if (member) member->leave(false);
    member.reset();
    next->close();
    frames.reset();
    records.reset();
    CHECK(port->pool().allocated_bytes() == 0);
    CHECK(next->pool().allocated_bytes() == 0);
    CHECK(open_handles() == handles_);
    CHECK(open_descriptors() == descriptors_);
  }

  /// Connections end, and everything they had is given back while the pipeline goes on.
  bool empty() {
    if (member && member->attached()) flush();  // it may be closing files
    // One handle is the listener.
    return records->live() == 0 && port->pool().allocated_bytes() == 0 &&
           open_handles() == handles_ + 1 && frames->stats().queued == 0;
  }

  PortHold port;
  PortHold next;
  std::shared_ptr<stage::RecordTable> records;
  std::unique_ptr<stage::FramesStage> frames;
  std::optional<Member> member;
  HandleId listener = 0;
  driver::SocketAddress address;

 private:
  std::size_t descriptors_ = 0, handles_ = 0;
};

}  // namespace cp::test
