#include "addon/shared_listener.h"

#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "addon/address.h"
#include "addon/seat_bell.h"
#include "addon/shown_memory.h"
#include "driver/acceptor.h"
#include "driver/errno.h"

namespace cp::addon {
namespace {

using driver::Acceptor;

Napi::Error system_error(Napi::Env env, std::int64_t number, const char* call) {
  Napi::Error error = Napi::Error::New(env, call);
  error.Set("errno", static_cast<double>(number));
  return error;
}

double number_of(const Napi::Object& from, const char* name) {
  return from.Get(name).As<Napi::Number>().DoubleValue();
}

/// A thread's place at a shared listener. The environment's end gives it up, and so does `leave`;
/// what waited for it goes to the others.
class NativeSeat final : public Napi::ObjectWrap<NativeSeat> {
 public:
  static Napi::Function constructor(Napi::Env env) {
    return DefineClass(
        env, "NativeSeat",
        {InstanceMethod<&NativeSeat::start>("start"), InstanceMethod<&NativeSeat::waits>("waits"),
         InstanceMethod<&NativeSeat::take>("take"), InstanceMethod<&NativeSeat::closed>("closed"),
         InstanceMethod<&NativeSeat::ref>("ref"), InstanceMethod<&NativeSeat::unref>("unref"),
         InstanceMethod<&NativeSeat::leave>("leave")});
  }

  /// Called with what `NativeListener::join` has.
  explicit NativeSeat(const Napi::CallbackInfo& info) : Napi::ObjectWrap<NativeSeat>(info) {
    const auto& listener =
        *info[0].As<Napi::External<std::shared_ptr<driver::SharedListener>>>().Data();
    bell_ = ThreadsafeBell::make(info.Env(), [this] { on_ready(); });
    if (bell_ == nullptr) throw system_error(info.Env(), -ENOMEM, "listen");
    seat_ = Acceptor::instance().join(listener, *bell_);
    if (seat_ == nullptr) {
      bell_->close(false);
      throw system_error(info.Env(), -EBADF, "listen");
    }
    // After the bell, so that it runs before what ends that.
    napi_add_env_cleanup_hook(info.Env(), on_cleanup, this);
    try {
      show_words();
    } catch (...) {  // no destructor runs for an object whose constructor throws
      give_up(false);
      throw;
    }
  }

  ~NativeSeat() override { give_up(false); }

  driver::Descriptor take_one() {
    return seat_ == nullptr ? driver::kNoDescriptor : Acceptor::instance().take(*seat_);
  }

 private:
  using Info = const Napi::CallbackInfo&;

  void show_words() {
    const auto memory = show(Env(), seat_->words.get(), sizeof(driver::SeatWords), seat_->words);
    Value().As<Napi::Object>().Set("open", memory);
  }

  Napi::Value start(Info info) {
    if (seat_ == nullptr) return info.Env().Undefined();
    ready_ = Napi::Persistent(info[0].As<Napi::Function>());
    context_ = std::make_unique<Napi::AsyncContext>(info.Env(), "completion-port");
    return info.Env().Undefined();
  }

  void on_ready() {
    if (seat_ == nullptr || ready_.IsEmpty()) return;
    const napi_env env = Env();
    const Napi::HandleScope scope(env);
    napi_value result = nullptr;
    const Napi::Reference<Napi::Object> kept = Napi::Persistent(Value().As<Napi::Object>());
    const napi_status status = napi_make_callback(env, *context_, Napi::Env(env).Global(),
                                                  ready_.Value(), 0, nullptr, &result);
    if (status != napi_pending_exception) return;
    napi_value exception = nullptr;
    if (napi_get_and_clear_last_exception(env, &exception) == napi_ok) {
      napi_fatal_exception(env, exception);
    }
  }

  Napi::Value waits(Info info) {
    return Napi::Boolean::New(info.Env(), seat_ != nullptr && Acceptor::instance().waits(*seat_));
  }

  Napi::Value take(Info info) {
    return Napi::Number::New(info.Env(), static_cast<double>(take_one()));
  }

  Napi::Value closed(Info info) {
    return Napi::Boolean::New(info.Env(),
                              seat_ == nullptr || Acceptor::instance().closed(*seat_->listener));
  }

  Napi::Value ref(Info info) {
    if (seat_ != nullptr) bell_->ref();
    return info.Env().Undefined();
  }

  Napi::Value unref(Info info) {
    if (seat_ != nullptr) bell_->unref();
    return info.Env().Undefined();
  }

  Napi::Value leave(Info info) {
    give_up(false);
    return info.Env().Undefined();
  }

  static void on_cleanup(void* self) { static_cast<NativeSeat*>(self)->give_up(true); }

  /// `died`: with its environment.
  void give_up(bool died) {
    if (seat_ == nullptr) return;
    if (!died) {
      napi_remove_env_cleanup_hook(Env(), on_cleanup, this);
      ready_.Reset();
    }
    const std::shared_ptr<driver::Seat> seat = std::exchange(seat_, nullptr);
    Acceptor::instance().leave(*seat);
    std::exchange(bell_, nullptr)->close(died);
  }

  std::shared_ptr<driver::Seat> seat_;
  ThreadsafeBell* bell_ = nullptr;
  Napi::FunctionReference ready_;
  std::unique_ptr<Napi::AsyncContext> context_;
};

/// A hold on a shared listener, until `release` or the end of the environment.
class NativeListener final : public Napi::ObjectWrap<NativeListener> {
 public:
  static Napi::Function constructor(Napi::Env env) {
    return DefineClass(env, "NativeListener",
                       {InstanceMethod<&NativeListener::join>("join"),
                        InstanceMethod<&NativeListener::address>("address"),
                        InstanceMethod<&NativeListener::sample>("sample"),
                        InstanceMethod<&NativeListener::stats>("stats"),
                        InstanceMethod<&NativeListener::close>("close"),
                        InstanceMethod<&NativeListener::release>("release")});
  }

