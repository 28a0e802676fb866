// A lane, watched by a thread that wakes JavaScript through a thread-safe function.
#include <memory>
#include <system_error>
#include <thread>
#include <utility>

#include "addon/notifier.h"
#include "addon/watch.h"

namespace cp::addon {
namespace {

/// Order matters (it crashes or hangs otherwise on one Node version or another): the thread-safe
/// function is made first and the cleanup hook second, so that the hook, which stops and joins the
/// thread, runs first; the function's callback returns at once when its environment is gone; this
/// object is freed in the function's finalizer and nowhere else.
class ThreadsafeNotifier final : public Notifier {
 public:
  ThreadsafeNotifier(napi_env env, std::unique_ptr<Watch> watch, std::function<void()> ready)
      : env_(env), watch_(std::move(watch)), ready_(std::move(ready)) {}

  bool open() {
    napi_value name = nullptr;
    napi_create_string_utf8(env_, "completion-port", NAPI_AUTO_LENGTH, &name);
    const napi_status made = napi_create_threadsafe_function(
        env_, nullptr, nullptr, name, 0, 1, nullptr, on_final, this, on_call, &function_);
    if (made != napi_ok) return false;
    napi_unref_threadsafe_function(env_, function_);
    napi_add_env_cleanup_hook(env_, on_cleanup, this);
    try {
      thread_ = std::thread([this] { watch(); });
    } catch (const std::system_error&) {
      napi_remove_env_cleanup_hook(env_, on_cleanup, this);
      closed_ = true;
      napi_release_threadsafe_function(function_, napi_tsfn_abort);
      return false;
    }
    return true;
  }

  /// From when on the function's finalizer frees this.
  bool owned_by_function() const { return function_ != nullptr; }

  void ref() override { napi_ref_threadsafe_function(env_, function_); }
  void unref() override { napi_unref_threadsafe_function(env_, function_); }

  void rearm() override { watch_->rearm(); }

  void close() override {
    if (closed_) return;
    napi_remove_env_cleanup_hook(env_, on_cleanup, this);
    stop();
    napi_release_threadsafe_function(function_, napi_tsfn_abort);
  }

 private:
  void stop() {
    if (closed_) return;
    closed_ = true;
    ready_ = nullptr;
    watch_->stop();
    thread_.join();
  }

  void watch() {
    while (watch_->wait()) {
      const napi_status status =
          napi_call_threadsafe_function(function_, nullptr, napi_tsfn_nonblocking);
      if (status == napi_closing) return;
    }
  }

  static void on_call(napi_env env, napi_value, void* context, void*) {
    if (env == nullptr) return;
    auto* self = static_cast<ThreadsafeNotifier*>(context);
    const std::function<void()> ready = self->ready_;
    if (ready) ready();
  }
  static void on_cleanup(void* self) { static_cast<ThreadsafeNotifier*>(self)->stop(); }
  static void on_final(napi_env, void*, void* context) {
    delete static_cast<ThreadsafeNotifier*>(context);
  }

  napi_env env_;
  const std::unique_ptr<Watch> watch_;
  std::function<void()> ready_;
  napi_threadsafe_function function_ = nullptr;
  std::thread thread_;
  bool closed_ = false;
};

}  // namespace

Notifier* make_threadsafe_notifier(napi_env env, driver::Lane& lane, std::function<void()> ready) {
  std::unique_ptr<Watch> watch = make_watch(lane);
  if (!watch) return nullptr;
  auto* notifier = new ThreadsafeNotifier(env, std::move(watch), std::move(ready));
  if (notifier->open()) return notifier;
  if (!notifier->owned_by_function()) delete notifier;
  return nullptr;
}

}  // namespace cp::addon
