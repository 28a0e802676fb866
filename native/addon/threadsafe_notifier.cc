// The lane's descriptor, watched by a thread that wakes JavaScript through a thread-safe function.
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <system_error>
#include <thread>
#include <utility>

#include "addon/notifier.h"

namespace cp::addon {
namespace {

/// Order matters (it crashes or hangs otherwise on one Node version or another): the thread-safe
/// function is made first and the cleanup hook second, so that the hook, which stops and joins the
/// thread, runs first; the function's callback returns at once when its environment is gone; this
/// object is freed in the function's finalizer and nowhere else.
class ThreadsafeNotifier final : public Notifier {
 public:
  ThreadsafeNotifier(napi_env env, int descriptor, std::function<void()> ready)
      : env_(env), descriptor_(descriptor), ready_(std::move(ready)) {}

  bool open() {
    rearm_fd_ = eventfd(0, EFD_CLOEXEC);
    if (rearm_fd_ < 0) return false;
    napi_value name = nullptr;
    napi_create_string_utf8(env_, "completion-port", NAPI_AUTO_LENGTH, &name);
    const napi_status made = napi_create_threadsafe_function(
        env_, nullptr, nullptr, name, 0, 1, nullptr, on_final, this, on_call, &function_);
    if (made != napi_ok) {
      ::close(rearm_fd_);
      return false;
    }
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

  void rearm() override {
    if (!told_.exchange(false)) return;
    write_one();
  }

  void close() override {
    if (closed_) return;
    napi_remove_env_cleanup_hook(env_, on_cleanup, this);
    stop();
    napi_release_threadsafe_function(function_, napi_tsfn_abort);
  }

 private:
  void write_one() {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = write(rearm_fd_, &one, sizeof one);
  }

  void stop() {
    if (closed_) return;
    closed_ = true;
    ready_ = nullptr;
    stopping_.store(true);
    write_one();
    thread_.join();
  }

  /// Waits for the descriptor, tells, and does not look again before JavaScript has been there.
  void watch() {
    while (!stopping_.load()) {
      pollfd descriptors[2] = {{descriptor_, POLLIN, 0}, {rearm_fd_, POLLIN, 0}};
      const bool told = told_.load();
      if (told) descriptors[0].fd = -1;
      if (poll(descriptors, 2, -1) < 0 && errno != EINTR) return;
      if (descriptors[1].revents != 0) {
        std::uint64_t count = 0;
        [[maybe_unused]] const ssize_t got = read(rearm_fd_, &count, sizeof count);
        continue;
      }
      if (told || descriptors[0].revents == 0) continue;
      told_.store(true);
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
    auto* self = static_cast<ThreadsafeNotifier*>(context);
    ::close(self->rearm_fd_);
    delete self;
  }

  napi_env env_;
  const int descriptor_;
  std::function<void()> ready_;
  int rearm_fd_ = -1;
  napi_threadsafe_function function_ = nullptr;
  std::thread thread_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> told_{false};
  bool closed_ = false;
};

}  // namespace

Notifier* make_threadsafe_notifier(napi_env env, int descriptor, std::function<void()> ready) {
  auto* notifier = new ThreadsafeNotifier(env, descriptor, std::move(ready));
  if (notifier->open()) return notifier;
  if (!notifier->owned_by_function()) delete notifier;
  return nullptr;
}

}  // namespace cp::addon
