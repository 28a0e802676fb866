#include "addon/linux_listener.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <cerrno>
#include <memory>
#include <string>
#include <utility>

#include "addon/address.h"
#include "addon/notifier.h"
#include "driver/linux/acceptor.h"
#include "driver/linux/socket.h"

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
    seat_ = *info[0].As<Napi::External<std::shared_ptr<driver::Seat>>>().Data();
    auto* words = new std::shared_ptr<driver::SeatWords>(seat_->words);
    const auto memory = Napi::ArrayBuffer::New(
        info.Env(), words->get(), sizeof(driver::SeatWords),
        [](Napi::Env, void*, std::shared_ptr<driver::SeatWords>* kept) { delete kept; }, words);
    Value().As<Napi::Object>().Set("open", memory);
    napi_add_env_cleanup_hook(info.Env(), on_cleanup, this);
    hooked_ = true;
  }

  ~NativeSeat() override { give_up(false); }

 private:
  using Info = const Napi::CallbackInfo&;

  Napi::Value start(Info info) {
    if (seat_ == nullptr) return info.Env().Undefined();
    ready_ = Napi::Persistent(info[0].As<Napi::Function>());
    context_ = std::make_unique<Napi::AsyncContext>(info.Env(), "completion-port");
    notifier_ = make_uv_notifier(info.Env(), seat_->notifier, [this] { on_ready(); });
    if (notifier_ == nullptr) throw system_error(info.Env(), -ENOTSUP, "listen");
    return info.Env().Undefined();
  }

  void on_ready() {
    if (seat_ == nullptr) return;
    const napi_env env = Env();
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
    return Napi::Number::New(info.Env(), seat_ == nullptr ? -1 : Acceptor::instance().take(*seat_));
  }

  Napi::Value closed(Info info) {
    return Napi::Boolean::New(info.Env(),
                              seat_ == nullptr || Acceptor::instance().closed(*seat_->listener));
  }

  Napi::Value ref(Info info) {
    if (notifier_ != nullptr) notifier_->ref();
    return info.Env().Undefined();
  }

  Napi::Value unref(Info info) {
    if (notifier_ != nullptr) notifier_->unref();
    return info.Env().Undefined();
  }

  Napi::Value leave(Info info) {
    give_up(false);
    return info.Env().Undefined();
  }

  static void on_cleanup(void* self) {
    auto* seat = static_cast<NativeSeat*>(self);
    seat->hooked_ = false;
    seat->give_up(true);
  }

  /// The notifier stops looking at the descriptor before that is closed. With the environment
  /// (`died`) it goes by a hook of its own, which was added later and so has run by now.
  void give_up(bool died) {
    if (seat_ == nullptr) return;
    if (hooked_) napi_remove_env_cleanup_hook(Env(), on_cleanup, this);
    hooked_ = false;
    if (notifier_ != nullptr && !died) notifier_->close();
    notifier_ = nullptr;
    const std::shared_ptr<driver::Seat> seat = std::exchange(seat_, nullptr);
    Acceptor::instance().leave(*seat);
  }

  std::shared_ptr<driver::Seat> seat_;
  Notifier* notifier_ = nullptr;
  Napi::FunctionReference ready_;
  std::unique_ptr<Napi::AsyncContext> context_;
  bool hooked_ = false;
};

