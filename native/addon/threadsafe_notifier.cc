// A lane, watched by a thread that wakes JavaScript through a thread-safe function.
#include <memory>
#include <system_error>
#include <thread>
#include <utility>

#include "addon/notifier.h"
#include "addon/threadsafe_call.h"
#include "addon/watch.h"

namespace cp::addon {
namespace {

class ThreadsafeNotifier final : public ThreadsafeCall, public Notifier {
 public:
  /// Null where Node-API or the system refuses.
  static ThreadsafeNotifier* make(napi_env env, std::unique_ptr<Watch> watch,
                                  std::function<void()> ready) {
    auto* notifier = new ThreadsafeNotifier(env, std::move(watch), std::move(ready));
    if (!notifier->open()) {
      delete notifier;
      return nullptr;
    }
    return notifier->begin() ? notifier : nullptr;
  }

  void ref() override { ThreadsafeCall::ref(); }
  void unref() override { ThreadsafeCall::unref(); }

  void rearm() override { watch_->rearm(); }

  void close() override {
    if (closed_) return;
    napi_remove_env_cleanup_hook(env(), on_cleanup, this);
    stop();
    release();
  }

 private:
  ThreadsafeNotifier(napi_env env, std::unique_ptr<Watch> watch, std::function<void()> ready)
      : ThreadsafeCall(env, std::move(ready)), watch_(std::move(watch)) {}
  ~ThreadsafeNotifier() override = default;

  bool begin() {
    napi_add_env_cleanup_hook(env(), on_cleanup, this);
    try {
      thread_ = std::thread([this] { watch(); });
    } catch (const std::system_error&) {
      napi_remove_env_cleanup_hook(env(), on_cleanup, this);
      closed_ = true;
      release();
      return false;
    }
    return true;
  }

  void stop() {
    if (closed_) return;
    closed_ = true;
    silence_for_good();
    watch_->stop();
    thread_.join();
  }

  void watch() {
    while (watch_->wait()) {
      if (!call()) return;
    }
  }

  static void on_cleanup(void* self) { static_cast<ThreadsafeNotifier*>(self)->stop(); }

  const std::unique_ptr<Watch> watch_;
  std::thread thread_;
  bool closed_ = false;
};

}  // namespace

Notifier* make_threadsafe_notifier(napi_env env, driver::Lane& lane, std::function<void()> ready) {
  std::unique_ptr<Watch> watch = make_watch(lane);
  if (!watch) return nullptr;
  return ThreadsafeNotifier::make(env, std::move(watch), std::move(ready));
}

}  // namespace cp::addon
