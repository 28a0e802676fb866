// Listeners of several threads with servers of Node.js, for lib/native/binding.ts.
#pragma once

#include <napi.h>

#include "driver/driver.h"

namespace cp::addon {

void export_listeners(Napi::Env env, Napi::Object exports);

/// What `take` of a NativeSeat has, the object given.
driver::Descriptor take_from(const Napi::Object& seat);

}  // namespace cp::addon