/// A hold on a shared listener, until `release` or the end of the environment.
class NativeListener final : public Napi::ObjectWrap<NativeListener> {
 public:
  static Napi::Function constructor(Napi::Env env) {
    return DefineClass(env, "NativeListener",
                       {InstanceMethod<&NativeListener::join>("join"),
                        InstanceMethod<&NativeListener::address>("address"),
                        InstanceMethod<&NativeListener::duplicate>("duplicate"),
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
    Value().As<Napi::Object>().Set("id", static_cast<double>(Acceptor::id(*listener_)));
  }

  ~NativeListener() override { give_up(); }

 private:
  using Info = const Napi::CallbackInfo&;

  /// The one of that name, or a new one. Another thread may make it meanwhile.
  static std::shared_ptr<driver::SharedListener> make(const Napi::Object& from,
                                                      driver::Result& error) {
    Acceptor& acceptor = Acceptor::instance();
    const std::string name = from.Get("name").As<Napi::String>().Utf8Value();
    if (!name.empty()) {
      if (auto found = acceptor.find(name)) return found;
    }
    const driver::Result socket = open(from);
    if (socket >= 0) {
      const auto policy = static_cast<driver::AcceptPolicy>(number_of(from, "policy"));
      return acceptor.share(name, static_cast<int>(socket), path_in(from), policy, error);
    }
    error = socket;
    return name.empty() ? nullptr : acceptor.find(name);
  }

  /// The file that the socket makes.
  static std::string path_in(const Napi::Object& from) {
    const Napi::Value address = from.Get("address");
    return address.IsString() ? file_of(address.As<Napi::String>().Utf8Value()) : std::string();
  }

  static driver::Result open(const Napi::Object& from) {
    if (from.Get("descriptor").IsNumber()) {
      const int descriptor = static_cast<int>(number_of(from, "descriptor"));
      driver::SocketKind kind;
      const driver::Result copy = driver::duplicate_socket(descriptor, kind);
      if (copy < 0 || (kind.listens && !kind.messages)) return copy;
      driver::close_file(copy);
      // Node.js makes streams of what it accepts.
      return kind.messages ? -ENOTSUP : -EINVAL;
    }
    driver::ListenOptions options;
    const auto port = static_cast<std::uint16_t>(number_of(from, "port"));
    if (!parse_address(from.Get("address").As<Napi::String>().Utf8Value(), port, options.address)) {
      return -EINVAL;
    }
    options.backlog = static_cast<int>(number_of(from, "backlog"));
    options.reuse_port = from.Get("reusePort").ToBoolean();
    options.ipv6_only = from.Get("ipv6Only").ToBoolean();
    options.no_delay = false;  // the servers see to that themselves
    return driver::open_listener(options);
  }

  template <typename Use>
  driver::Result with_socket(Use use) {
    if (listener_ == nullptr) return -EBADF;
    return Acceptor::instance().with_socket(*listener_, use);
  }

  Napi::Value join(Info info) {
    driver::Result error = -EBADF;
    std::shared_ptr<driver::Seat> seat;
    if (listener_ != nullptr) seat = Acceptor::instance().join(listener_, error);
    if (seat == nullptr) throw system_error(info.Env(), error, "listen");
    const auto external = Napi::External<std::shared_ptr<driver::Seat>>::New(info.Env(), &seat);
    return info[0].As<Napi::Function>().New({external});
  }

  Napi::Value address(Info info) {
    driver::SocketAddress raw;
    NamedAddress named;
    const driver::Result found =
        with_socket([&](int socket) { return driver::socket_address(socket, false, raw); });
    if (found < 0) return info.Env().Undefined();
    if (!format_address(raw, named)) return info.Env().Undefined();
    Napi::Object out = Napi::Object::New(info.Env());
    out.Set("address", named.text);
    out.Set("port", static_cast<double>(named.port));
    out.Set("family", named.family);
    return out;
  }

  /// Another descriptor of the socket, which is the caller's.
  Napi::Value duplicate(Info info) {
    const driver::Result copy = with_socket([](int socket) {
      driver::SocketKind kind;
      return driver::duplicate_socket(socket, kind);
    });
    return Napi::Number::New(info.Env(), static_cast<double>(copy));
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

void export_listeners(Napi::Env env, Napi::Object exports) {
  exports.Set("Listener", NativeListener::constructor(env));
  exports.Set("Seat", NativeSeat::constructor(env));
}

}  // namespace cp::addon
