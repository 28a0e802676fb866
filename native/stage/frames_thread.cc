#include "stage/frames_thread.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <system_error>
#include <utility>

#include "driver/accept_errors.h"
#include "driver/errno.h"
#include "stage/cpus.h"
#include "stage/hand_off.h"
#include "system/thread.h"

namespace cp::stage {
namespace {

using Phase = Frame::Phase;

/// Messages that wait with one connection until it rests.
constexpr std::size_t kMostMessages = 65536;

/// Milliseconds in which a client's rate is measured.
constexpr double kWindow = 2000;
/// Milliseconds after which who waits for memory looks again: a block that an operation of the next
/// stage still used when the document went, or that the program kept, comes back without a word.
constexpr double kLookAgain = 250;
/// Of an answer: how far it is was not asked yet.
constexpr std::int64_t kNotAsked = std::numeric_limits<std::int64_t>::min();
/// Who can't have this much has to wait.
constexpr std::uint64_t kLittleMemory = 1u << 20;

/// Whether a document that asks for `size` bytes will want no more than a small one.
bool is_small(const Frame& frame, std::uint64_t size) {
  return std::max(size, frame.length) <= BufferPool::kSmallBlock;
}

/// That it receives nothing meanwhile is not its client's doing. One that keeps memory while it
/// waits, which others wait for, has to mind the time.
bool waits_its_turn(const Frame& frame) { return frame.wants_memory && frame.capacity == 0; }

/// Behind an answer, which closing at once might destroy, a client has this long even where
/// farewells have no time.
constexpr double kLinger = 2000;

/// Whether the next accept may succeed. EPERM: a firewall's rule, which names that peer.
bool goes_on_after(std::int32_t error) {
  return driver::concerns_one_connection(error) || error == -EPERM;
}

}  // namespace

driver::Result FramesThread::start() {
  try {
    system_thread_ = system::Thread([this] { main(); });
  } catch (const std::system_error&) {
    return -EAGAIN;
  }
  std::unique_lock lock(mutex_);
  while (start_result_ > 0) attached_.wait(lock);
  const driver::Result result = start_result_;
  lock.unlock();
  if (result < 0) system_thread_.join();
  return result;
}

void FramesThread::join() {
  if (system_thread_.joinable()) system_thread_.join();
}

/// The lane belongs to the thread that makes it.
void FramesThread::main() {
  bind_to_cpu();
  driver::Result error = 0;
  thread_ = options().port->attach(slots_.get(), error);
  {
    std::lock_guard lock(mutex_);
    start_result_ = thread_ == nullptr ? error : 0;
    attached_.notify_all();
  }
  if (thread_ == nullptr) return;
  run();
  thread_->detach(false);
}

void FramesThread::bind_to_cpu() const {
  const std::vector<std::uint32_t>& cpus = options().cpus;
  if (cpus.empty()) return;
  stage::bind_to_cpu(cpus[index_ % cpus.size()]);  // refused: it runs where it may
}

/// Until the port is closed. Each packet is claimed when its turn comes, so that threads which idle
/// can take what has not begun (rule D5).
void FramesThread::run() {
  for (;;) {
    const std::int64_t count = thread_->get(kBatchLimit, driver::kNever);
    if (count < 0) return;
    counters().packets.fetch_add(static_cast<std::uint64_t>(count), std::memory_order_relaxed);
    for (std::int64_t i = 0; i < count; ++i) {
      PacketSlot& slot = slots_[static_cast<std::size_t>(i)];
      const std::atomic_ref<std::uint32_t> state(slot.state);
      std::uint32_t expected = kSlotReady;
      if (!state.compare_exchange_strong(expected, kSlotClaimed)) continue;
      handle(slot);
      state.store(kSlotDone);
    }
    tell_next();
  }
}

// ---- packets ----------------------------------------------------------------------------------

/// One that has ended elsewhere has left its frame behind, with nothing in it.
Frame& FramesThread::frame_of(std::uint32_t key) {
  std::unique_ptr<Frame>& frame = stage_.frames_[RecordTable::index_of(key)];
  if (!frame) frame = std::make_unique<Frame>();
  if (frame->key != key) {
    *frame = {};
    frame->key = key;
  }
  return *frame;
}

Phase FramesThread::between_documents() const {
  return options().framing.delimited() ? Phase::kBody : Phase::kHead;
}

bool FramesThread::is_message(const PacketSlot& packet) {
  const auto kind = static_cast<PacketKind>(packet.kind);
  return kind == PacketKind::kPosted || kind == PacketKind::kMessage;
}

/// The hold of its bytes is the batch's, until that ends.
Packet FramesThread::message_of(const PacketSlot& packet) {
  Packet message;
  message.kind = static_cast<PacketKind>(packet.kind);
  message.key = packet.key;
  message.token = packet.token;
  message.result = packet.result;
  message.chunk = packet.chunk;
  message.offset = packet.offset;
  return message;
}

/// What still arrives for a connection that is gone or elsewhere: bytes, the end of a write, a
/// deadline. What it waited for is for the next one that waits, and so is the memory that the
/// operation had in use. A message follows its connection (rule Q2).
void FramesThread::on_stale(const PacketSlot& packet) {
  if (is_message(packet)) {
    const RecordHeader* header = options().records->header(packet.key);
    if (header != nullptr) stage::forward(message_of(packet), header->port);
    return;
  }
  if (packet.chunk != driver::kNoChunk) BufferPool::release({packet.chunk, packet.offset});
  if (packet.kind == static_cast<std::uint8_t>(PacketKind::kTimer)) return;
  if (packet.kind != static_cast<std::uint8_t>(PacketKind::kNotice)) {
    return memory().memory_returned();
  }
  const Notice notice = notice_of(packet);
  // A lease that ends at once.
  if (notice == Notice::kPlace) stage_.admission_->granted(packet.key);
  if (notice == Notice::kMemory || notice == Notice::kGiveUp) {
    memory().memory_returned();
    memory().notice_done();
  }
}

/// A connection is where its record's port says: a hand-off stores that before anybody is told.
void FramesThread::handle(const PacketSlot& packet) {
  if (packet.key == FramesStage::kListener) return on_listener(packet);
  RecordHeader* header = options().records->header(packet.key);
  if (header == nullptr || header->port != options().port->id()) return on_stale(packet);
  Connection c{packet.key, *header, frame_of(packet.key)};
  on_connection(packet, c);
}

void FramesThread::on_listener(const PacketSlot& packet) {
  const auto kind = static_cast<PacketKind>(packet.kind);
  if (kind == PacketKind::kNotice) {
    if (notice_of(packet) == Notice::kListen) return accept_on(packet.handle);
    return submit(PacketKind::kClose, packet.handle);
  }
  if (kind != PacketKind::kAccept) return;
  if (packet.error == 0 && packet.accepted != 0) on_accept(packet);
  if (goes_on_after(packet.error) && (packet.flags & kPacketMore) == 0) {
    accept_on(packet.handle);
  }
}

void FramesThread::accept_on(HandleId listener) {
  Request* request = new_request();
  request->kind = PacketKind::kAccept;
  request->multishot = true;
  thread_->submit(request, listener);
}

/// The listener's key is held here, not the new connection's: a program that closes everything may
/// have found it already.
void FramesThread::on_accept(const PacketSlot& packet) {
  counters().connections.fetch_add(1, std::memory_order_relaxed);
  Admission::tell(*options().port, packet.accepted_key, Notice::kBegin, thread_);
}

void FramesThread::begin(Connection& c) {
  if (c.frame.phase != Phase::kNew) return;  // a message was faster
  c.frame.phase = between_documents();
  c.frame.receives_own = true;
  c.header.stage = options().stage;
  c.header.since = driver::milliseconds();
  go_on(c);
}

void FramesThread::on_connection(const PacketSlot& packet, Connection& c) {
  const auto kind = static_cast<PacketKind>(packet.kind);
  if (kind == PacketKind::kReceive) return on_receive(packet, c);
  if (traits(kind).outgoing) return on_send(packet, c);
  if (kind == PacketKind::kWrite) return on_write(packet, c);
  if (is_message(packet)) return on_message(packet, c);
  if (kind == PacketKind::kTimer) return on_deadline(c);
  if (kind == PacketKind::kNotice) return on_notice(c, notice_of(packet));
  // Of a handle that it has no more: the connection has another by now.
  if (packet.handle != c.header.handle) return;
  if (kind == PacketKind::kHandOff) return on_return(c);
  if (kind == PacketKind::kClose) return closed(c);
}

/// The stage that handles documents is told: at once while the connection rests, else when it does.
void FramesThread::on_message(const PacketSlot& packet, Connection& c) {
  if (stage_.closing_) {
    if (c.frame.phase != Phase::kAway) close(c);
    return;
  }
  const bool number = packet.kind == static_cast<std::uint8_t>(PacketKind::kPosted);
  if (number) {
    note(c, TraceEvent::kPosted);
  } else {
    note(c, TraceEvent::kMessage, packet.result);
  }
  std::deque<Packet>& messages = options().records->cargo(c.key)->messages;
  if (messages.size() == kMostMessages) {
    counters().failed.fetch_add(1, std::memory_order_relaxed);
    return close(c);
  }
  const Packet message = message_of(packet);
  const auto length = static_cast<std::uint64_t>(message.result);
  if (message.shares() && !BufferPool::hold({message.chunk, message.offset}, length)) return;
  messages.push_back(message);
  if (c.frame.idle()) go_on(c);
}

void FramesThread::on_notice(Connection& c, Notice notice) {
  switch (notice) {
    case Notice::kBegin:
      return begin(c);
    case Notice::kEnd:
      if (c.frame.idle()) go_on(c);  // what has begun comes to its end
      return;
    case Notice::kPlace:
      return on_place(c);
    case Notice::kGiveUp:
      return on_give_up(c);
    case Notice::kMemory:
      return on_memory(c);
    case Notice::kListen:
    case Notice::kEndListening:
      return;  // of listeners
  }
}

void FramesThread::on_place(Connection& c) {
  std::unique_ptr<Lease> lease = stage_.admission_->granted(c.key);
  c.frame.queued = false;
  if (c.frame.phase == Phase::kWhole) deliver(c, std::move(lease));
}

void FramesThread::on_memory(Connection& c) {
  if (c.frame.wants_memory) {
    c.frame.wants_memory = false;
    c.frame.told = true;
    go_on(c);
  } else {
    memory().memory_returned();  // not needed any more: it is for the next one that waits
  }
  memory().notice_done();
}

void FramesThread::on_deadline(Connection& c) {
  double expired = kExpired;
  if (!c.header.deadline.compare_exchange_strong(expired, 0)) return;
  const Phase phase = c.frame.phase;
  if (phase == Phase::kNew || phase == Phase::kClosing) return;
  if (phase == Phase::kAway || phase == Phase::kWhole) return;
  if (c.frame.wants_memory) memory().memory_returned();
  const double now = driver::milliseconds();
  if (c.frame.gives_up == 0 || now < c.frame.gives_up) {
    return c.frame.window_end != 0 && now >= c.frame.window_end ? judge(c) : arm(c);
  }
  if (phase == Phase::kReply && answer_moves(c)) return set_deadline(c);
  note(c, TraceEvent::kTimeout);
  if (c.frame.idle() || phase == Phase::kDismiss) return close(c);
  counters().timed_out.fetch_add(1, std::memory_order_relaxed);
  if (phase == Phase::kReply) return close(c);
  dismiss(c, stage_.timed_out_);
}

/// Whether the client's system has taken something since this was asked last: a part of an answer
/// takes a slow client longer than it may stall. Nothing is known the first time, for which it is
/// given as long once more: asking when each answer begins would cost those that are read at once.
bool FramesThread::answer_moves(Connection& c) {
  const std::int64_t at = progress(c);
  const std::int64_t before = std::exchange(c.frame.answer_at, at);
  return at >= 0 && (before < 0 || at > before);
}

/// What the connection may take its time for depends on where it is.
double FramesThread::deadline_of(const Frame& frame) const {
  const FramesOptions& o = options();
  const auto in = [](double span) { return span > 0 ? driver::milliseconds() + span : 0; };
  if (frame.idle()) return in(o.idle_timeout);
  if (frame.phase == Phase::kDismiss) {
    const bool none = o.farewell_timeout == 0 && frame.lingers;
    return driver::milliseconds() + (none ? kLinger : o.farewell_timeout);
  }
  if (frame.phase == Phase::kReply) return in(o.stall_timeout);
  if (frame.phase != Phase::kHead && frame.phase != Phase::kBody) return 0;
  const double stall = waits_its_turn(frame) ? 0 : in(o.stall_timeout);
  const double whole = o.document_timeout > 0 ? frame.began + o.document_timeout : 0;
  return whole > 0 && (stall == 0 || whole < stall) ? whole : stall;
}

/// Something has moved, or another phase has begun.
void FramesThread::set_deadline(Connection& c) {
  show_state(c);
  c.frame.gives_up = deadline_of(c.frame);
  arm(c);
}

/// Its deadline, the end of the window in which its rate is measured, or the next look for memory,
/// whichever comes first. How far an answer is the system would have to be asked: that is for the
/// end of a first window, which most answers do not live to see.
void FramesThread::arm(Connection& c) {
  Frame& frame = c.frame;
  const bool in_document =
      (frame.phase == Phase::kHead || frame.phase == Phase::kBody) && !frame.idle();
  double deadline = frame.gives_up;
  // One that waits for memory can't show how fast it is.
  if (frame.wants_memory) frame.window_end = 0;
  if (options().min_rate > 0 && !frame.wants_memory &&
      (in_document || frame.phase == Phase::kReply)) {
    if (frame.window_end == 0) {
      frame.window_end = driver::milliseconds() + kWindow;
      frame.window_at = in_document ? progress(c) : kNotAsked;
    }
    if (deadline == 0 || frame.window_end < deadline) deadline = frame.window_end;
  }
  if (frame.wants_memory) {
    const double look = driver::milliseconds() + kLookAgain;
    if (deadline == 0 || look < deadline) deadline = look;
  }
  options().records->set_deadline(c.key, c.header, deadline);
}

/// A client that is slow is as good as any while nobody waits for what it keeps.
void FramesThread::judge(Connection& c) {
  const std::int64_t at = progress(c);
  if (c.frame.window_at == kNotAsked) {
    c.frame.window_end = driver::milliseconds() + kWindow;
    c.frame.window_at = at;
    return arm(c);
  }
  const auto moved = static_cast<double>(at - c.frame.window_at);
  const bool slow = at >= 0 && moved < options().min_rate * kWindow / 1000;
  if (slow && others_wait()) {
    note(c, TraceEvent::kTimeout);
    counters().timed_out.fetch_add(1, std::memory_order_relaxed);
    return c.frame.phase == Phase::kReply ? close(c) : dismiss(c, stage_.timed_out_);
  }
  c.frame.window_end = 0;
  arm(c);
}

/// Bytes of the document that have come, or of answers that the client's system has. Negative where
/// the system does not tell those: an answer then has its stall timeout alone.
std::int64_t FramesThread::progress(const Connection& c) const {
  if (c.frame.phase != Phase::kReply) return static_cast<std::int64_t>(c.frame.received);
  std::int64_t acknowledged = -1;
  Port::with_descriptor(c.header.handle, [&](driver::Descriptor socket) {
    acknowledged = driver::acknowledged_bytes(socket);
    return driver::Result{0};
  });
  return acknowledged;
}

/// For memory: documents here, or whoever else finds the limit reached.
bool FramesThread::others_wait() const {
  const MemoryQueue& memory = stage_.admission_->memory();
  const BufferPool &pool = options().port->pool(), &next = options().next->pool();
  return memory.waits() || !pool.within_limit(kLittleMemory) || !next.within_limit(kLittleMemory);
}

// ---- what others see --------------------------------------------------------------------------

void Frame::renew() {
  const std::uint32_t whose = key;
  const Admission::Turn last = turn;
  *this = {};
  key = whose;
  turn = last;
}

FrameState Frame::state() const {
  switch (phase) {
    case Phase::kWhole:
    case Phase::kAway:
      return FrameState::kWaiting;
    case Phase::kReply:
      return FrameState::kAnswering;
    case Phase::kDismiss:
      return FrameState::kDismissed;
    case Phase::kClosing:
      return FrameState::kClosing;
    default:
      return idle() ? FrameState::kIdle : FrameState::kReceiving;
  }
}

void FramesThread::show_state(Connection& c) {
  const auto state = static_cast<std::uint8_t>(c.frame.state());
  if (c.header.state == state) return;
  std::atomic_ref(c.header.state).store(state, std::memory_order_relaxed);  // others read it
  c.header.since = driver::milliseconds();
  note(c, TraceEvent::kEntered);
}

/// For the connection's trace, where the pipeline keeps one. This thread holds its key.
void FramesThread::note(const Connection& c, TraceEvent event, double bytes) const {
  Trace* trace = options().records->trace();
  if (trace == nullptr) return;
  const auto code = static_cast<std::uint8_t>(event);
  const auto thread = static_cast<std::uint8_t>(index_);
  trace->write(c.key, {0, bytes, options().stage, c.header.state, code, thread, 0});
}

// ---- operations -------------------------------------------------------------------------------

bool FramesThread::allocate(std::uint64_t size, Place& out) {
  return options().port->pool().allocate(size, 0, out);
}

/// False: `c` waits, and is told when some was given back. Where some was to be had there may be
/// more: the caller says `memory().memory_returned()` when it is seen what became of this.
bool FramesThread::allocate_or_wait(Connection& c, std::uint64_t size, Place& out) {
  Frame& frame = c.frame;
  const bool small = is_small(frame, size);
  const bool told = std::exchange(frame.told, false);
  auto allocation = BufferPool::Allocation::kLimit;
  if (told || memory().admits(size, small)) {
    allocation = options().port->pool().try_allocate(size, 0, out);
  }
  if (allocation == BufferPool::Allocation::kDone) {
    memory().small_gave(frame.small);
    frame.small = small ? options().port->pool().block_bytes(size) : 0;
    memory().small_took(frame.small);
    return true;
  }
  frame.wants_memory = true;
  const bool refused = allocation == BufferPool::Allocation::kRefused;
  memory().wait(c.key, size, small, told, told && refused);
  // Each look for memory comes here: what a holder has left of its time is not to begin anew.
  const double deadline = deadline_of(frame);
  const bool sooner = deadline != 0 && deadline < frame.gives_up;
  if (waits_its_turn(frame) || frame.gives_up == 0 || sooner) frame.gives_up = deadline;
  arm(c);
  return false;
}

void FramesThread::submit(PacketKind kind, HandleId handle, std::uint32_t tag) {
  Request* request = new_request();
  request->kind = kind;
  request->tag = tag;
  thread_->submit(request, handle);
}

/// `place` stays in use until the operation is over, whoever releases it meanwhile. False when it
/// is not there any more.
bool FramesThread::submit_with(PacketKind kind, HandleId handle, Place place, std::uint64_t length,
                               std::int64_t offset, Request* chain, std::uint32_t tag,
                               bool more_follows) {
  std::uint8_t* base = BufferPool::use(place, length);
  if (base == nullptr) return false;
  Request* request = new_request();
  request->kind = kind;
  request->memory.add({base, length}, place);
  request->total = length;
  request->offset = offset;
  request->chain = chain;
  request->tag = tag;
  request->more_follows = more_follows;
  thread_->submit(request, handle);
  return true;
}

}  // namespace cp::stage
