#include "addon/seat_bell.h"

#include <utility>

namespace cp::addon {

/// As in threadsafe_notifier.cc: what rings is stopped by a hook that is added after this function.
ThreadsafeBell* ThreadsafeBell::make(napi_env env, std::function<void()> ready) {
  auto* bell = new ThreadsafeBell(env, std::move(ready));
  napi_value name = nullptr;
  napi_create_string_utf8(env, "completion-port", NAPI_AUTO_LENGTH, &name);
  const napi_status made = napi_create_threadsafe_function(
      env, nullptr, nullptr, name, 0, 1, nullptr, on_final, bell, on_call, &bell->function_);
  if (made != napi_ok) {
    delete bell;
    return nullptr;
  }
  bell->unref();
  return bell;
}

void ThreadsafeBell::ring() {
  if (std::exchange(rung_, true)) return;
  napi_call_threadsafe_function(function_, nullptr, napi_tsfn_nonblocking);
}

void ThreadsafeBell::close(bool died) {
  ready_ = nullptr;
  if (!died) napi_release_threadsafe_function(function_, napi_tsfn_abort);
}

void ThreadsafeBell::on_call(napi_env env, napi_value, void* context, void*) {
  if (env == nullptr) return;
  const std::function<void()> ready =
      static_cast<ThreadsafeBell*>(context)->ready_;  // it may close it
  if (ready) ready();
}

}  // namespace cp::addon
