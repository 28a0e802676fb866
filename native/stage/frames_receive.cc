// Receiving: from bytes to a whole document at the next stage.
#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "driver/errno.h"
#include "stage/frames_thread.h"
#include "system/switch_point.h"

namespace cp::stage {
namespace {

using Phase = Frame::Phase;

/// A document in memory gets room for this much at once, and for 16 times what has arrived of
/// it: who announces a megabyte has to send some of it before a megabyte is set aside.
constexpr std::uint64_t kFirstRoom = 16384;
constexpr std::uint64_t kRoomFactor = 16;
/// What a document whose length is not known claims of the limit for files at a time.
constexpr std::uint64_t kFileStep = 1u << 20;
/// Writes of one document on their way to its file at one time.
constexpr std::uint8_t kWrites = 4;
/// The longest receive straight into a document's memory: one packet for each, and a deadline that
/// moves with it.
constexpr std::uint64_t kLongestReceive = 1u << 20;
/// Connections handed to the next stage before that is told of them.
constexpr std::uint32_t kHandedAtOnce = 16;
/// Of a receive's tag: counts those of one thread. The rest is the thread's.
constexpr unsigned kTagBits = 20;

}  // namespace

/// Between documents without memory, so that a connection that idles holds none (rule M3); a
/// document's rest straight into its place, unless something may still come before it, or the place
/// is too small: a receive keeps its memory until the client sends, and a document that grows may
/// have to give it up.
void FramesThread::receive(Connection& c) {
  Frame& frame = c.frame;
  if ((c.header.flags & kRecordReceiving) != 0) return;
  c.header.flags = static_cast<std::uint8_t>(c.header.flags | kRecordReceiving);
  // No other thread's, and not 0, which other stages' receives have.
  frame.receive_tag = (index_ + 1) << kTagBits | (receives_++ & ((1u << kTagBits) - 1));
  if (frame.growing && frame.phase == Phase::kBody) grow_at_once(c);
  const std::uint64_t room = frame.capacity - std::min(frame.capacity, frame.received);
  const bool in_body = frame.phase == Phase::kBody && !options().framing.delimited();
  frame.direct = frame.receives_own && in_body && !frame.growing && room > 0;
  if (!frame.direct) return submit(PacketKind::kReceive, c.header.handle, frame.receive_tag);
  const std::uint64_t length = std::min(room, kLongestReceive);
  const Place place{frame.place.chunk,
                    frame.place.offset + static_cast<std::uint32_t>(frame.received)};
  const std::uint32_t tag = frame.receive_tag;
  if (!submit_with(PacketKind::kReceive, c.header.handle, place, length, 0, nullptr, tag)) close(c);
}

/// Receives answer in the order they were submitted: one that was begun before the connection came
/// here, by whichever stage, comes before any of this stage's, at any time. Its end or failure is
/// this stage's to find out.
void FramesThread::on_receive(const PacketSlot& packet, Connection& c) {
  Frame& frame = c.frame;
  const bool own = frame.receive_tag != 0 && packet.tag == frame.receive_tag;
  const bool direct = own && frame.direct;
  c.header.flags = static_cast<std::uint8_t>(c.header.flags & ~kRecordReceiving);
  if (own) {
    frame.direct = false;
    frame.receives_own = true;
  }
  const bool lent = packet.chunk != driver::kNoChunk;
  const auto size = static_cast<std::uint32_t>(packet.result);
  Received bytes(lent ? Piece{{packet.chunk, packet.offset}, size} : Piece{});
  const bool over = packet.error != 0 || packet.result == 0;
  if (frame.phase == Phase::kClosing || frame.phase == Phase::kDismiss) {
    if (direct) memory().memory_returned();  // it was in use until now
    // One that was called back says nothing of the client: the next one does.
    return on_farewell(c, own && over && !direct);
  }
  const Cargo* cargo = options().records->find_cargo(c.key);
  const bool behind = cargo != nullptr && !cargo->stash.empty();
  const bool wanted = frame.phase == Phase::kHead || frame.phase == Phase::kBody;
  if (over && own) note(c, packet.error != 0 ? TraceEvent::kFailed : TraceEvent::kEnded);
  if (over) return own && wanted && !behind ? close(c) : go_on(c);
  c.header.received += packet.result;
  if (direct && !lent) {
    frame.received += static_cast<std::uint64_t>(packet.result);
    if (frame.received == frame.length) frame.phase = Phase::kWhole;
  } else if (behind || !wanted) {
    keep_for_later(c, std::move(bytes), false);
  } else {
    // With its buffer full there is most likely more to be had.
    take_in(c, std::move(bytes), lent && size == Chunk::find(packet.chunk)->block_size());
  }
  go_on(c);
}

/// What a client says that is sent away is of no interest, but that it is told why is.
void FramesThread::on_farewell(Connection& c, bool over) {
  Frame& frame = c.frame;
  if (frame.phase == Phase::kClosing) return;
  frame.peer_ended = frame.peer_ended || over;
  if (!frame.peer_ended) return receive(c);
  if (!frame.sends_reason) close(c);
}

void FramesThread::keep_for_later(Connection& c, Received bytes, bool in_front) {
  bytes.set_aside();
  c.header.stashed += bytes.size();
  std::deque<Received>& stash = options().records->cargo(c.key)->stash;
  stash.insert(in_front ? stash.begin() : stash.end(), std::move(bytes));
}

/// As much as can be taken now; the rest stays with the connection. `more`: the client has probably
/// sent what comes behind it.
void FramesThread::take_in(Connection& c, Received bytes, bool more) {
  const Frame& frame = c.frame;
  while (bytes.size() > 0 && (frame.phase == Phase::kHead || frame.phase == Phase::kBody)) {
    const std::size_t used = consume(c, bytes);
    if (used == 0) break;
    bytes.drop_front(used + (CP_PLANTED("a byte is dropped") && bytes.size() > used ? 1 : 0));
  }
  if (frame.phase == Phase::kWhole && options().pipelined > 1) gather(c, bytes, more);
  if (bytes.size() == 0 || frame.phase == Phase::kDismiss || frame.phase == Phase::kClosing) return;
  keep_for_later(c, std::move(bytes), true);
}

/// How many of the bytes were taken; 0: not now.
std::size_t FramesThread::consume(Connection& c, const Received& from) {
  Frame& frame = c.frame;
  const std::uint8_t* bytes = from.bytes();
  if (frame.began == 0) {
    frame.began = driver::milliseconds();
    frame.gives_up = 0;  // that was for idling
  }
  if (frame.phase == Phase::kHead) return read_head(c, bytes, from.size());
  if (!options().framing.delimited()) {
    const std::uint64_t left = frame.length - frame.received;
    const std::size_t used = keep(c, from, std::min<std::uint64_t>(left, from.size()));
    if (frame.received == frame.length) frame.phase = Phase::kWhole;
    return used;
  }
  const Framing::Progress before = frame.progress;
  bool found = false;
  const std::size_t wanted = options().framing.scan(frame.progress, bytes, from.size(), found);
  const std::uint64_t end = options().framing.delimiter_size();
  if (frame.received + wanted > options().max + end) {
    note(c, TraceEvent::kFailed);
    counters().too_large.fetch_add(1, std::memory_order_relaxed);
    dismiss(c, stage_.too_large_);
    return from.size();
  }
  const std::size_t used = keep(c, from, wanted);
  if (used < wanted) {
    // Looked at once more when there is room.
    frame.progress = before;
    found = false;
    if (used > 0) options().framing.scan(frame.progress, bytes, used, found);
  }
  if (found) {
    frame.length = frame.received - end;
    frame.phase = Phase::kWhole;
  }
  return used;
}

std::size_t FramesThread::read_head(Connection& c, const std::uint8_t* bytes, std::size_t size) {
  std::size_t used = 0;
  switch (options().framing.read_length(c.frame.progress, bytes, size, used)) {
    case Framing::Verdict::kMore:
      break;
    case Framing::Verdict::kMalformed:
      note(c, TraceEvent::kFailed);
      close(c);
      break;
    case Framing::Verdict::kDone:
      begin_body(c, c.frame.progress.number);
      break;
  }
  return used;
}

void FramesThread::begin_body(Connection& c, std::uint64_t length) {
  c.frame.progress = {};
  if (length > options().max) {
    note(c, TraceEvent::kFailed);
    counters().too_large.fetch_add(1, std::memory_order_relaxed);
    return dismiss(c, stage_.too_large_);
  }
  c.frame.length = length;
  c.frame.phase = length == 0 ? Phase::kWhole : Phase::kBody;
}

// ---- keeping ----------------------------------------------------------------------------------

/// Where the document is kept is decided when it has to be: in a file when it is too long for
/// memory, or there is none.
std::size_t FramesThread::keep(Connection& c, const Received& bytes, std::size_t size) {
  Frame& frame = c.frame;
  if (frame.error != 0) {
    frame.received += size;
    return size;
  }
  const std::uint64_t known = std::max(frame.length, frame.received + size);
  if (frame.file == 0 && options().spool_to_file && known > options().in_memory &&
      !move_to_file(c)) {
    return 0;
  }
  if (frame.file != 0) return keep_in_file(c, bytes, size);
  return keep_in_memory(c, bytes.bytes(), size);
}

std::size_t FramesThread::keep_in_memory(Connection& c, const std::uint8_t* bytes,
                                         std::size_t size) {
  Frame& frame = c.frame;
  if (frame.received + size > frame.capacity && !reserve(c, frame.received + size)) return 0;
  std::memcpy(address_of(frame.place) + frame.received, bytes, size);
  frame.received += size;
  return size;
}

/// Room for at least `wanted` bytes of the document; false when there is none now, or never will
/// be.
bool FramesThread::reserve(Connection& c, std::uint64_t wanted) {
  Frame& frame = c.frame;
  const BufferPool& pool = options().port->pool();
  std::uint64_t room = std::max(kFirstRoom, wanted * kRoomFactor);
  // A delimited document announces nothing: it grows by doubling.
  if (frame.length == 0) room = std::max({kFirstRoom, wanted, frame.capacity * 2});
  // All of a block is its own: it does not wait for one that is no larger.
  room = pool.block_bytes(room);
  if (frame.length > 0) {
    room = std::min(room, frame.length);
    // One that would not fit beside a smaller room of its own gets all of it at once.
    if (!pool.could_allocate(frame.length, room)) room = frame.length;
  }
  Place larger;
  if (options().spool_to_file) {
    if (!allocate(room, larger)) return move_to_file(c), false;
  } else if (!pool.could_allocate(room, frame.capacity)) {
    return lose(c, -ENOMEM), false;
  } else if (!allocate_or_wait(c, room, larger)) {
    return false;
  }
  move_into(c, larger, room);
  return true;
}

/// As soon as a document may have all of its room, and nobody waits for memory: the rest of it is
/// received straight into its place then, and not by way of receive buffers.
void FramesThread::grow_at_once(Connection& c) {
  Frame& frame = c.frame;
  if (frame.length == 0 || frame.received * kRoomFactor < frame.length) return;
  Place larger;
  if (memory().waits() || !allocate(frame.length, larger)) return;
  move_into(c, larger, frame.length);
}

void FramesThread::move_into(Connection& c, const Place& larger, std::uint64_t room) {
  Frame& frame = c.frame;
  const Place smaller = std::exchange(frame.place, larger);
  const bool had_room = std::exchange(frame.capacity, room) > 0;
  // Before the smaller room is free, which else would count as another's.
  if (frame.length > 0 && room >= frame.length) {
    settle(c);
  } else {
    frame.growing = true;
    memory().grows(c.key, room);
  }
  if (had_room) {
    std::memcpy(address_of(larger), address_of(smaller), frame.received);
    BufferPool::release(smaller);
  }
  memory().memory_returned();  // some may be left, and the smaller room is free
}

void FramesThread::settle(Connection& c) {
  if (!c.frame.growing) return;
  c.frame.growing = false;
  memory().settles(c.key);
}

/// All memory is that of documents which would want more: see MemoryQueue. Meanwhile this one may
/// have come to its end. What spools to files never waits, and so is never told this.
void FramesThread::on_give_up(Connection& c) {
  Frame& frame = c.frame;
  if ((frame.growing || frame.wants_memory) && memory().must_give_up()) {
    const bool wanted_memory = std::exchange(frame.wants_memory, false);
    if (wanted_memory) memory().leave(c.key);
    lose(c, -ENOMEM);
    memory().memory_returned();
    if (wanted_memory) go_on(c);
  }
  memory().notice_done();
}

bool FramesThread::move_to_file(Connection& c) {
  Frame& frame = c.frame;
  if (!claim_file(c, std::max(frame.length, frame.received))) return false;
  const driver::Result file = options().port->driver().temporary_file(options().directory.c_str());
  Thread::Association association;
  association.keyed = true;
  association.key = c.key;
  const std::int64_t handle =
      file < 0 ? file : thread_->adopt_file(file, driver::FileKind::kRegular, association);
  if (handle < 0) {
    lose(c, static_cast<driver::Result>(handle));
    return false;
  }
  frame.file = static_cast<HandleId>(handle);
  if (frame.capacity > 0) {
    const bool written =
        frame.received == 0 || write(c, frame.place, 0, static_cast<std::uint32_t>(frame.received));
    if (!written) return false;
    settle(c);
    BufferPool::release(frame.place);  // the write has it in use
    frame.place = {};
    frame.capacity = 0;
  }
  return true;
}

/// `size` bytes of the limit for files, or the document is lost as on a disk that is full. What has
/// announced its length has that from the beginning on; other documents ask for more than they have
/// come to, so that they seldom ask, where there is that much.
bool FramesThread::claim_file(Connection& c, std::uint64_t size) {
  Frame& frame = c.frame;
  if (size <= frame.in_files) return true;
  const std::uint64_t needed = size - frame.in_files;
  std::uint64_t more = needed;
  if (frame.length == 0) more = std::max(needed, std::min(kFileStep, options().max));
  Admission& admission = *stage_.admission_;
  if (!admission.take_files(more)) {
    more = needed;
    if (!admission.take_files(more)) return lose(c, -ENOSPC), false;
  }
  frame.in_files += more;
  return true;
}

std::size_t FramesThread::keep_in_file(Connection& c, const Received& bytes, std::size_t size) {
  Frame& frame = c.frame;
  if (frame.writes >= kWrites) return 0;
  if (!claim_file(c, frame.received + size)) return 0;
  Place place = bytes.place();
  const bool copied = place.chunk == driver::kNoChunk;
  if (copied && !copy_to_pool(bytes.bytes(), size, place)) return lose(c, -ENOMEM), 0;
  const bool written = write(c, place, frame.received, static_cast<std::uint32_t>(size));
  if (copied) BufferPool::release(place);  // the write has it in use
  if (!written) return 0;
  frame.received += size;
  return size;
}

/// The kernel reads from the pool only. What was set aside is no longer than a receive buffer, and
/// one of those will do when the limit allows no other memory.
bool FramesThread::copy_to_pool(const std::uint8_t* bytes, std::size_t size, Place& out) {
  BufferPool& pool = options().port->pool();
  if (!allocate(size, out)) {
    driver::Buffer buffer;
    if (size > pool.buffer_size() || !pool.take(buffer)) return false;
    out = {buffer.chunk, buffer.offset};
    BufferPool::own(out, size);
  }
  std::memcpy(address_of(out), bytes, size);
  return true;
}

/// False when the memory is not this stage's any more, and so the document is lost.
bool FramesThread::write(Connection& c, Place place, std::uint64_t offset, std::uint32_t length) {
  const auto at = static_cast<std::int64_t>(offset);
  if (!submit_with(PacketKind::kWrite, c.frame.file, place, length, at)) {
    return lose(c, -EFAULT), false;
  }
  ++c.frame.writes;
  return true;
}

void FramesThread::on_write(const PacketSlot& packet, Connection& c) {
  Frame& frame = c.frame;
  memory().memory_returned();
  if (packet.handle != frame.file) return;  // of a document that was given up
  --frame.writes;
  if (packet.error != 0) lose(c, packet.error);
  go_on(c);
}

/// The document can't be kept. The client is sent away; or what is missing is received all the
/// same, because the next document comes behind it, and the next stage is told.
void FramesThread::lose(Connection& c, driver::Result error) {
  note(c, TraceEvent::kFailed);
  counters().failed.fetch_add(1, std::memory_order_relaxed);
  if (stage_.failed_.length > 0) return dismiss(c, stage_.failed_);
  give_up_document(c);
  c.frame.error = error;
}

// ---- onwards ----------------------------------------------------------------------------------

/// What is there already comes first; then more is received, or the document is on its way.
void FramesThread::go_on(Connection& c) {
  Frame& frame = c.frame;
  while (frame.phase == Phase::kHead || frame.phase == Phase::kBody) {
    if (frame.wants_memory) return;
    Cargo* cargo = options().records->find_cargo(c.key);
    if (frame.idle() && cargo != nullptr && !cargo->messages.empty()) return visit(c);
    if (frame.idle() && stage_.ending_) return send_away(c, {});
    if (cargo == nullptr || cargo->stash.empty()) {
      set_deadline(c);
      return receive(c);
    }
    Received bytes = std::move(cargo->stash.front());
    cargo->stash.pop_front();
    c.header.stashed -= std::min(c.header.stashed, bytes.size());
    take_in(c, std::move(bytes), true);
    // The file is behind: its next write that ends goes on.
    if (!cargo->stash.empty() && frame.writes >= kWrites) return;
  }
  if (frame.phase == Phase::kWhole && !frame.queued) deliver(c, nullptr);
}

/// Hands the connection with its document to the next stage. Nothing of it may be touched after
/// that: it is another thread's.
void FramesThread::deliver(Connection& c, std::unique_ptr<Lease> lease) {
  Frame& frame = c.frame;
  RecordHeader& header = c.header;
  settle(c);
  header.deadline = 0;
  show_state(c);
  if (frame.writes > 0) return;  // with the last of them it goes on here
  const std::uint64_t in_memory = frame.capacity > 0 ? frame.received : 0;
  if (!lease) lease = stage_.admission_->take_place(c.key, in_memory, frame.turn);
  if (!lease) {
    frame.queued = true;
    return;
  }
  Cargo& cargo = *options().records->cargo(c.key);
  const auto count = static_cast<std::uint32_t>(std::max<std::size_t>(1, frame.parts.size()));
  std::uint64_t bytes = frame.parts.empty() ? frame.length : 0;
  for (const Part& part : frame.parts) bytes += part.length;
  lease->small = std::exchange(frame.small, 0);
  const std::uint64_t in_files = std::min(frame.in_files, frame.length);
  stage_.admission_->give_files(frame.in_files - in_files);
  lease->in_files = in_files;
  frame.in_files = 0;
  cargo.document.place = frame.place;
  cargo.document.file = frame.file;
  cargo.document.length = frame.length;
  cargo.document.parts = std::move(frame.parts);
  const bool delimited = options().framing.delimited() && frame.file == 0 && frame.error == 0;
  cargo.document.raw = delimited ? frame.received : 0;
  cargo.document.stage = options().stage;
  cargo.document.lease = std::move(lease);
  header.takes_turn = in_memory > Admission::kShort ? 1 : 0;
  const bool in_file = frame.file != 0;
  if (frame.error != 0) {
    header.document.memory = {driver::kNoChunk, static_cast<std::uint32_t>(-frame.error)};
  } else if (in_file) {
    header.document.file = frame.file;
  } else {
    header.document.memory = {frame.place.chunk, frame.place.offset};
  }
  header.document_length = static_cast<double>(frame.length);
  header.flags =
      static_cast<std::uint8_t>(header.flags | kRecordHasDocument |
                                (in_file && frame.error == 0 ? kRecordDocumentInFile : 0));
  header.number += count;
  counters().documents.fetch_add(count, std::memory_order_relaxed);
  counters().bytes.fetch_add(bytes, std::memory_order_relaxed);
  if (in_file) counters().spooled.fetch_add(1, std::memory_order_relaxed);
  if (go_to_next(c)) return;
  RecordTable::release_document(cargo, *thread_);
  close(c);
}

/// Hands the connection to the next stage for its messages, without a document; a receive may be in
/// flight.
void FramesThread::visit(Connection& c) {
  c.header.deadline = 0;
  if (!go_to_next(c)) close(c);
}

/// From now on the connection, with all of its record, is another thread's; unless false.
bool FramesThread::go_to_next(Connection& c) {
  RecordHeader& header = c.header;
  note(c, TraceEvent::kHandOff,
       (header.flags & kRecordHasDocument) != 0 ? header.document_length : 0);
  c.frame.renew();
  c.frame.phase = Phase::kAway;
  header.from = options().stage;
  header.stage = options().next_stage;
  header.state = kNoStage;
  header.since = driver::milliseconds();
  const HandleId handle = header.handle;
  constexpr auto kLater = Dispatcher::Tell::kLater;
  if (options().port->hand_off(handle, *options().next, c.key, &header.port, kLater) >= 0) {
    if (++handed_ == kHandedAtOnce) tell_next();
    return true;
  }
  header.stage = options().stage;
  return false;
}

/// A thread that is woken by the first of several connections may take the processor from this one,
/// and finds one where there could be many.
void FramesThread::tell_next() {
  if (CP_PLANTED("nobody is told of hand-offs")) return;
  if (std::exchange(handed_, 0) > 0) options().next->tell_of_arrivals();
}

}  // namespace cp::stage
