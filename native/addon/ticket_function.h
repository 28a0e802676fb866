// A function of JavaScript that any thread has called, with the number of what is over.
#pragma once

#include <napi.h>

#include <cstdint>

namespace cp::addon {

/// As in threadsafe_call.h it is made first and its owner's cleanup hook second, so that the
/// hook runs first: after it nobody calls the function. `on_final` frees the owner.
class TicketFunction {
 public:
  bool make(Napi::Env env, Napi::Function function, const char* name, void* owner,
            napi_finalize on_final) {
    env_ = env;
    const napi_value shown = Napi::String::New(env, name);
    const napi_status made = napi_create_threadsafe_function(
        env, function, nullptr, shown, 0, 1, nullptr, on_final, owner, on_call, &function_);
    if (made != napi_ok) return false;
    unref();
    return true;
  }

  void ref() { napi_ref_threadsafe_function(env_, function_); }
  void unref() { napi_unref_threadsafe_function(env_, function_); }

  /// Any thread. False: the environment takes no calls any more.
  bool call(std::uint32_t ticket) {
    void* const data = reinterpret_cast<void*>(static_cast<std::uintptr_t>(ticket));
    return napi_call_threadsafe_function(function_, data, napi_tsfn_nonblocking) == napi_ok;
  }

 private:
  static void on_call(napi_env env, napi_value function, void*, void* data) {
    if (env == nullptr) return;
    napi_value receiver = nullptr;
    napi_value ticket = nullptr;
    napi_get_undefined(env, &receiver);
    const auto number = static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(data));
    napi_create_uint32(env, number, &ticket);
    napi_call_function(env, receiver, function, 1, &ticket, nullptr);
  }

  napi_env env_ = nullptr;
  napi_threadsafe_function function_ = nullptr;
};

}  // namespace cp::addon
