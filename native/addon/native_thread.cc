#include "addon/native_thread.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "addon/shown_memory.h"
#include "addon/values.h"

namespace cp::addon {
namespace {

Napi::Error coded(Napi::Env env, const std::string& message, const char* code) {
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", code);
  return error;
}

/// An error of the system: lib/support/errors.ts completes it from `errno`.
Napi::Error system_error(Napi::Env env, std::int64_t number, const std::string& reason) {
  Napi::Error error = Napi::Error::New(env, reason);
  error.Set("errno", static_cast<double>(number));
  return error;
}

Napi::ArrayBuffer show_word(Napi::Env env, const SharedWordKeeper& word) {
  return show(env, &word->value, sizeof word->value, word);
}

PortOptions read_options(const Napi::Object& from) {
  const auto number = [&](const char* name) {
    return from.Get(name).As<Napi::Number>().DoubleValue();
  };
  PortOptions options;
  options.driver = from.Get("driver").As<Napi::String>().Utf8Value();
  options.concurrency = static_cast<std::uint32_t>(number("concurrency"));
  options.queue_limit = static_cast<std::uint32_t>(number("queueLimit"));
  options.serialize_keys = from.Get("serializeKeys").ToBoolean();
  options.affine = from.Get("affine").ToBoolean();
  options.spin = static_cast<std::uint32_t>(number("spin"));
  options.buffers.buffer_size = static_cast<std::uint32_t>(number("bufferSize"));
  options.buffers.buffer_count = static_cast<std::uint32_t>(number("bufferCount"));
  options.buffers.memory_limit = static_cast<std::uint64_t>(number("memoryLimit"));
  options.buffers.check = from.Get("checkMemory").ToBoolean();
  return options;
}

}  // namespace

Napi::Function NativeThread::constructor(Napi::Env env) {
  std::vector<Function> functions = {
      InstanceMethod<&NativeThread::start>("start"),
      InstanceMethod<&NativeThread::ref>("ref"),
      InstanceMethod<&NativeThread::unref>("unref"),
      InstanceMethod<&NativeThread::room>("room"),
      InstanceMethod<&NativeThread::refusal>("refusal"),
      InstanceMethod<&NativeThread::blocking>("blocking"),
      InstanceMethod<&NativeThread::announce_close>("announceClose"),
      InstanceMethod<&NativeThread::close_announced>("closeAnnounced"),
      InstanceMethod<&NativeThread::close_port>("closePort"),
      InstanceMethod<&NativeThread::detach>("detach"),
      InstanceMethod<&NativeThread::stats>("stats"),
      InstanceMethod<&NativeThread::waits>("waits"),
  };
  NativeHandles::define(functions);
  NativeRecords::define(functions);
  return DefineClass(env, "NativeThread", functions);
}

/// Called with port options, or with the number of a port of this process.
NativeThread::NativeThread(Info info) : Napi::ObjectWrap<NativeThread>(info) {
  const Napi::Env env = info.Env();
  if (info[0].IsNumber()) {
    const PortHold port = Port::find(info[0].As<Napi::Number>().Uint32Value());
    if (!port) throw system_error(env, kErrorPortClosed, "");
    attach(env, *port);
    return;
  }
  driver::Result error = 0;
  std::string reason;
  const PortHold port = Port::create(read_options(info[0].As<Napi::Object>()), error, reason);
  if (!port) throw system_error(env, error, reason);
  attach(env, *port);
}

void NativeThread::attach(Napi::Env env, Port& port) {
  driver::Result error = 0;
  thread_ = port.attach(arrays_->completions, error, &arrays_->posts);
  if (thread_ == nullptr) throw system_error(env, error, port.driver().name());
  port_ = &port;
  thread_->set_outbox(this);
  try {
    describe(env, port);
  } catch (...) {  // no destructor runs for an object whose constructor throws
    leave(false);
    throw;
  }
}

/// What lib/native/binding.ts sees of it.
void NativeThread::describe(Napi::Env env, Port& port) {
  Napi::Object self = Value();
  self.Set("portId", port.id());
  self.Set("driver", port.driver().name());
  self.Set("driverReason", port.driver_reason());
  self.Set("checked", port.pool().checked());
  self.Set("submissions", show(env, arrays_->submissions, sizeof arrays_->submissions, arrays_));
  self.Set("published", show(env, &arrays_->published, sizeof arrays_->published, arrays_));
  self.Set("place", show(env, arrays_->place, sizeof arrays_->place, arrays_));
  self.Set("completions", show(env, arrays_->completions, sizeof arrays_->completions, arrays_));
  self.Set("posts", show(env, &arrays_->posts, sizeof arrays_->posts, arrays_));
  self.Set("postsTail", show_word(env, thread_->posts().tail_keeper()));
  self.Set("idle", show_word(env, port.dispatcher().idle_keeper()));
  self.Set("queueLimit", port.options().queue_limit);
  self.Set("memoryLimit", static_cast<double>(port.pool().limit()));
  const auto& allocated = port.pool().allocated_keeper();
  self.Set("allocated", show(env, allocated.get(), sizeof *allocated, allocated));
  define<&NativeThread::enter>(self, "enter");
  define<&NativeThread::get>(self, "get");
  define<static_cast<Hot>(&NativeThread::hand_over)>(self, "submit");
  define<&NativeThread::accept_posts>(self, "acceptPosts");
  define<&NativeThread::reserve>(self, "reserve");
  define<&NativeThread::message_block>(self, "messageBlock");
  nothing_ = Napi::Persistent(env.RunScript("(function () {})").As<Napi::Function>());
  napi_add_env_cleanup_hook(env, on_cleanup, this);
  hooked_ = true;
}

NativeThread::~NativeThread() { leave(false); }

/// The environment ends: worker.terminate(), process.exit(), an uncaught exception, or just the
/// end.
void NativeThread::on_cleanup(void* self) {
  auto* lane = static_cast<NativeThread*>(self);
  lane->hooked_ = false;
  lane->leave(true);
}

void NativeThread::leave(bool died) {
  if (thread_ == nullptr) return;
  if (hooked_) napi_remove_env_cleanup_hook(Env(), on_cleanup, this);
  hooked_ = false;
  // With the environment the notifier goes by its own hook, which has run by now.
  if (notifier_ != nullptr && !died) notifier_->close();
  notifier_ = nullptr;
  // Whoever is on an errand begins submissions through `thread_`: it is waited for first.
  thread_->set_outbox(nullptr);
  std::exchange(thread_, nullptr)->detach(died);
  // With the environment these go by themselves.
  if (!died && !in_callback_) release_references();
}

/// The functions keep their closures alive, and those the port's object.
void NativeThread::release_references() {
  ready_.Reset();
  nothing_.Reset();
  context_.reset();
}

Thread& NativeThread::thread() {
  if (thread_ == nullptr) throw coded(Env(), "The port is closed", "ERR_PORT_CLOSED");
  return *thread_;
}

// ---- the batch --------------------------------------------------------------------------------

template <NativeThread::Hot function>
napi_value NativeThread::call(napi_env env, napi_callback_info info) {
  napi_value arguments[kMostArguments];  // those that are missing are filled with undefined
  std::size_t count = kMostArguments;
  void* data = nullptr;
  napi_value result = nullptr;
  if (napi_get_cb_info(env, info, &count, arguments, nullptr, &data) != napi_ok) return nullptr;
  auto* lane = static_cast<NativeThread*>(data);
  std::int64_t answer = kErrorPortClosed;
  if (lane->thread_ != nullptr) answer = (lane->*function)(env, arguments);
  napi_create_int64(env, answer, &result);
  return result;
}

/// The function keeps the object alive that it works on.
template <NativeThread::Hot function>
void NativeThread::define(Napi::Object self, const char* name) {
  const napi_env env = self.Env();
  napi_value made = nullptr;
  const napi_status status =
      napi_create_function(env, name, NAPI_AUTO_LENGTH, call<function>, this, &made);
  if (status != napi_ok) throw Napi::Error::New(env);
  Napi::Object(env, made).Set("lane", self);
  self.Set(name, Napi::Value(env, made));
}

/// What an errand has not begun already. JavaScript writes from the beginning afterwards.
void NativeThread::hand_over(std::uint32_t written) {
  if (written == 0) return;
  const auto lane = thread_->hold_lane();
  const std::size_t count = std::min<std::size_t>(written, kSubmissionLimit);
  const std::size_t begun = std::min(std::exchange(begun_, 0), count);
  std::atomic_ref(arrays_->published).store(0, std::memory_order_relaxed);
  submit_all(*thread_, arrays_->submissions + begun, count - begun, records_.table());
}

// ---- what another thread does meanwhile: the lane is held, and JavaScript may be writing

std::size_t NativeThread::published() const {
  const std::atomic_ref word(const_cast<std::uint32_t&>(arrays_->published));
  return std::min<std::size_t>(word.load(std::memory_order_acquire), kSubmissionLimit);
}

bool NativeThread::pending() const {
  return begun_ < published() && may_begin_early(arrays_->submissions[begun_]);
}

void NativeThread::submit() {
  const std::size_t count = published();
  if (begun_ < count)
    begun_ += submit_early(*thread_, arrays_->submissions + begun_, count - begun_);
}

std::int64_t NativeThread::hand_over(napi_env env, const napi_value* arguments) {
  hand_over(u32(env, arguments[0]));
  thread_->flush();
  return 0;
}

std::int64_t NativeThread::enter(napi_env env, const napi_value* arguments) {
  hand_over(u32(env, arguments[0]));
  const std::int64_t count = thread_->poll(u32(env, arguments[1]));
  if (count == 0 && notifier_ != nullptr) notifier_->rearm();
  return count;
}

/// Neither terminate() nor exit() can interrupt a native call, but a call into JavaScript fails
/// once the environment is to end.
bool NativeThread::interrupted(void* self) {
  auto* lane = static_cast<NativeThread*>(self);
  const napi_env env = lane->Env();
  Napi::HandleScope scope(env);
  napi_value receiver = nullptr;
  napi_value result = nullptr;
  if (napi_get_undefined(env, &receiver) != napi_ok) return true;
  return napi_call_function(env, receiver, lane->nothing_.Value(), 0, nullptr, &result) != napi_ok;
}

std::int64_t NativeThread::get(napi_env env, const napi_value* arguments) {
  hand_over(u32(env, arguments[0]));
  const double timeout = number_of(env, arguments[2]);
  const driver::Deadline deadline =
      timeout < 9e9 ? driver::now() + static_cast<std::int64_t>(timeout * 1e6) : driver::kNever;
  return thread_->get(u32(env, arguments[1]), deadline, interrupted, this);
}

// ---- the event loop ---------------------------------------------------------------------------

Napi::Value NativeThread::start(Info info) {
  ready_ = Napi::Persistent(info[0].As<Napi::Function>());
  context_ = std::make_unique<Napi::AsyncContext>(Env(), "completion-port");
  const bool threadsafe = info[1].ToBoolean();
  driver::Lane& lane = *thread().lane();
  const auto ready = [this] { on_ready(); };
  if (!threadsafe) notifier_ = make_uv_notifier(Env(), lane.notifier(), ready);
  if (notifier_ == nullptr) notifier_ = make_threadsafe_notifier(Env(), lane, ready);
  if (notifier_ == nullptr) throw coded(Env(), "No event loop to attach to", "ERR_NO_EVENT_LOOP");
  return Env().Undefined();
}

void NativeThread::on_ready() {
  if (thread_ == nullptr) return;
  thread_->clear_notifier();
  const Napi::Env env = Env();
  napi_value result = nullptr;
  in_callback_ = true;
  const napi_status status =
      napi_make_callback(env, *context_, env.Global(), ready_.Value(), 0, nullptr, &result);
  in_callback_ = false;
  if (thread_ == nullptr) release_references();
  if (status != napi_pending_exception) return;
  napi_value exception = nullptr;
  if (napi_get_and_clear_last_exception(env, &exception) == napi_ok) {
    napi_fatal_exception(env, exception);
  }
}

Napi::Value NativeThread::ref(Info) {
  if (notifier_ != nullptr) notifier_->ref();
  return Env().Undefined();
}

Napi::Value NativeThread::unref(Info) {
  if (notifier_ != nullptr) notifier_->unref();
  return Env().Undefined();
}

// ---- the queue --------------------------------------------------------------------------------

std::int64_t NativeThread::accept_posts(napi_env, const napi_value*) {
  thread_->accept_posts();
  return 0;
}

std::int64_t NativeThread::reserve(napi_env env, const napi_value* arguments) {
  const std::uint32_t granted = thread_->reserve(u32(env, arguments[0]));
  if (granted == 0 && thread_->port().dispatcher().closed()) return kErrorPortClosed;
  return granted;
}

std::int64_t NativeThread::message_block(napi_env, const napi_value*) {
  Place place;
  if (!thread_->next_message_block(place)) return kErrorOutOfBuffers;
  return static_cast<std::int64_t>(place.chunk) << 32 | place.offset;
}

Napi::Value NativeThread::room(Info info) {
  thread().notify_when_drained(info[0].As<Napi::Number>().Uint32Value());
  return Env().Undefined();
}

Napi::Value NativeThread::refusal(Info info) {
  const double known = info[1].As<Napi::Number>().DoubleValue();
  thread().notify_when_refused(info[0].As<Napi::Number>().Uint32Value(),
                               static_cast<std::uint64_t>(known));
  return Env().Undefined();
}

Napi::Value NativeThread::blocking(Info info) {
  info[0].ToBoolean() ? thread().begin_blocking() : thread().end_blocking();
  return Env().Undefined();
}

Napi::Value NativeThread::announce_close(Info) {
  thread().announce_close();
  return Env().Undefined();
}

Napi::Value NativeThread::close_announced(Info) {
  return Napi::Boolean::New(Env(), thread().port().close_announced());
}

Napi::Value NativeThread::close_port(Info) {
  thread();
  port_->close();
  return Env().Undefined();
}

Napi::Value NativeThread::detach(Info) {
  leave(false);
  return Env().Undefined();
}

Napi::Value NativeThread::stats(Info) {
  const PortStats stats = thread().port().stats();
  Napi::Object out = Napi::Object::New(Env());
  const auto set = [&](const char* name, std::uint64_t value) {
    out.Set(name, static_cast<double>(value));
  };
  set("submitted", stats.submitted);
  set("completed", stats.completed);
  set("batches", stats.batches);
  set("systemCalls", stats.system_calls);
  set("wakeUps", stats.wake_ups);
  set("steals", stats.steals);
  set("takenBack", stats.taken_back);
  set("queueDepth", stats.queue_depth);
  set("freeBuffers", stats.free_buffers);
  set("threads", stats.threads);
  set("running", stats.running);
  set("waiting", stats.waiting);
  set("handles", stats.handles);
  set("allocatedBytes", stats.allocated_bytes);
  set("refused", stats.refused);
  return out;
}

/// Into an array of doubles as long as there are buckets, and one more for the sum.
Napi::Value NativeThread::waits(Info info) {
  auto out = info[0].As<Napi::Float64Array>();
  const HistogramCounts waits = thread().port().waits();
  const std::size_t buckets = std::min(out.ElementLength(), HistogramCounts::kBuckets);
  for (std::size_t i = 0; i < buckets; ++i) out[i] = static_cast<double>(waits.counts[i]);
  if (out.ElementLength() > buckets) out[buckets] = static_cast<double>(waits.sum);
  return Env().Undefined();
}

}  // namespace cp::addon
