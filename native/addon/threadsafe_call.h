// A function on the event loop that any thread may have called.
#pragma once

#include <napi.h>

#include <functional>
#include <utility>

namespace cp::addon {

/// The base of what tells JavaScript something from another thread. Order matters (it crashes or
/// hangs otherwise on one Node version or another): the thread-safe function is made first and the
/// cleanup hook of whoever calls it second, so that the hook, which stops the calls, runs first;
/// the function's callback returns at once when its environment is gone; this object is freed in
/// the function's finalizer and nowhere else.
class ThreadsafeCall {
 public:
  ThreadsafeCall(const ThreadsafeCall&) = delete;
  ThreadsafeCall& operator=(const ThreadsafeCall&) = delete;

  void ref() { napi_ref_threadsafe_function(env_, function_); }
  void unref() { napi_unref_threadsafe_function(env_, function_); }

 protected:
  /// `ready` is called on the event loop, inside a handle scope.
  ThreadsafeCall(napi_env env, std::function<void()> ready) : env_(env), ready_(std::move(ready)) {}
  virtual ~ThreadsafeCall() = default;

  /// The event loop does not wait for it. False where Node-API refuses: then nothing frees this.
  bool open() {
    napi_value name = nullptr;
    napi_create_string_utf8(env_, "completion-port", NAPI_AUTO_LENGTH, &name);
    const napi_status made = napi_create_threadsafe_function(
        env_, nullptr, nullptr, name, 0, 1, nullptr, on_final, this, on_call, &function_);
    if (made != napi_ok) return false;
    unref();
    return true;
  }

  /// Any thread. False when the environment ends.
  bool call() {
    return napi_call_threadsafe_function(function_, nullptr, napi_tsfn_nonblocking) != napi_closing;
  }

  /// No call comes after this, on the event loop's thread.
  void silence_for_good() { ready_ = nullptr; }
  /// Nobody calls any more. An environment that has died takes the function with it.
  void release() { napi_release_threadsafe_function(function_, napi_tsfn_abort); }

  napi_env env() const { return env_; }

 private:
  static void on_call(napi_env env, napi_value, void* context, void*) {
    if (env == nullptr) return;
    const std::function<void()> ready = static_cast<ThreadsafeCall*>(context)->ready_;  // may close
    if (ready) ready();
  }
  static void on_final(napi_env, void*, void* context) {
    delete static_cast<ThreadsafeCall*>(context);
  }

  const napi_env env_;
  std::function<void()> ready_;
  napi_threadsafe_function function_ = nullptr;
};

}  // namespace cp::addon