  /// Called with a number, or with what is to be made.
  explicit NativeListener(const Napi::CallbackInfo& info) : Napi::ObjectWrap<NativeListener>(info) {
    driver::Result error = 0;
    if (info[0].IsNumber()) {
      listener_ = Acceptor::instance().find(info[0].As<Napi::Number>().Uint32Value());
      error = -EBADF;
    } else {
      listener_ = make(info[0].As<Napi::Object>(), error);
    }
    if (listener_ == nullptr) throw system_error(info.Env(), error, "listen");
    try {
      Value().As<Napi::Object>().Set("id", static_cast<double>(Acceptor::id(*listener_)));
    } catch (...) {  // no destructor runs for an object whose constructor throws
      give_up();
      throw;
    }
  }

  ~NativeListener() override { give_up(); }

 private:
  using Info = const Napi::CallbackInfo&;

  /// The one of that name, or a new one: of threads that ask at one time the first one makes it.
  static std::shared_ptr<driver::SharedListener> make(const Napi::Object& from,
                                                      driver::Result& error) {
    static std::mutex one_at_a_time;
    const std::lock_guard lock(one_at_a_time);
    Acceptor& acceptor = Acceptor::instance();
    const std::string name = from.Get("name").As<Napi::String>().Utf8Value();
    if (!name.empty()) {
      if (auto found = acceptor.find(name)) return found;
    }
    // All that can be refused to a worker which is to end comes before there is a socket.
    const auto policy = static_cast<driver::AcceptPolicy>(number_of(from, "policy"));
    const std::string path = path_in(from);
    const driver::Result socket = open(from);
    error = socket;
    if (socket < 0) return nullptr;
    return acceptor.share(name, static_cast<driver::Descriptor>(socket), path, policy, error);
  }

  /// The file that the socket makes.
  static std::string path_in(const Napi::Object& from) {
    const Napi::Value address = from.Get("address");
    return address.IsString() ? file_of(address.As<Napi::String>().Utf8Value()) : std::string();
  }

  static driver::Result open(const Napi::Object& from) {
    if (from.Get("descriptor").IsNumber()) {
      return driver::share_listening_socket(static_cast<int>(number_of(from, "descriptor")));
    }
    driver::ListenOptions options;
    const auto port = static_cast<std::uint16_t>(number_of(from, "port"));
    const std::string address = from.Get("address").As<Napi::String>().Utf8Value();
    if (!parse_address(address, port, options.address)) return -EINVAL;
    options.backlog = static_cast<int>(number_of(from, "backlog"));
    options.reuse_port = from.Get("reusePort").ToBoolean();
    options.ipv6_only = from.Get("ipv6Only").ToBoolean();
    options.no_delay = false;  // the servers see to that themselves
    return driver::open_shared_socket(options);
  }

  template <typename Use>
  driver::Result with_socket(Use use) {
    if (listener_ == nullptr) return -EBADF;
    return Acceptor::instance().with_socket(*listener_, use);
  }

  Napi::Value join(Info info) {
    if (listener_ == nullptr) throw system_error(info.Env(), -EBADF, "listen");
    const auto external =
        Napi::External<std::shared_ptr<driver::SharedListener>>::New(info.Env(), &listener_);
    return info[0].As<Napi::Function>().New({external});
  }

  Napi::Value address(Info info) {
    driver::SocketAddress raw;
    NamedAddress named;
    const driver::Result found = with_socket(
        [&](driver::Descriptor socket) { return driver::address_of_listener(socket, raw); });
    if (found < 0) return info.Env().Undefined();
    if (!format_address(raw, named)) return info.Env().Undefined();
    Napi::Object out = Napi::Object::New(info.Env());
    out.Set("address", named.text);
    out.Set("port", static_cast<double>(named.port));
    out.Set("family", named.family);
    return out;
  }

  /// A socket like those that it accepts, which is the caller's.
  Napi::Value sample(Info info) {
    const driver::Result made = with_socket(driver::open_socket_like);
    return Napi::Number::New(info.Env(), static_cast<double>(made));
  }

  Napi::Value stats(Info info) {
    Napi::Object out = Napi::Object::New(info.Env());
    Acceptor::Stats stats;
    if (listener_ != nullptr) stats = Acceptor::instance().stats(*listener_);
    out.Set("threads", static_cast<double>(stats.threads));
    out.Set("connections", static_cast<double>(stats.open));
    out.Set("waiting", static_cast<double>(stats.waiting));
    out.Set("accepted", static_cast<double>(stats.accepted));
    out.Set("moved", static_cast<double>(stats.moved));
    return out;
  }

  Napi::Value close(Info info) {
    if (listener_ != nullptr) Acceptor::instance().close(*listener_);
    return info.Env().Undefined();
  }

  Napi::Value release(Info info) {
    give_up();
    return info.Env().Undefined();
  }

  void give_up() {
    if (listener_ == nullptr) return;
    const auto listener = std::exchange(listener_, nullptr);
    Acceptor::instance().release(*listener);
  }

  std::shared_ptr<driver::SharedListener> listener_;
};

}  // namespace

driver::Descriptor take_from(const Napi::Object& seat) {
  return NativeSeat::Unwrap(seat)->take_one();
}

void export_listeners(Napi::Env env, Napi::Object exports) {
  exports.Set("Listener", NativeListener::constructor(env));
  exports.Set("Seat", NativeSeat::constructor(env));
}

}  // namespace cp::addon
