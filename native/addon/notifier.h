// Tells JavaScript, on its event loop, that there may be packets: the lane's descriptor watched by
// libuv, or, where there is none or libuv's functions are unavailable, the lane by a thread.
#pragma once

#include <napi.h>

#include <functional>
#include <memory>

#include "driver/driver.h"

namespace cp::addon {

class Notifier {
 public:
  virtual ~Notifier() = default;
  virtual void ref() = 0;
  virtual void unref() = 0;
  /// JavaScript has been to the lane and found nothing more: it will sleep.
  virtual void rearm() = 0;
  /// No call comes after this. Frees the notifier when its event loop allows.
  virtual void close() = 0;
};

/// `ready` is called on the event loop, inside a handle scope. Null when libuv's functions are
/// missing or refuse the descriptor.
Notifier* make_uv_notifier(napi_env env, int descriptor, std::function<void()> ready);

/// One thread waits; one call of a thread-safe function tells of any number of completions. The
/// next comes only after `rearm`.
Notifier* make_threadsafe_notifier(napi_env env, driver::Lane& lane, std::function<void()> ready);

}  // namespace cp::addon
