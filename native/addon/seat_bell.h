// Tells a thread's JavaScript, on its event loop, that a connection of a shared listener waits.
#pragma once

#include <napi.h>

#include <functional>

#include "driver/acceptor.h"

namespace cp::addon {

class ThreadsafeBell final : public driver::SeatBell {
 public:
  /// `ready` is called on the event loop, once for each `ring` after a `silence`. Null where
  /// Node-API refuses. The environment's cleanup hooks that are added later run while it may still
  /// be rung.
  static ThreadsafeBell* make(napi_env env, std::function<void()> ready);

  void ring() override;
  void silence() override { rung_ = false; }
  void ref() { napi_ref_threadsafe_function(env_, function_); }
  void unref() { napi_unref_threadsafe_function(env_, function_); }
  /// No call comes after this, and nobody rings any more. Where the environment has `died`, what
  /// remains goes with it.
  void close(bool died);

 private:
  ThreadsafeBell(napi_env env, std::function<void()> ready) : env_(env), ready_(std::move(ready)) {}
  ~ThreadsafeBell() = default;
  static void on_call(napi_env env, napi_value, void* context, void*);
  /// Nowhere else is it freed.
  static void on_final(napi_env, void*, void* context) {
    delete static_cast<ThreadsafeBell*>(context);
  }

  napi_env env_;
  std::function<void()> ready_;
  napi_threadsafe_function function_ = nullptr;
  bool rung_ = false;  ///< guarded by the acceptor's lock
};

}  // namespace cp::addon
