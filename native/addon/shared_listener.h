// Listeners of several threads with servers of Node.js, for lib/native/binding.ts.
#pragma once

#include <napi.h>

namespace cp::addon {

void export_listeners(Napi::Env env, Napi::Object exports);

}  // namespace cp::addon
