// Finishing: from a lane's completion to a packet, and to whatever the handle does next.
//
// A completion is settled under the handle's mutex. So its packet is queued before the handle's
// next operation of that direction can begin on any thread, which is what keeps packets of one
// stream in order (rules O7, D9), and a hand-off, which takes the same lock, falls before or after
// it, never between.
#include <algorithm>
#include <cstring>
#include <mutex>
#include <utility>

#include "driver/accept_errors.h"
#include "driver/errno.h"
#include "port/thread.h"
#include "port/unique_keys.h"
#include "system/switch_point.h"

namespace cp {
namespace {

/// Starving receives that are tried at one time.
constexpr std::size_t kTriedAtOnce = 32;

/// Whether the final result of the driver's multishot operation is not the last of the program's.
bool multishot_goes_on(const Request& request, std::int64_t result) {
  if (!request.multishot || request.kind == PacketKind::kTimer) return false;
  return request.kind == PacketKind::kAccept ? result >= 0 : result > 0;
}

bool receives(const Request& request) {
  return request.kind == PacketKind::kReceive || request.kind == PacketKind::kReceiveHandle;
}

bool continues(const Request& request) { return traits(request.kind).continues; }

/// A file that ends before everything asked for was sent.
bool at_end(const Request& request, std::int64_t result) {
  return request.kind == PacketKind::kSendFile && result == 0;
}

/// The kernel tells of a reset once, whichever operation asks first; a receive that comes later
/// gets 0, which would be an orderly end, and a shutdown ENOTCONN, as it does where both sides have
/// ended (rule O8). EPIPE of a send is no proof: it follows an orderly end, too.
std::int64_t honest_end(std::int64_t result, const Request& request, Handle& handle,
                        driver::Driver& driver) {
  // This side has ended both directions: see end_idle.
  const bool timed_out = handle.timed_out && request.end == Request::End::kTimedOut;
  const bool nothing = result < 0 || (result == 0 && receives(request));
  if (timed_out && nothing) return -ECANCELED;
  const bool end = receives(request) && result == 0;
  const bool gone = request.kind == PacketKind::kShutdown && result == -ENOTCONN;
  // What a close has brought about is not the peer's doing. It shuts the connection down while
  // another thread has an operation of it; the kernel resets it then when more arrives.
  const bool cut_off = request.end == Request::End::kCancelled && handle.closing && !handle.reset;
  if (cut_off && (end || result == -EPIPE || result == -ECONNRESET)) return -ECANCELED;
  if (result == -ECONNRESET) handle.reset = true;
  if (!end && !gone) return result;
  if (CP_PLANTED("a reset is an end")) return 0;
  if (!handle.reset) handle.reset = !driver.ended_in_order(handle.descriptor, handle.received);
  return handle.reset ? -ECONNRESET : 0;
}

/// lib/handles/file-status.ts reads these: integers of 64 bits in this order, times in nanoseconds.
void report_status(Request& request) {
  const driver::FileStatus& s = *request.status;
  const auto plain = [](std::uint64_t value) { return static_cast<std::int64_t>(value); };
  const std::int64_t values[] = {plain(s.size),  plain(s.blocks), plain(s.inode), plain(s.device),
                                 plain(s.links), s.mode,          s.uid,          s.gid,
                                 s.block_size,   s.accessed,      s.modified,     s.changed,
                                 s.created};
  if (request.memory.empty() || request.memory[0].length < sizeof values) return;
  std::memcpy(request.memory[0].base, values, sizeof values);
}

}  // namespace

void Thread::settle_all(const driver::Completion* completions, std::size_t count) {
  if (count == 0) return;
  port_.dispatcher().begin_reap(*carrier_);
  for (std::size_t i = 0; i < count; ++i) {
    const Request& request = *static_cast<Request*>(completions[i].operation);
    Handle* handle = request.handle;
    std::unique_lock<system::Mutex> lock;
    if (handle != nullptr) lock = std::unique_lock(handle->mutex);
    settle(completions[i], handle, destination(request, handle));
  }
}

/// The port where the answer is taken. The handle is locked.
Port& Thread::destination(const Request& request, const Handle* handle) const {
  const bool of_owner = request.awaited || handle == nullptr;
  if (of_owner && request.owner != nullptr) return request.owner->port_;
  Port* port = handle != nullptr ? handle->port.load() : nullptr;
  return port != nullptr ? *port : port_;
}

void Thread::settle(driver::Completion completion, Handle* handle, Port& port) {
  Request* request = static_cast<Request*>(completion.operation);
  if (handle == nullptr) {
    deliver(completion, false, nullptr, port);
    leave(request);
    give_up_memory(request);
    end_life(request);
    return;
  }
  if (receives(*request) && completion.result > 0) {
    const auto bytes = static_cast<std::uint64_t>(completion.result);
    handle->count_received(bytes);
    handle->long_in_a_row =
        driver::long_in_a_row_after(handle->long_in_a_row, bytes, completion.more_data);
  }
  if (request->sends() && completion.result > 0) {
    handle->count_sent(static_cast<std::uint64_t>(completion.result));
  }
  // Whoever hears that it is closed finds it counted no more.
  if (request->kind == PacketKind::kClose) handle->leave_listener();
  const bool turned_away = turns_away(completion, *handle, port);
  if (completion.more) {
    if (turned_away) return;
    deliver(completion, true, handle, port);
    return;
  }
  completion.result = honest_end(completion.result, *request, *handle, port_.driver());
  if (request->end != Request::End::kNatural && multishot_goes_on(*request, completion.result)) {
    // The driver ended it with a result before it heard that it was to end.
    deliver(completion, true, handle, port);
    completion = driver::completion_of(request, -ECANCELED);
  }
  if (goes_on(completion, request, *handle, port)) return;
  // A part of a transfer that was ended early is no success: see deliver.
  const bool in_part =
      continues(*request) && !at_end(*request, completion.result) &&
      request->done < request->total &&
      request->done + static_cast<std::uint64_t>(std::max<std::int64_t>(0, completion.result)) <
          request->total;
  const bool succeeded = completion.result >= 0 && !in_part;
  if (request->kind == PacketKind::kOpen || request->kind == PacketKind::kConnect) {
    opened(completion, *handle);
  }
  if (request->kind == PacketKind::kStat && succeeded) report_status(*request);
  deliver(completion, false, handle, port);
  if (CP_PLANTED("two final packets") && request->end != Request::End::kNatural) {
    deliver(completion, false, handle, port);
  }
  finish(request, *handle, succeeded, port);
}

/// A connection beyond what the listener may have: closed at once, and the accept goes on as one
/// that a signal has interrupted.
bool Thread::turns_away(driver::Completion& completion, const Handle& listener, Port& port) {
  const auto* request = static_cast<const Request*>(completion.operation);
  if (request->kind != PacketKind::kAccept || completion.result < 0) return false;
  if (!listener.connections->full()) return false;
  port.count_refused();
  port_.driver().discard(completion.result);  // the peer hears of it: counted by then
  completion.result = -EINTR;
  return true;
}

/// Whether the operation is not over although the driver is done with it for now.
bool Thread::goes_on(const driver::Completion& completion, Request* request, Handle& handle,
                     Port& port) {
  const std::int64_t result = completion.result;
  if (request->kind == PacketKind::kReceive && result > 0) {
    handle.likely_empty = !completion.more_data;
    request->likely_empty = handle.likely_empty;
    request->long_in_a_row = handle.long_in_a_row;
  }
  if (request->end != Request::End::kNatural) return false;
  if (request->moving || request->pausing) return moves_on(completion, request, handle, port);
  if (request->state == Request::State::kEnded) return false;
  if (result == -EINTR) {
    to_start_again(request);
    return true;
  }
  if (continues(*request) && result > 0 && continue_transfer(request, result)) return true;
  if (request->kind == PacketKind::kReceive && result == -ENOBUFS && request->slices == nullptr) {
    request->state = Request::State::kStarved;
    starved_.push_back(request);
    return true;
  }
  if (request->kind == PacketKind::kAccept && driver::exhausted(result)) {
    request->state = Request::State::kPaused;
    paused_.push_back(request);
    retry_paused_at_ = std::min(retry_paused_at_, driver::now() + driver::kPauseAfterExhaustion);
    return true;
  }
  // The kernel ends a multishot operation when it sees fit; the program's goes on.
  if (!multishot_goes_on(*request, result)) return false;
  deliver(completion, true, &handle, port);
  to_start_again(request);
  return true;
}

void Thread::to_start_again(Request* request) {
  if (carrier_ != this) {
    leave(request);
    return take_along(request);
  }
  request->state = Request::State::kStarted;
  again_.push_back(request);
}

/// A transfer the kernel took only part of (rule O7): true when the rest was submitted.
bool Thread::continue_transfer(Request* request, std::int64_t bytes) {
  if (!advance_transfer(request, bytes)) return false;
  to_start_again(request);
  return true;
}

/// Whether something is left to be sent or written after these bytes.
bool Thread::advance_transfer(Request* request, std::int64_t bytes) {
  request->done += static_cast<std::uint64_t>(bytes);
  if (request->done >= request->total) return false;
  if (request->kind == PacketKind::kSend || request->kind == PacketKind::kSendHandle) {
    request->queued -= static_cast<std::uint64_t>(bytes);
    request->handle->outgoing->subtract(static_cast<std::uint64_t>(bytes));
  }
  // They have gone with the first byte.
  if (request->kind == PacketKind::kSendHandle) close_passed(*request);
  if (request->kind == PacketKind::kSendFile) {
    request->offset += bytes;
    request->length -= static_cast<std::uint64_t>(bytes);
    return true;
  }
  auto left = static_cast<std::size_t>(bytes);
  std::size_t first = 0;
  while (left >= request->memory[first].length) left -= request->memory[first++].length;
  request->memory.drop(first);
  driver::Slice& slice = request->memory[0];
  slice.base = static_cast<std::uint8_t*>(slice.base) + left;
  slice.length -= left;
  request->slices = request->memory.data();
  request->slice_count = static_cast<std::uint32_t>(request->memory.size());
  if (!request->stream) request->offset += bytes;
  return true;
}

/// An operation that was stopped and has done a part or nothing yet: this thread leaves, and the
/// rest is for a thread that stays; or it is to receive nothing for a while. False when it is over
/// all the same.
bool Thread::moves_on(const driver::Completion& completion, Request* request, Handle& handle,
                      Port& port) {
  const std::int64_t result = completion.result;
  const bool in_part = continues(*request) && result > 0 && advance_transfer(request, result);
  const bool nothing_yet = result == -ECANCELED || result == -EINTR || result == -EAGAIN ||
                           result == -ENOBUFS ||
                           (request->kind == PacketKind::kAccept && driver::exhausted(result));
  const bool goes_on_still = multishot_goes_on(*request, result);
  if (!in_part && !nothing_yet && !goes_on_still) return false;
  if (goes_on_still) deliver(completion, true, &handle, port);
  leave(request);
  request->moving = request->pausing = false;
  StreamQueue* direction = handle.queue_of(*request);
  if (direction == nullptr) {
    carry_out(request, port);
    return true;
  }
  request->runner = nullptr;
  request->state = Request::State::kQueued;
  direction->active = nullptr;
  direction->push_front(request);
  start_next(*direction, handle, port);
  return true;
}

// ---- packets ----------------------------------------------------------------------------------

void Thread::deliver(const driver::Completion& completion, bool more, Handle* handle, Port& port) {
  Request* request = static_cast<Request*>(completion.operation);
  Packet packet;
  packet.kind = request->kind;
  packet.handle = request->handle_id;
  packet.key = handle != nullptr ? handle->key.load() : request->key;
  packet.token = request->token;
  packet.tag = request->tag;
  if (more) packet.flags |= kPacketMore;
  std::int64_t result = completion.result;
  if (continues(*request) && result > 0 && request->done < request->total) {
    // Ended early after a part: not every byte is with the kernel (rule O7).
    request->done += static_cast<std::uint64_t>(result);
    if (request->done < request->total) result = -ECANCELED;
  }
  const bool not_a_result = result == -ENOBUFS || result == -EINTR || result == -EAGAIN;
  if (request->end != Request::End::kNatural && not_a_result) result = -ECANCELED;
  if (result == -ECANCELED && request->end == Request::End::kTimedOut) result = kErrorTimedOut;
  if (result < 0) {
    packet.error = static_cast<std::int32_t>(result);
    packet.result = static_cast<double>(request->done);
  } else if (request->kind == PacketKind::kAccept && handle != nullptr) {
    accept(packet, completion.result, request, *handle);
  } else if (continues(*request)) {
    packet.result = static_cast<double>(request->done);
  } else if (request->kind != PacketKind::kOpen && request->kind != PacketKind::kConnect) {
    packet.result = static_cast<double>(result);
  }
  if (completion.buffer.chunk != driver::kNoChunk && result >= 0) {
    packet.chunk = completion.buffer.chunk;
    packet.offset = completion.buffer.offset;
    BufferPool::own({packet.chunk, packet.offset}, static_cast<std::uint64_t>(result));
  }
  if (packet.error == 0 && request->kind == PacketKind::kReceiveHandle) hand_over(*request);
  completed_.add();
  route(packet, request, port);
}

/// To the thread that awaits it, the thread it is bound to, or whoever comes.
void Thread::route(Packet& packet, Request* request, Port& port) {
  const bool holds_nothing = packet.chunk == driver::kNoChunk && packet.accepted == 0;
  if (request->quiet && packet.error == 0 && holds_nothing) return;
  Thread* owner = request->owner;
  const bool owner_here = owner != nullptr && &owner->port_ == &port && !owner->gone();
  if (request->silent || (request->awaited && !owner_here)) {
    orphans_.push_back(packet);
    return;
  }
  if (request->awaited) {
    packet.flags |= kPacketAwaited;
    packet.target = owner;
  } else if (port.options().affine && owner_here) {
    packet.target = owner;
  }
  if (packet.target == nullptr) fruitful_ = true;
  // Who is here takes from this port next; another port's threads have to be woken.
  const bool comes = !detaching_ && &port == &port_;
  if (!port.dispatcher().push(packet, comes ? carrier_ : nullptr)) orphans_.push_back(packet);
}

/// The connection becomes a handle of the listener's port; without one it is closed again.
void Thread::accept(Packet& packet, driver::Descriptor descriptor, Request* request,
                    Handle& listener) {
  Port& port = *listener.port.load();
  const bool keyed = listener.accept_keyed;
  HandleId name = 0;
  Handle* handle = port.create_handle(HandleKind::kSocket, keyed, 0, request->owner, name);
  if (handle == nullptr) {
    port_.driver().discard(descriptor);
    packet.error = -EMFILE;
    return;
  }
  KeySource* source = keyed ? port.key_source_.load() : nullptr;
  handle->key = source != nullptr ? source->key_for(name, port.id()) : unique_key();
  if (handle->key == 0) {
    port.count_refused();
    port_.driver().discard(descriptor);  // the peer hears of it: counted by then
    HandleTable::instance().take_back(handle);
    return;
  }
  Port::adopt(*handle, port_.driver(), descriptor);
  handle->outgoing->mark.store(listener.outgoing->mark.load());
  handle->messages = listener.messages;
  handle->count_among(listener.connections);
  packet.accepted = name;
  packet.accepted_key = handle->key;
  Port::publish(*handle, name);
  if (listener.idle_timeout > 0) Port::give_idle_timeout(*handle, listener.idle_timeout);
}

void Thread::opened(const driver::Completion& completion, Handle& handle) {
  if (completion.result < 0) return;
  Request* request = static_cast<Request*>(completion.operation);
  Port::adopt(handle, port_.driver(), completion.result);
  if (request->kind == PacketKind::kConnect) handle.messages = request->target->messages;
  if (request->kind != PacketKind::kOpen) return;
  handle.file_kind = request->file_kind;
  handle.pollable = request->file_kind == driver::FileKind::kStream;
  handle.direct = (request->flags & driver::kOpenDirect) != 0;
  handle.append = (request->flags & driver::kOpenAppend) != 0;
  // Threads that meet it in packets have not opened it.
  if (handle.keyed) handle.path = std::make_unique<std::string>(request->details->path);
}

// ---- what follows -----------------------------------------------------------------------------

void Thread::finish(Request* request, Handle& handle, bool succeeded, Port& port) {
  forget_timer(request);
  if (request->state != Request::State::kQueued && request->runner == this) leave(request);
  give_up_memory(request);
  if (request->kind == PacketKind::kClose) {
    end_life(request);
    HandleTable::instance().free(&handle);
    return;
  }
  const PacketKind kind = request->kind;
  handle.unlink(request);
  if (request->sends()) tell_drained(handle, *request, port);
  continue_chain(request, handle, succeeded, port);
  advance(request, handle, port);
  const bool opening = kind == PacketKind::kOpen || kind == PacketKind::kConnect;
  const bool unheard = opening && (request->owner == nullptr || request->owner->gone());
  end_life(request);
  if (opening && !succeeded && handle.close == nullptr) {
    HandleTable::instance().free(&handle);
    return;
  }
  // Opened for a thread that has gone: nobody knows the handle.
  if (unheard && !handle.closing) handle.close_unasked();
  if (handle.close != nullptr && handle.in_flight == 0) start_close(handle);
}

/// What waited for most of what was queued to be out hears of it: handles that are fed to this one,
/// and the program, where it was told to wait (rule M4).
void Thread::tell_drained(Handle& handle, const Request& request, Port& port) {
  if (!handle.wants_drain && handle.feeders.empty()) return;
  if (!handle.outgoing->drained(port.pool())) return;
  to_receive_.insert(to_receive_.end(), handle.feeders.begin(), handle.feeders.end());
  handle.feeders.clear();
  const bool wanted = std::exchange(handle.wants_drain, false);
  if (!wanted || !handle.keyed || handle.closing || port.dispatcher().drained()) return;
  Packet packet;
  packet.kind = PacketKind::kDrain;
  packet.handle = request.handle_id;
  packet.key = handle.key;
  const bool owner_here =
      request.owner != nullptr && &request.owner->port_ == &port && !request.owner->gone();
  if (port.options().affine && owner_here) packet.target = request.owner;
  port.dispatcher().push(packet, !detaching_ && &port == &port_ ? carrier_ : nullptr);
}

/// The descriptor may have come after the close was asked for.
void Thread::start_close(Handle& handle) {
  handle.end_sharing();
  prepare(handle.close, handle);
  if (handle.close->keeps && give_descriptor_back(handle)) return;
  const bool of_file = handle.kind == HandleKind::kListener && handle.path != nullptr;
  if (of_file) port_.driver().remove_socket_file(*handle.path);
  // The close is about to give it back to the system, and who asks the handle meanwhile must not be
  // told of what gets it next.
  handle.descriptor = driver::kNoDescriptor;
  run_on(carrier_, handle.close);
}

/// The result is one more, since 0 is a descriptor, too, and that of a close that closes.
bool Thread::give_descriptor_back(Handle& handle) {
  if (handle.descriptor == driver::kNoDescriptor) return false;
  const driver::Descriptor open = std::exchange(handle.descriptor, driver::kNoDescriptor);
  synthetic_.push_back({handle.close, open + 1, false, false, {}});
  return true;
}

/// What the operation had in use.
void Thread::give_up_memory(Request* request) {
  const bool keeps = CP_PLANTED("memory stays in use") && request->end == Request::End::kCancelled;
  if (!keeps) request->memory.for_each_place(BufferPool::unuse);
  const driver::Descriptor file = SharedFile::let_go(std::exchange(request->shared, nullptr));
  if (file != driver::kNoDescriptor) close_shared(file);
  close_passed(*request);
}

/// Duplicates that were sent or are not sent any more, and what came for nobody.
void Thread::close_passed(Request& request) {
  if (request.details == nullptr || request.details->parcel == nullptr) return;
  std::vector<driver::Descriptor> numbers;
  numbers.swap(request.details->parcel->passed.numbers);
  for (const driver::Descriptor descriptor : numbers) close_shared(descriptor);
}

/// A descriptor that no handle has. Closing may wait for a disk: it is an operation.
void Thread::close_shared(driver::Descriptor file) {
  Request* close = new_close();
  own(close);
  close->descriptor = file;
  close->silent = true;
  run_on(this, close);
}

/// Takes a request off the list of those this thread runs.
void Thread::leave(Request* request) {
  const std::size_t i = request->runner_index;
  if (i >= running_.size() || running_[i] != request) return;
  running_[i] = running_.back();
  running_[i]->runner_index = static_cast<std::uint32_t>(i);
  running_.pop_back();
}

/// The next request of the same direction, whoever submitted it, starts here: this thread is awake.
void Thread::advance(Request* request, Handle& handle, Port& port) {
  StreamQueue* direction = handle.queue_of(*request);
  if (direction == nullptr || direction->active != request) return;
  direction->active = nullptr;
  start_next(*direction, handle, port);
}

/// What waits in a direction with nothing under way. One that has been ended can end here.
void Thread::start_next(StreamQueue& direction, Handle& handle, Port& port) {
  if (direction.first == nullptr || direction.holds > 0) return;
  const bool ended = direction.first->end != Request::End::kNatural;
  Port* home = handle.port.load();
  if (detaching_ && !ended && home != nullptr) return start_elsewhere(direction, *home);
  resume(direction);
}

/// Where no thread is, one may be on its way: the requests wait for it, or for a hand-off to
/// another port. Dropped, they would leave a gap in a stream that goes on. The members are locked,
/// so a thread that comes either is found here or finds them, and one that is found is still there
/// to read what it is sent.
void Thread::start_elsewhere(StreamQueue& direction, Port& port) {
  const Members::Lock lock = port.dispatcher().members().lock();
  Thread* runner = any_runner(*direction.first, port);
  if (runner == nullptr) {
    port.any_stranded_.store(true);
    return;
  }
  direction.active = direction.pop();
  runner->send_start(direction.active);
}

/// The handle is locked.
void Thread::start_stranded(Handle& handle, Port& port) {
  if (handle.in.stranded()) start_elsewhere(handle.in, port);
  if (handle.out.stranded()) start_elsewhere(handle.out, port);
}

void Thread::continue_chain(Request* request, Handle& handle, bool succeeded, Port& port) {
  Request* next = request->chain;
  request->chain = nullptr;
  if (next == nullptr) return;
  if (!succeeded || next->end != Request::End::kNatural || handle.closing) {
    synthetic_.push_back({next, -ECANCELED, false, false, {}});
    return;
  }
  next->chained = false;
  StreamQueue* direction = handle.queue_of(*next);
  if (direction == nullptr) return carry_out(next, port);
  if (direction->active == request) return direction->push_front(next);  // before later ones: O7
  direction->push(next);
  if (direction->active == nullptr) start_next(*direction, handle, port);
}

/// A thread on its way out starts nothing new: its own threads' work goes to another of the port,
/// to one that takes packets if there is one. Whoever takes none may not look for a long time.
void Thread::carry_out(Request* request, Port& port) {
  if (!detaching_) return run_on(carrier_, request);
  const Members::Lock lock = port.dispatcher().members().lock();
  run_on(any_runner(*request, port), request);
}

/// The port's members are locked. Null when no thread is attached.
Thread* Thread::any_runner(const Request& request, Port& port) {
  Thread* chosen = nullptr;
  bool is_owner = false;
  port.dispatcher().members().for_each([&](Consumer& consumer) {
    auto* thread = static_cast<Thread*>(&consumer);
    if (is_owner) return;
    is_owner = thread == request.owner;
    const bool better = chosen == nullptr || (thread->wants_any() && !chosen->wants_any());
    if (is_owner || better) chosen = thread;
  });
  return chosen;
}

/// What could not be done under the locks. Starting comes before ending, so that a lane is never
/// asked to cancel what it does not have yet.
void Thread::after_settling() {
  while (!to_start_.empty() || !again_.empty() || !to_end_.empty() || !to_receive_.empty() ||
         !orphans_.empty()) {
    std::vector<Request*> start_now, again, end_now;
    std::vector<HandleId> receive_now;
    std::vector<Packet> orphans;
    start_now.swap(to_start_);
    again.swap(again_);
    end_now.swap(to_end_);
    receive_now.swap(to_receive_);
    orphans.swap(orphans_);
    for (Request* request : start_now) start(request);
    for (Request* request : again) lane_->submit(request);
    for (Request* request : end_now) end_started(request);
    for (const HandleId handle : receive_now) let_receive(handle);
    Port::dispose(orphans, port_.driver());
  }
}

// ---- waiting for buffers and descriptors ------------------------------------------------------

/// On the list of the starving before looking once more: see Port::wake_starving. A few at a time,
/// those first that have waited longest: where buffers come back one by one, most of them would
/// only starve again. Whether there is something left for the others is seen when these have been
/// tried, because who has nothing to receive takes no buffer.
void Thread::retry_starved() {
  if (!CP_PLANTED("nobody looks for those who starve")) port_.add_starving(*this);
  if (!lane_->refill()) return;
  const auto end =
      starved_.begin() + static_cast<std::ptrdiff_t>(std::min(starved_.size(), kTriedAtOnce));
  const std::vector<Request*> tried(starved_.begin(), end);
  starved_.erase(starved_.begin(), end);
  if (starved_.empty()) {
    port_.remove_starving(*this);
  } else {
    wake();
  }
  for (Request* request : tried) try_again(request);
}

/// No locks are held, and the request is this thread's.
void Thread::try_again(Request* request) {
  if (carrier_ != this) {
    std::lock_guard lock(request->handle->mutex);
    leave(request);
    return take_along(request);
  }
  request->state = Request::State::kStarted;
  lane_->submit(request);
}

void Thread::retry_paused() {
  if (driver::now() < retry_paused_at_) return;
  retry_paused_at_ = driver::kNever;
  std::vector<Request*> paused;
  paused.swap(paused_);
  for (Request* request : paused) try_again(request);
}

}  // namespace cp
