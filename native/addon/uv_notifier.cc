// The lane's descriptor, watched by Node's own event loop.
#include <utility>

#include "addon/notifier.h"

#ifdef _WIN32

namespace cp::addon {
Notifier* make_uv_notifier(napi_env, int, std::function<void()>) { return nullptr; }
}  // namespace cp::addon

#else

#include <dlfcn.h>

#include <cstdlib>

namespace cp::addon {
namespace {

// libuv 1.x keeps these stable; looked up at run time, because hosts other than Node lack them.
struct Uv {
  std::size_t (*handle_size)(int type);
  int (*poll_init)(void* loop, void* handle, int fd);
  int (*poll_start)(void* handle, int events, void (*callback)(void*, int, int));
  void (*close)(void* handle, void (*callback)(void*));
  void (*ref)(void* handle);
  void (*unref)(void* handle);
  void* (*get_data)(const void* handle);
  void (*set_data)(void* handle, void* data);
};
constexpr int kUvPoll = 8;      // UV_POLL
constexpr int kUvReadable = 1;  // UV_READABLE

template <typename Function>
bool look_up(Function& function, const char* name) {
  function = reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, name));
  return function != nullptr;
}

const Uv* libuv() {
  static const Uv* const found = []() -> const Uv* {
    static Uv uv{};
    const bool all =
        look_up(uv.handle_size, "uv_handle_size") && look_up(uv.poll_init, "uv_poll_init") &&
        look_up(uv.poll_start, "uv_poll_start") && look_up(uv.close, "uv_close") &&
        look_up(uv.ref, "uv_ref") && look_up(uv.unref, "uv_unref") &&
        look_up(uv.get_data, "uv_handle_get_data") && look_up(uv.set_data, "uv_handle_set_data");
    return all ? &uv : nullptr;
  }();
  return found;
}

/// A libuv handle must be closed, and its close callback run, before its loop goes: the
/// asynchronous cleanup hook makes Node wait for it.
class UvNotifier final : public Notifier {
 public:
  UvNotifier(napi_env env, std::function<void()> ready) : env_(env), ready_(std::move(ready)) {}

  bool open(int descriptor) {
    uv_loop_s* loop = nullptr;
    if (napi_get_uv_event_loop(env_, &loop) != napi_ok) return false;
    handle_ = std::calloc(1, libuv()->handle_size(kUvPoll));
    if (handle_ == nullptr) return false;
    if (libuv()->poll_init(loop, handle_, descriptor) != 0) {
      std::free(handle_);
      return false;
    }
    libuv()->set_data(handle_, this);
    libuv()->unref(handle_);
    napi_add_async_cleanup_hook(env_, on_cleanup, this, &hook_);
    libuv()->poll_start(handle_, kUvReadable, on_readable);
    return true;
  }

  void ref() override { libuv()->ref(handle_); }
  void unref() override { libuv()->unref(handle_); }
  void rearm() override {}

  void close() override {
    if (closing_) return;
    closing_ = true;
    ready_ = nullptr;
    libuv()->close(handle_, on_closed);
  }

 private:
  static void on_readable(void* handle, int, int) {
    auto* self = static_cast<UvNotifier*>(libuv()->get_data(handle));
    if (!self->ready_) return;
    Napi::HandleScope scope(self->env_);
    const std::function<void()> ready = self->ready_;  // it may close this notifier
    ready();
  }
  static void on_cleanup(napi_async_cleanup_hook_handle, void* self) {
    static_cast<UvNotifier*>(self)->close();
  }
  static void on_closed(void* handle) {
    auto* self = static_cast<UvNotifier*>(libuv()->get_data(handle));
    if (self->hook_ != nullptr) napi_remove_async_cleanup_hook(self->hook_);
    std::free(handle);
    delete self;
  }

  napi_env env_;
  std::function<void()> ready_;
  void* handle_ = nullptr;
  napi_async_cleanup_hook_handle hook_ = nullptr;
  bool closing_ = false;
};

}  // namespace

Notifier* make_uv_notifier(napi_env env, int descriptor, std::function<void()> ready) {
  if (libuv() == nullptr || descriptor < 0) return nullptr;
  auto* notifier = new UvNotifier(env, std::move(ready));
  if (notifier->open(descriptor)) return notifier;
  delete notifier;
  return nullptr;
}

}  // namespace cp::addon

#endif
