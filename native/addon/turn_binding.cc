#include "addon/turn_binding.h"

#include <cstdint>

#include "port/turns.h"

namespace cp::addon {
namespace {

using Info = const Napi::CallbackInfo&;

/// The calling environment in the line. A thread-safe function wakes its event loop, once for each
/// turn that comes while it waits for one.
///
/// As in threadsafe_notifier.cc the function is made first and the cleanup hook second, so that the
/// hook runs first: after it nobody calls the function. The function's finalizer frees this.
class ThreadTurns final : public TurnTaker {
 public:
  bool open(Napi::Env env, Napi::Function granted) {
    env_ = env;
    const napi_value name = Napi::String::New(env, "completion-port turns");
    const napi_status made = napi_create_threadsafe_function(
        env, granted, nullptr, name, 0, 1, nullptr, on_final, this, on_call, &function_);
    if (made != napi_ok) return false;
    napi_unref_threadsafe_function(env, function_);
    napi_add_env_cleanup_hook(env, on_cleanup, this);
    return true;
  }

  void ref() { napi_ref_threadsafe_function(env_, function_); }
  void unref() { napi_unref_threadsafe_function(env_, function_); }

 private:
  bool grant(std::uint32_t ticket) override {
    void* const data = reinterpret_cast<void*>(static_cast<std::uintptr_t>(ticket));
    return napi_call_threadsafe_function(function_, data, napi_tsfn_nonblocking) == napi_ok;
  }

  static void on_call(napi_env env, napi_value granted, void*, void* data) {
    if (env == nullptr) return;
    napi_value receiver = nullptr;
    napi_value ticket = nullptr;
    napi_get_undefined(env, &receiver);
    const auto number = static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(data));
    napi_create_uint32(env, number, &ticket);
    napi_call_function(env, receiver, granted, 1, &ticket, nullptr);
  }

  /// The environment ends: what it has of the line goes to the others.
  static void on_cleanup(void* self) { Turns::instance().leave(*static_cast<ThreadTurns*>(self)); }
  static void on_final(napi_env, void*, void* self) { delete static_cast<ThreadTurns*>(self); }

  napi_env env_ = nullptr;
  napi_threadsafe_function function_ = nullptr;
};

ThreadTurns& self(Info info) { return *static_cast<ThreadTurns*>(info.Data()); }

std::uint32_t ticket(Info info) { return info[0].As<Napi::Number>().Uint32Value(); }

Napi::Value ask(Info info) {
  return Napi::Boolean::New(info.Env(), Turns::instance().ask(self(info), ticket(info)));
}

Napi::Value leave(Info info) {
  Turns::instance().leave(self(info), ticket(info));
  return info.Env().Undefined();
}

Napi::Value ref(Info info) {
  self(info).ref();
  return info.Env().Undefined();
}

Napi::Value unref(Info info) {
  self(info).unref();
  return info.Env().Undefined();
}

}  // namespace

Napi::Value make_turns(Info info) {
  const Napi::Env env = info.Env();
  auto* const turns = new ThreadTurns;
  if (!turns->open(env, info[0].As<Napi::Function>())) {
    delete turns;
    throw Napi::Error::New(env, "No event loop to attach to");
  }
  Napi::Object out = Napi::Object::New(env);
  const auto add = [&](const char* name, Napi::Value (*function)(Info)) {
    out.Set(name, Napi::Function::New(env, function, name, turns));
  };
  add("ask", ask);
  add("leave", leave);
  add("ref", ref);
  add("unref", unref);
  return out;
}

}  // namespace cp::addon
