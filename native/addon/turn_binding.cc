#include "addon/turn_binding.h"

#include <cstdint>

#include "addon/ticket_function.h"
#include "port/turns.h"

namespace cp::addon {
namespace {

using Info = const Napi::CallbackInfo&;

/// The calling environment in the line. A thread-safe function wakes its event loop, once for each
/// turn that comes while it waits for one.
class ThreadTurns final : public TurnTaker {
 public:
  bool open(Napi::Env env, Napi::Function granted) {
    if (!function_.make(env, granted, "completion-port turns", this, on_final)) return false;
    napi_add_env_cleanup_hook(env, on_cleanup, this);
    return true;
  }

  void ref() { function_.ref(); }
  void unref() { function_.unref(); }

 private:
  bool grant(std::uint32_t ticket) override { return function_.call(ticket); }

  /// The environment ends: what it has of the line goes to the others.
  static void on_cleanup(void* self) { Turns::instance().leave(*static_cast<ThreadTurns*>(self)); }
  static void on_final(napi_env, void*, void* self) { delete static_cast<ThreadTurns*>(self); }

  TicketFunction function_;
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
