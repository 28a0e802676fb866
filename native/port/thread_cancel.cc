// Ending operations before their time: cancel, close, timeouts, a thread that leaves.
#include <algorithm>
#include <cassert>
#include <utility>

#include "driver/errno.h"
#include "port/idle_clock.h"
#include "port/thread.h"
#include "system/switch_point.h"

namespace cp {
namespace {

/// Others may have sent behind it: left out, what they sent would follow a gap in the stream.
bool outlives(const Request& request, const Handle& handle) {
  return request.sends() && handle.keyed && !handle.closing;
}

}  // namespace

/// The handle's mutex is held. Whoever has the request ends it: this thread after the lock, another
/// when it reads its inbox; one that waits in a queue of the handle ends at once.
void Thread::end_early(Request* request, Request::End reason) {
  if (request->end != Request::End::kNatural) return;
  request->end = reason;
  if (request->state == Request::State::kQueued) {
    StreamQueue* direction = request->handle->queue_of(*request);
    const bool waited = direction != nullptr && direction->remove(request);
    // A request further down a chain ends with the request before it.
    if (waited) synthetic_.push_back({request, -ECANCELED, false, false, {}});
    return;
  }
  Thread* runner = request->runner;
  if (runner == this) {
    to_end_.push_back(request);
  } else {
    runner->send({Message::Kind::kCancel, request, request->generation, nullptr});
  }
}

/// No locks are held, and the request is this thread's.
void Thread::end_started(Request* request) {
  switch (request->state) {
    case Request::State::kStarted:
      lane_->cancel(request);
      return;
    case Request::State::kStarved:
      std::erase(starved_, request);
      if (starved_.empty()) port_.remove_starving(*this);
      break;
    case Request::State::kPaused:
      std::erase(paused_, request);
      if (paused_.empty()) retry_paused_at_ = driver::kNever;
      break;
    case Request::State::kTiming:
      stop_timing(request);
      break;
    default:
      return;
  }
  request->state = Request::State::kEnded;
  synthetic_.push_back({request, -ECANCELED, false, false, {}});
}

/// It may have gone back to its queue, and be under way anew, since this thread was asked.
void Thread::pause(Request* request) {
  {
    std::lock_guard lock(request->handle->mutex);
    if (!request->pausing) return;
  }
  end_started(request);
}

void Thread::cancel_token(std::uint32_t token) {
  std::lock_guard lane(lane_lock_);
  cancel_token_held(token);
}

void Thread::cancel_token_held(std::uint32_t token) {
  if (token >= by_token_.size() || by_token_[token].handle == nullptr) return;
  const Awaited entry = by_token_[token];
  {
    std::lock_guard lock(entry.handle->mutex);
    if (entry.request->generation != entry.generation) return;
    end_early(entry.request, Request::End::kCancelled);
  }
  after_settling();
}

void Thread::cancel_handle(HandleId id) {
  std::lock_guard lane(lane_lock_);
  cancel_handle_held(id);
}

void Thread::cancel_handle_held(HandleId id) {
  cancel_requests(id, [](const Request&) { return true; });
}

void Thread::cancel_receives(HandleId id) {
  std::lock_guard lane(lane_lock_);
  cancel_requests(id, [](const Request& r) { return r.kind == PacketKind::kReceive; });
}

template <typename Which>
void Thread::cancel_requests(HandleId id, Which which) {
  Handle* handle = HandleTable::instance().find(id);
  if (handle == nullptr) return;
  {
    std::lock_guard lock(handle->mutex);
    if (handle->id != id) return;
    if (handle->keyed && handle->port != &port_) return;  // another port's to cancel (rule A3)
    for (Request* r = handle->requests; r != nullptr;) {
      Request* next = r->handle_next;
      if (which(*r)) end_early(r, Request::End::kCancelled);
      r = next;
    }
  }
  after_settling();
}

// ---- deadlines --------------------------------------------------------------------------------

void Thread::fire_timers() {
  if (timers_.empty()) return;
  const std::int64_t now = driver::now();
  while (!timers_.empty() && timers_.top()->deadline <= now) {
    const TimerNode expired = *timers_.top();
    timers_.remove(timers_.top());
    fire(expired, now);
  }
  after_settling();
}

/// The request may have ended on another thread meanwhile: its generation changes under the mutex
/// of the handle it belonged to.
void Thread::fire(const TimerNode& expired, std::int64_t now) {
  Request* request = expired.request;
  std::lock_guard lock(expired.handle->mutex);
  if (request->generation != expired.generation) return;
  (expired.firing ? request->firing : request->timer) = nullptr;
  if (!expired.firing && request->stall) {
    const std::int64_t before = std::exchange(request->offset, progress(*expired.handle));
    if (before != request->offset) return arm_timeout(request);
  }
  if (!expired.firing) return end_early(request, Request::End::kTimedOut);
  if (request->state != Request::State::kTiming || request->end != Request::End::kNatural) return;
  if (request->length == 0) {
    request->state = Request::State::kEnded;  // its timeout may expire in this very moment
    synthetic_.push_back({request, 1, false, false, {}});
    return;
  }
  // Firings that were missed are counted, not made up for.
  const auto period = static_cast<std::int64_t>(request->length);
  const std::int64_t missed = (now - expired.deadline) / period;
  request->firing = timers_.add(expired.deadline + (missed + 1) * period, request, expired.handle,
                                expired.generation);
  request->firing->firing = true;
  synthetic_.push_back({request, missed + 1, true, false, {}});
}

/// Its deadline is in the heap of this thread, which it may leave: it goes on in another with the
/// time that was left.
void Thread::stop_timing(Request* request) {
  if (CP_PLANTED("a deadline stays behind") && request->moving) return;
  TimerNode* node = std::exchange(request->firing, nullptr);
  if (node == nullptr) return;  // its time came after its end
  request->offset = node->deadline - driver::now();
  timers_.remove(node);
}

void Thread::forget_timer(Request* request) {
  assert(request->firing == nullptr);
  TimerNode* node = request->timer;
  if (node == nullptr) return;
  if (request->owner != this) return send_timer_back(request);
  request->timer = nullptr;
  timers_.remove(node);
}

void Thread::send_timer_back(Request* request) {
  TimerNode* node = std::exchange(request->timer, nullptr);
  if (node == nullptr) return;
  const std::uint32_t generation = request->generation;
  request->owner->send({Message::Kind::kForgetTimer, request, generation, node});
}

// ---- connections on which nothing moves --------------------------------------------------------

/// The thread that runs what the connection waits for, or any: what has completed in its lane is
/// settled before it ends anything. The handle's mutex is held.
void Thread::ask_to_end_idle(Handle& handle) {
  Port* port = handle.port.load();
  const Request* request = handle.in.active != nullptr ? handle.in.active : handle.out.active;
  Message message{Message::Kind::kEndIdle, nullptr, 0, nullptr, handle.id};
  Thread* runner = nullptr;
  if (request != nullptr) runner = request->runner;
  if (port == nullptr || request == nullptr || (runner != nullptr && runner->send(message))) return;
  const Members::Lock lock = port->dispatcher().members().lock();
  runner = any_runner(*request, *port);
  if (runner != nullptr) runner->send(message);
}

void Thread::end_idle_handles() {
  std::vector<HandleId> idle;
  idle.swap(idle_);
  for (const HandleId handle : idle) end_idle(handle);
}

/// All that is asked of the connection ends with ETIMEDOUT, and so does what is asked of it later.
/// The peer hears of its end at once. What is left, the descriptor, is the program's to close.
void Thread::end_idle(HandleId id) {
  Handle* handle = HandleTable::instance().find(id);
  {
    std::lock_guard lock(handle->mutex);
    if (handle->id != id || handle->closing || handle->timed_out) return;
    const driver::Deadline now = driver::now();
    if (handle->idle_timeout == 0 || IdleClock::due(*handle, now) > now) return;
    handle->timed_out = true;
    for (Request* r = handle->requests; r != nullptr;) {
      Request* next = r->handle_next;
      end_early(r, Request::End::kTimedOut);
      r = next;
    }
    port_.driver().shut_down(handle->descriptor);
  }
  after_settling();
}

// ---- leaving ----------------------------------------------------------------------------------

/// Handles that were opened to be awaited here can't be used by anyone else.
void Thread::close_own_handles() {
  for (Handle* handle : port_.handle_list().all()) {
    {
      std::lock_guard lock(handle->mutex);
      if (handle->id == 0 || handle->owner != number_ || handle->closing) continue;
      Request* close = new_close();
      own(close);
      begin_close(close, *handle);
      close->silent = true;
    }
    after_settling();
  }
}

/// The port of the handle has ended, and no thread carries these out: whoever awaits an answer, if
/// only to the end of a chain, gets it, the others are forgotten. The handle's mutex is held.
void Thread::end_stranded(StreamQueue& direction) {
  while (direction.stranded()) {
    Request* request = direction.pop();
    request->end = Request::End::kCancelled;
    bool awaited = false;
    for (const Request* r = request; r != nullptr; r = r->chain) awaited |= r->awaited;
    if (!awaited || !request->owner->send_start(request)) drop(request);
  }
}

/// With its chain, whose packets nobody would take.
void Thread::drop(Request* request) {
  while (request != nullptr) {
    Request* next = request->chain;
    send_timer_back(request);
    request->memory.for_each_place(BufferPool::unuse);
    const driver::Descriptor file = SharedFile::let_go(request->shared);
    if (file != driver::kNoDescriptor) driver::close_file(file);
    request->handle->unlink(request);
    end_life_elsewhere(request);
    request = next;
  }
}

/// This thread's own operations end. Another thread's, that this one carried out because it was
/// awake when their turn came, only end here, and so do sends on a shared connection: see
/// `moves_on`.
void Thread::cancel_everything() {
  for (Request* request : std::vector<Request*>(running_)) {
    if (request->kind == PacketKind::kClose || request->moving) continue;
    std::lock_guard lock(request->handle->mutex);
    if (request->owner == this && !outlives(*request, *request->handle)) {
      end_early(request, Request::End::kCancelled);
    } else {
      request->moving = true;
      to_end_.push_back(request);
    }
  }
  after_settling();
}

}  // namespace cp
