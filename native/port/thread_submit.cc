// Submitting: from a request to the lane, through the handle's queues.
#include <algorithm>
#include <cassert>
#include <cstring>
#include <utility>

#include "driver/errno.h"
#include "port/thread.h"
#include "system/switch_point.h"

namespace cp {

namespace {

bool fits(PacketKind kind, HandleKind handle) {
  const KindTraits& its = traits(kind);
  return its.begins == Begins::kOnHandle && its.handle.value_or(handle) == handle;
}

/// Nobody waits for its packet, under a token or a key.
bool unheard(const Request& request, const Handle& handle) {
  return !handle.keyed && !request.awaited;
}

/// Of one system call (IOV_MAX): what is more would be a second message.
constexpr std::size_t kMostSlices = 1024;

/// Whether a handle that is open can count it, and all of its chain, among what its close waits
/// for: not another close, nor what makes a handle, whose failure would be the end of this one.
bool may_be_counted(const Request& request) {
  const Request* r = &request;
  const auto counts = [](PacketKind kind) {
    return kind != PacketKind::kClose && traits(kind).begins == Begins::kOnHandle;
  };
  while (r != nullptr && counts(r->kind)) r = r->chain;
  return r == nullptr;
}

constexpr std::int64_t kNanosecondsPerMillisecond = 1'000'000;

}  // namespace

void Thread::set_outbox(Outbox* outbox) {
  std::lock_guard lane(lane_lock_);
  outbox_ = outbox;
}

void Thread::submit(Request* request, HandleId id) {
  std::lock_guard lane(lane_lock_);
  submit_held(request, id);
}

/// A handle with a key is closed at the port that it belongs to: a thread of the one it has left
/// may still have an object for it, or a packet that names it (rule A3).
bool Thread::closes_elsewhere(const Request& request, const Handle& handle) const {
  const bool asked = request.kind == PacketKind::kClose && !request.silent;
  return asked && handle.keyed && handle.port != &port_;
}

void Thread::submit_held(Request* request, HandleId id) {
  Handle* handle = HandleTable::instance().find(id);
  const HandleId feeder = request->feeder;
  bool starts = false;
  bool full = false;
  bool linked = false;
  std::int32_t error = handle == nullptr ? kErrorHandleClosed : 0;
  bool unsendable = false;
  for (Request* r = request; r != nullptr; r = r->chain) {
    own(r);
    r->handle_id = id;
    if (const auto code = traits(r->kind).code) r->code = *code;
    r->awaited = r->token != 0;
    if (r->kind == PacketKind::kSendFile && error == 0) {
      error = take_file(*r);
      unsendable = error != 0;
    }
  }
  if (handle != nullptr) {
    std::lock_guard lock(handle->mutex);
    const bool gone = handle->id != id || handle->closing;
    if (error == 0) {
      error = gone || closes_elsewhere(*request, *handle) ? kErrorHandleClosed
                                                          : check(*request, *handle);
    }
    if (error == 0 && request->kind == PacketKind::kClose) {
      begin_close(request, *handle);
    } else if (error == 0) {
      link_chain(request, *handle);
      starts = claim(request, *handle);
      full = handle->outgoing->full(port_.pool());
    }
    const bool open = !gone && (unsendable || error != kErrorHandleClosed);
    // One that is elsewhere by now is answered here (see address_refusal).
    linked = error != 0 && open && handle->port == &port_ && may_be_counted(*request) &&
             !CP_PLANTED("a close does not wait for a refusal");
    if (linked) {
      refuse_linked(request, *handle, error);
    } else if (error != 0) {
      address_refusal(request, handle->id == id ? handle : nullptr);
    }
  } else {
    address_refusal(request, nullptr);
  }
  if (error != 0) return linked ? after_settling() : fail(request, error);
  if (starts) start(request);
  if (full && feeder != 0) hold_back(feeder, id);
  after_settling();
}

void Thread::flush() {
  std::lock_guard lane(lane_lock_);
  if (lane_) lane_->flush();
  if (watched_.load(std::memory_order_relaxed)) Watchman::instance().notice();
}

/// Before the socket's mutex is taken: no thread has two handles locked.
std::int32_t Thread::take_file(Request& request) {
  Handle* file = HandleTable::instance().find(request.source);
  if (file == nullptr) return kErrorHandleClosed;
  std::lock_guard lock(file->mutex);
  if (file->id != request.source || file->closing) return kErrorHandleClosed;
  if (file->descriptor == driver::kNoDescriptor) return kErrorHandleClosed;
  const bool sendable = file->kind == HandleKind::kFile && !file->direct &&
                        file->file_kind == driver::FileKind::kRegular;
  if (!sendable) return kErrorNotSupported;
  request.shared = &file->share();
  request.file = request.shared;
  request.total = request.length;
  return 0;
}

std::int32_t Thread::check(const Request& request, const Handle& handle) const {
  for (const Request* r = &request; r != nullptr; r = r->chain) {
    if (!fits(r->kind, handle.kind)) return kErrorNotSupported;
    if (handle.messages) {
      // What is sent of a file has no borders.
      if (r->kind == PacketKind::kSendFile) return -ENOTSUP;
      if (r->memory.size() > kMostSlices) return -EMSGSIZE;
    }
    if (r->kind == PacketKind::kClose && (r != &request || r->chain != nullptr)) {
      return kErrorNotSupported;
    }
  }
  if (request.kind == PacketKind::kClose || handle.kind == HandleKind::kTimer) return 0;
  if (handle.timed_out) return kErrorTimedOut;
  return handle.descriptor == driver::kNoDescriptor ? kErrorHandleClosed : 0;
}

/// What the driver needs to know of the handle.
void Thread::prepare(Request* request, Handle& handle) {
  request->descriptor = handle.descriptor;
  request->descriptor_id = handle.descriptor_id;
  request->stream =
      handle.kind != HandleKind::kFile || handle.file_kind == driver::FileKind::kStream;
  request->pollable = handle.kind != HandleKind::kFile || handle.pollable;
  request->likely_empty = handle.likely_empty;
  request->long_in_a_row = handle.long_in_a_row;
  request->messages = handle.messages;
  if (handle.direct) request->flags |= driver::kOpenDirect;
  request->slices = request->memory.empty() ? nullptr : request->memory.data();
  request->slice_count = static_cast<std::uint32_t>(request->memory.size());
}

void Thread::link_chain(Request* request, Handle& handle) {
  for (Request* r = request; r != nullptr; r = r->chain) {
    prepare(r, handle);
    r->silent = unheard(*r, handle);
    handle.link(r);
    r->chained = r != request;
    r->state = Request::State::kQueued;
    // Under the mutex: once it waits in a queue, another thread may carry it out and recycle it.
    remember_token(r, &handle);
    if (r->timeout > 0) arm_timeout(r);
    handle.wants_drain |= r->told_full;
    if (!r->stall) continue;
    r->offset = progress(handle);
    to_receive_.insert(to_receive_.end(), handle.feeders.begin(), handle.feeders.end());
    handle.feeders.clear();
  }
}

/// The handle is open and can't do it: refused, but as one of the handle's operations, so that a
/// close waits for the answer, and a hand-off takes it along (rules O5, A3).
void Thread::refuse_linked(Request* request, Handle& handle, std::int32_t error) {
  link_chain(request, handle);
  request->runner = this;
  request->state = Request::State::kEnded;
  synthetic_.push_back({request, error, false, false, {}});
}

/// True when the request is this thread's to start now; else it waits in its direction.
bool Thread::claim(Request* request, Handle& handle) {
  StreamQueue* direction = handle.queue_of(*request);
  const bool waits = direction != nullptr && (direction->active != nullptr ||
                                              direction->first != nullptr || direction->holds > 0);
  if (waits && !(CP_PLANTED("sends side by side") && request->kind == PacketKind::kSend) &&
      !(CP_PLANTED("writes side by side") && request->kind == PacketKind::kWrite)) {
    const bool of_memory = request->sends() && request->kind != PacketKind::kSendFile;
    if (of_memory) copy_out(request);
    direction->push(request);
    if (direction->stranded()) resume(*direction);
    return false;
  }
  if (direction != nullptr) direction->active = request;
  if (carrier_ != this) {
    take_along(request);
    return false;
  }
  request->runner = this;
  request->state = Request::State::kStarted;
  return true;
}

/// The first that waits starts here. The handle's mutex is held.
void Thread::resume(StreamQueue& direction) {
  direction.active = direction.pop();
  run_on(carrier_, direction.active);
}

/// A send that waits may wait for long: received bytes among what it sends leave the buffers that
/// all connections receive into, so that a connection holds one at most. Where memory is short they
/// stay.
void Thread::copy_out(Request* request) {
  for (std::size_t i = 0; i < request->memory.size(); ++i) {
    const Place from = request->memory.place(i);
    const driver::Slice& bytes = request->memory[i];
    Place to;
    if (!BufferPool::received(from) || !port_.pool().allocate(bytes.length, 0, to)) continue;
    std::uint8_t* copy = BufferPool::use(to, bytes.length);
    BufferPool::release(to);
    std::memcpy(copy, bytes.base, bytes.length);
    request->memory.replace(i, {copy, bytes.length}, to);
    BufferPool::unuse(from);
  }
  request->slices = request->memory.data();
}

// ---- receiving no more than is sent on --------------------------------------------------------

/// What `feeder` receives is sent to `sink`, which has enough to send for now: `feeder` receives
/// nothing until most of that is out (rule M4). Held first and noted with the sink afterwards, so
/// that whoever drains the sink finds it held; where it has drained meanwhile nothing was noted.
void Thread::hold_back(HandleId feeder, HandleId sink) {
  if (!hold(feeder)) return;
  Handle* handle = HandleTable::instance().find(sink);
  {
    std::lock_guard lock(handle->mutex);
    std::vector<HandleId>& feeders = handle->feeders;
    const bool known = std::find(feeders.begin(), feeders.end(), feeder) != feeders.end();
    if (handle->id == sink && !known && !handle->outgoing->drained(port_.pool())) {
      feeders.push_back(feeder);
      return;
    }
  }
  let_receive(feeder);
}

bool Thread::hold(HandleId feeder) {
  Handle* handle = HandleTable::instance().find(feeder);
  if (handle == nullptr) return false;
  std::lock_guard lock(handle->mutex);
  if (handle->id != feeder || handle->closing) return false;
  ++handle->in.holds;
  Request* request = handle->in.active;
  const bool goes_on = request != nullptr && request->multishot && !request->pausing;
  if (!goes_on || request->end != Request::End::kNatural) return true;
  request->pausing = true;
  Thread* runner = request->runner;
  runner->send({Message::Kind::kPause, request, request->generation, nullptr});
  return true;
}

/// One of those that held it has drained, or is gone.
void Thread::let_receive(HandleId feeder) {
  Handle* handle = HandleTable::instance().find(feeder);
  if (handle == nullptr) return;
  std::lock_guard lock(handle->mutex);
  if (handle->id != feeder || handle->in.holds == 0 || --handle->in.holds > 0) return;
  if (handle->idle_timeout > 0) handle->moved_at = driver::now();
  if (Port* port = handle->port.load()) start_stranded(*handle, *port);
}

/// This thread has come to a port where requests wait that no thread was there for.
void Thread::resume_stranded() {
  std::lock_guard lane(lane_lock_);
  for (Handle* handle : port_.handle_list().all()) {
    {
      std::lock_guard lock(handle->mutex);
      if (handle->id == 0 || handle->port != &port_) continue;
      if (handle->in.stranded()) resume(handle->in);
      if (handle->out.stranded()) resume(handle->out);
    }
    after_settling();
  }
}

/// Nothing is submitted to the handle any more; the close follows the last packet (rule O5).
void Thread::begin_close(Request* request, Handle& handle) {
  request->silent = unheard(*request, handle);
  handle.begin_closing();
  handle.close = request;
  request->handle = &handle;
  // The packet has it, so there has to be one.
  request->keeps &= request->awaited && !request->quiet && port_.lets_go(handle);
  if (request->keeps) handle.path.reset();
  bool elsewhere = false;
  for (Request* r = handle.requests; r != nullptr;) {
    Request* next = r->handle_next;
    elsewhere |= r->state != Request::State::kQueued && r->runner != this;
    end_early(r, Request::End::kCancelled);
    r = next;
  }
  // Another thread has to end its operation before the descriptor is given back, and may be busy.
  const bool connected =
      handle.kind == HandleKind::kSocket && handle.descriptor != driver::kNoDescriptor;
  if (elsewhere && connected && !request->keeps) port_.driver().shut_down(handle.descriptor);
  if (handle.in_flight == 0 || CP_PLANTED("a close that waits for nothing")) start_close(handle);
}

void Thread::refuse_held(Request* request, HandleId id, std::int64_t error) {
  for (Request* r = request; r != nullptr; r = r->chain) {
    own(r);
    r->handle_id = id;
    r->awaited = r->token != 0;
  }
  if (Handle* handle = HandleTable::instance().find(id)) {
    std::lock_guard lock(handle->mutex);
    address_refusal(request, handle->id == id ? handle : nullptr);
  } else {
    address_refusal(request, nullptr);
  }
  fail(request, error);
}

/// A refused request is answered like the handle's others. Under the key that came with it where
/// the handle is gone, or at another port and under another key: not under one that may be
/// anybody's here. Nobody is told of a close that comes too late: the one that came first has the
/// packet.
void Thread::address_refusal(Request* request, const Handle* handle) {
  for (Request* r = request; r != nullptr; r = r->chain) {
    if (r->awaited) continue;
    if (r->kind == PacketKind::kClose) r->silent = true;
    if (handle != nullptr && (handle->port == &port_ || !r->keyed)) {
      r->key = handle->key;
      r->silent |= !handle->keyed;
    } else {
      r->silent |= !r->keyed;
    }
  }
}

void Thread::fail(Request* request, std::int64_t error) {
  while (request != nullptr) {
    Request* next = request->chain;
    request->chain = nullptr;
    request->handle = nullptr;
    synthetic_.push_back({request, error, false, false, {}});
    request = next;
    error = -ECANCELED;
  }
}

void Thread::remember_token(Request* request, Handle* handle) {
  if (!request->awaited) return;
  if (by_token_.size() <= request->token)
    by_token_.resize(static_cast<std::size_t>(request->token) + 64);
  by_token_[request->token] = {request, handle, request->generation};
}

/// Changes when something that was sent has moved.
std::int64_t Thread::progress(const Handle& handle) {
  const std::int64_t acknowledged = port_.driver().acknowledged(handle.descriptor);
  return acknowledged >= 0 ? acknowledged : -static_cast<std::int64_t>(handle.outgoing->bytes);
}

void Thread::arm_timeout(Request* request) {
  const std::int64_t span =
      static_cast<std::int64_t>(request->timeout) * kNanosecondsPerMillisecond;
  request->timer = timers_.add(driver::now() + span, request, request->handle, request->generation);
}

/// The request's handle is locked by the caller. A close without a descriptor is done at once.
void Thread::run_on(Thread* runner, Request* request) {
  if (request->kind == PacketKind::kClose && request->descriptor == driver::kNoDescriptor) {
    synthetic_.push_back({request, 0, false, false, {}});
    return;
  }
  const bool ended = request->kind != PacketKind::kClose && request->end != Request::End::kNatural;
  if (runner == nullptr || ended) {
    synthetic_.push_back({request, -ECANCELED, false, false, {}});
    return;
  }
  if (runner != this) {
    if (runner == carrier_) return take_along(request);
    runner->send_start(request);
    return;
  }
  request->runner = this;
  request->state = Request::State::kStarted;
  to_start_.push_back(request);
}

/// Another thread asks this one to carry it out, with the mutex of the request's handle.
bool Thread::send_start(Request* request) {
  request->runner = this;
  request->state = Request::State::kSent;
  return send({Message::Kind::kStart, request, request->generation, nullptr});
}

/// It begins in the lane of the thread that is here, which reads its own inbox next. The mutex of
/// the request's handle is held.
void Thread::take_along(Request* request) {
  fruitful_ = true;
  request->runner = carrier_;
  request->state = Request::State::kSent;
  carrier_->send({Message::Kind::kStart, request, request->generation, nullptr}, false);
}

/// Another thread has passed the request on. It may have been ended while the message was under
/// way.
void Thread::start_sent(Request* request) {
  {
    std::lock_guard lock(request->handle->mutex);
    const bool ended = request->end != Request::End::kNatural || request->pausing;
    if (!ended && carrier_ != this) return take_along(request);
    request->state = ended ? Request::State::kEnded : Request::State::kStarted;
    if (ended) synthetic_.push_back({request, -ECANCELED, false, false, {}});
  }
  if (request->state == Request::State::kStarted) start(request);
}

/// No locks are held. The request is this thread's: `runner` says so since it left its queue.
void Thread::start(Request* request) {
  submitted_.add();
  request->runner_index = static_cast<std::uint32_t>(running_.size());
  running_.push_back(request);
  if (request->kind == PacketKind::kTimer) {
    assert(request->firing == nullptr);
    request->state = Request::State::kTiming;
    request->firing =
        timers_.add(driver::now() + request->offset, request, request->handle, request->generation);
    request->firing->firing = true;
    return;
  }
  lane_->submit(request);
}

// ---- making handles ---------------------------------------------------------------------------

Handle* Thread::make(HandleKind kind, const Association& association, HandleId& name) {
  return port_.create_handle(kind, association.keyed, association.key, this, name);
}

std::int64_t Thread::submit_opening(Request* request, HandleKind kind,
                                    const Association& association) {
  HandleId id = 0;
  Handle* handle = make(kind, association, id);
  if (handle == nullptr) {
    recycle(request);
    return -EMFILE;
  }
  request->token = association.token;
  request->timeout = association.timeout;
  request->awaited = true;
  request->handle_id = id;
  std::lock_guard lane(lane_lock_);
  own(request);
  {
    std::lock_guard lock(handle->mutex);
    handle->link(request);
    request->runner = this;
    request->state = Request::State::kStarted;
    Port::publish(*handle, id);
  }
  remember_token(request, handle);
  if (request->timeout > 0) arm_timeout(request);
  start(request);
  return static_cast<std::int64_t>(id);
}

std::int64_t Thread::open(std::string_view path, std::uint32_t flags, std::uint32_t mode,
                          const Association& association) {
  Request* request = new_request();
  request->kind = PacketKind::kOpen;
  request->code = driver::Opcode::kOpen;
  request->details = std::make_unique<Details>();
  request->details->path.assign(path);
  request->path = request->details->path.c_str();
  request->flags = flags;
  request->mode = mode;
  return submit_opening(request, HandleKind::kFile, association);
}

std::int64_t Thread::connect(driver::ConnectTarget target, const Association& association) {
  Request* request = new_request();
  request->kind = PacketKind::kConnect;
  request->code = driver::Opcode::kConnect;
  request->details = std::make_unique<Details>();
  request->details->target = std::move(target);
  request->target = &request->details->target;
  return submit_opening(request, HandleKind::kSocket, association);
}

std::int64_t Thread::open_descriptor(driver::Descriptor descriptor,
                                     const Association& association) {
  driver::FileKind kind{};
  const driver::Result copy = port_.driver().duplicate(descriptor, kind);
  return copy < 0 ? copy : adopt_file(copy, kind, association);
}

std::int64_t Thread::reopen(HandleId file, const Association& association) {
  driver::FileKind kind{};
  const driver::Result copy = Port::with_descriptor(file, [&](driver::Descriptor descriptor) {
    return port_.driver().duplicate_own(descriptor, kind);
  });
  return copy < 0 ? copy : adopt_file(copy, kind, association);
}

std::int64_t Thread::adopt_file(driver::Descriptor descriptor, driver::FileKind kind,
                                const Association& association) {
  HandleId id = 0;
  Handle* handle = make(HandleKind::kFile, association, id);
  if (handle == nullptr) {
    port_.driver().discard(descriptor);
    return -EMFILE;
  }
  handle->file_kind = kind;
  const std::uint32_t flags = driver::open_flags_of(descriptor);
  handle->append = (flags & driver::kOpenAppend) != 0;
  handle->direct = (flags & driver::kOpenDirect) != 0;
  Port::adopt(*handle, port_.driver(), descriptor);
  Port::publish(*handle, id);
  return static_cast<std::int64_t>(id);
}

std::int64_t Thread::listen(const driver::ListenOptions& options, bool accept_keyed,
                            const Association& association) {
  const driver::Result descriptor = port_.driver().listen(options);
  if (descriptor < 0) return descriptor;
  const auto give_up = [&] {
    port_.driver().discard(descriptor);
    if (!options.path.empty()) port_.driver().remove_socket_file(options.path);
  };
  HandleId id = 0;
  Handle* handle = make(HandleKind::kListener, association, id);
  if (handle == nullptr) {
    give_up();
    return -EMFILE;
  }
  handle->accept_keyed = accept_keyed;
  handle->messages = options.messages;
  if (!options.path.empty()) handle->path = std::make_unique<std::string>(options.path);
  Port::adopt(*handle, port_.driver(), descriptor);
  Port::publish(*handle, id);
  return static_cast<std::int64_t>(id);
}

std::int64_t Thread::adopt_socket(driver::Descriptor socket, const Association& association) {
  driver::SocketKind kind;
  const driver::Result copy = port_.driver().duplicate_socket(socket, kind);
  if (copy < 0) return copy;
  HandleId id = 0;
  Handle* handle =
      make(kind.listens ? HandleKind::kListener : HandleKind::kSocket, association, id);
  if (handle == nullptr) {
    port_.driver().discard(copy);
    return -EMFILE;
  }
  handle->accept_keyed = kind.listens && association.keyed;
  handle->messages = kind.messages;
  Port::adopt(*handle, port_.driver(), copy);
  Port::publish(*handle, id);
  return static_cast<std::int64_t>(id);
}

std::int64_t Thread::own_connection(driver::Descriptor connection, const Association& association) {
  if (connection == driver::kNoDescriptor) return -EBADF;
  const driver::Result owned = port_.driver().own_connection(connection);
  HandleId id = 0;
  Handle* handle = owned < 0 ? nullptr : make(HandleKind::kSocket, association, id);
  if (handle == nullptr) {
    port_.driver().discard(connection);
    return owned < 0 ? owned : -EMFILE;
  }
  Port::adopt(*handle, port_.driver(), connection);
  Port::publish(*handle, id);
  return static_cast<std::int64_t>(id);
}

std::int64_t Thread::timer(const Association& association) {
  HandleId id = 0;
  Handle* handle = make(HandleKind::kTimer, association, id);
  if (handle == nullptr) return -EMFILE;
  Port::publish(*handle, id);
  return static_cast<std::int64_t>(id);
}

}  // namespace cp
