// Tells a thread's JavaScript, on its event loop, that a connection of a shared listener waits.
#pragma once

#include <functional>
#include <utility>

#include "addon/threadsafe_call.h"
#include "driver/acceptor.h"

namespace cp::addon {

class ThreadsafeBell final : public ThreadsafeCall, public driver::SeatBell {
 public:
  /// `ready` is called on the event loop, once for each `ring` after a `silence`. Null where
  /// Node-API refuses. The environment's cleanup hooks that are added later run while it may still
  /// be rung.
  static ThreadsafeBell* make(napi_env env, std::function<void()> ready) {
    auto* bell = new ThreadsafeBell(env, std::move(ready));
    if (bell->open()) return bell;
    delete bell;
    return nullptr;
  }

  void ring() override {
    if (!std::exchange(rung_, true)) call();
  }
  void silence() override { rung_ = false; }
  /// No call comes after this, and nobody rings any more. Where the environment has `died`, what
  /// remains goes with it.
  void close(bool died) {
    silence_for_good();
    if (!died) release();
  }

 private:
  ThreadsafeBell(napi_env env, std::function<void()> ready)
      : ThreadsafeCall(env, std::move(ready)) {}
  ~ThreadsafeBell() override = default;

  bool rung_ = false;  ///< guarded by the acceptor's lock
};

}  // namespace cp::addon
