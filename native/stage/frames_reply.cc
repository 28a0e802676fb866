// Answering, sending away, and the end of a connection.
#include <algorithm>
#include <utility>

#include "driver/half_close.h"
#include "stage/frames_thread.h"
#include "system/switch_point.h"

namespace cp::stage {
namespace {

using Phase = Frame::Phase;

/// An answer goes out in parts, so that one that moves is told from one that stalls.
constexpr std::uint64_t kPart = 256 * 1024;
constexpr std::uint32_t kShutWrite = 1;  // SHUT_WR, SD_SEND
/// The tag of this stage's sends: other stages' have 0, and may be on their way still.
constexpr std::uint32_t kOwnSend = 1;

}  // namespace

/// The next stage is done with the document, and may have left an answer to it; or another one has
/// handed the connection over. A notice for one that is not away is of a hand-off that something
/// else was faster than: it goes with the connection, and may come here with its next return.
void FramesThread::on_return(Connection& c) {
  if (c.frame.phase != Phase::kAway && c.frame.phase != Phase::kNew) return;
  Cargo& cargo = *options().records->cargo(c.key);
  c.frame.renew();
  c.header.stage = options().stage;
  // Whichever stage began a receive: another one behind it would be one more at each return.
  c.header.flags = static_cast<std::uint8_t>(c.header.flags & kRecordReceiving);
  c.header.document.memory.chunk = driver::kNoChunk;
  c.header.document_length = 0;
  note(c, TraceEvent::kHandedOff);
  RecordTable::release_document(cargo, *thread_);
  if (c.header.handle == 0) return closed(c);  // a task, which has nothing to receive
  if (!cargo.reply.present || CP_PLANTED("an answer is left out")) return end_reply(c);
  c.frame.phase = Phase::kReply;
  go_on_replying(c);
}

void FramesThread::go_on_replying(Connection& c) {
  Reply& reply = options().records->cargo(c.key)->reply;
  set_deadline(c);
  if (c.frame.sent < reply.memory.length) {
    if (!send_memory(c, reply)) close(c);
    return;
  }
  const std::uint64_t of_file = c.frame.sent - reply.memory.length;
  if (reply.file_length > of_file) return send_file(c, reply);
  note(c, TraceEvent::kSent, static_cast<double>(c.frame.sent));
  counters().replies.fetch_add(1, std::memory_order_relaxed);
  end_reply(c);
}

bool FramesThread::send_memory(Connection& c, const Reply& reply) {
  Place place = reply.memory.place;
  place.offset += static_cast<std::uint32_t>(c.frame.sent);
  const std::uint64_t left = reply.memory.length - c.frame.sent;
  const bool more_follows = left <= kPart && reply.file_length > 0;
  return submit_with(PacketKind::kSend, c.header.handle, place, std::min(left, kPart), 0, nullptr,
                     kOwnSend, more_follows);
}

/// No memory is needed: the bytes go from the page cache.
void FramesThread::send_file(Connection& c, Reply& reply) {
  Frame& frame = c.frame;
  if (frame.reply_file == 0) {
    Thread::Association association;
    association.keyed = true;
    association.key = c.key;
    const std::int64_t handle =
        thread_->adopt_file(reply.file, driver::FileKind::kRegular, association);
    reply.file = driver::kNoDescriptor;
    if (handle < 0) return close(c);
    frame.reply_file = static_cast<HandleId>(handle);
  }
  const std::uint64_t of_file = frame.sent - reply.memory.length;
  Request* request = new_request();
  request->kind = PacketKind::kSendFile;
  request->tag = kOwnSend;
  request->source = frame.reply_file;
  request->offset = static_cast<std::int64_t>(reply.file_offset + of_file);
  request->length = std::min(reply.file_length - of_file, kPart);
  thread_->submit(request, c.header.handle);
}

void FramesThread::on_send(const PacketSlot& packet, Connection& c) {
  // What it had in use may have been given up meanwhile.
  if (c.frame.phase != Phase::kReply) memory().memory_returned();
  if (c.frame.phase == Phase::kClosing) return;
  if (packet.error != 0) {
    note(c, TraceEvent::kFailed);
    return close(c);
  }
  if (packet.tag != kOwnSend) return;  // what came before the answer
  if (c.frame.phase == Phase::kDismiss) {
    c.frame.sends_reason = false;
    if (c.frame.peer_ended) close(c);
    return;
  }
  if (c.frame.phase != Phase::kReply) return;
  // The file is shorter than it was said to be: the client was promised more.
  if (packet.result == 0) return close(c);
  c.frame.sent += static_cast<std::uint64_t>(packet.result);
  go_on_replying(c);
}

void FramesThread::end_reply(Connection& c) {
  Cargo& cargo = *options().records->cargo(c.key);
  const bool closes = cargo.reply.closes;
  RecordTable::release_reply(cargo);
  give_up_document(c);
  const std::uint32_t receive_tag = c.frame.receive_tag;
  const bool receives_own = c.frame.receives_own;
  c.frame.renew();
  c.frame.receive_tag = receive_tag;
  c.frame.receives_own = receives_own;
  c.frame.phase = between_documents();
  if (closes) return send_away(c, {});
  go_on(c);
}

// ---- the end ----------------------------------------------------------------------------------

void FramesThread::give_up_document(Connection& c) {
  Frame& frame = c.frame;
  const bool held = frame.capacity > 0;
  settle(c);  // before its memory is free, which else would count as another's
  if (frame.wants_memory) memory().leave(c.key);
  if (frame.queued) stage_.admission_->leave(frame.turn);
  if (frame.capacity > 0) BufferPool::release(frame.place);
  if (frame.file != 0) close_quietly(*thread_, frame.file);
  if (frame.reply_file != 0) close_quietly(*thread_, frame.reply_file);
  memory().small_gave(std::exchange(frame.small, 0));
  stage_.admission_->give_files(std::exchange(frame.in_files, 0));
  frame.parts.clear();
  frame.place = {};
  frame.capacity = 0;
  frame.file = frame.reply_file = 0;
  frame.writes = 0;
  frame.wants_memory = frame.queued = false;  // a notice on its way goes on to the next one
  if (held) memory().memory_returned();
}

void FramesThread::dismiss(Connection& c, const FramesStage::Farewell& why) {
  give_up_document(c);
  if (why.length == 0) return close(c);
  // What it has yet to send was to go into the document's memory, which others wait for.
  if (c.frame.direct) thread_->cancel_receives(c.header.handle);
  send_away(c, why);
}

/// Closing at once, with bytes of the client's not received, would reset the connection, and it
/// might never see why, nor the answers before: so what it still sends is read, for a while. Where
/// only a close tells the peer anything, it takes nothing away either: then the close follows what
/// is sent.
void FramesThread::send_away(Connection& c, const FramesStage::Farewell& why) {
  const bool hears = Port::with_descriptor(c.header.handle, [](driver::Descriptor connection) {
                       return driver::Result{driver::half_closes(connection) ? 1 : 0};
                     }) != 0;
  if (!hears && why.length == 0) return close(c);
  c.frame.phase = Phase::kDismiss;
  c.frame.peer_ended = c.frame.peer_ended || !hears;
  Request* shutdown = new_request();
  shutdown->kind = PacketKind::kShutdown;
  shutdown->quiet = true;
  shutdown->flags = kShutWrite;
  c.frame.sends_reason = why.length > 0;
  c.frame.lingers = why.length == 0;
  if (c.frame.sends_reason) {
    submit_with(PacketKind::kSend, c.header.handle, why.place, why.length, 0, shutdown, kOwnSend);
  } else {
    thread_->submit(shutdown, c.header.handle);
  }
  set_deadline(c);
  receive(c);
}

void FramesThread::close(Connection& c) {
  if (c.frame.phase == Phase::kClosing) return;
  give_up_document(c);
  c.frame.phase = Phase::kClosing;
  c.header.deadline = 0;
  show_state(c);
  submit(PacketKind::kClose, c.header.handle);
}

/// The program may have closed it, whatever it was in the middle of.
void FramesThread::closed(Connection& c) {
  note(c, TraceEvent::kClosed);
  give_up_document(c);
  stage_.frames_[RecordTable::index_of(c.key)].reset();
  if (!CP_PLANTED("a record is kept")) options().records->release(c.key, *thread_);
  memory().memory_returned();
}

}  // namespace cp::stage
