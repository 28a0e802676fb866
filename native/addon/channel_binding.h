// The ends that an environment has of queues between threads: what lib/native/binding.ts calls
// NativeChannels.
#pragma once

#include <napi.h>

namespace cp::addon {

/// Called with a function for `tell`, a Float64Array in which items lie, and a Uint8Array for the
/// bytes of those that are no longer than it.
Napi::Value make_channels(const Napi::CallbackInfo& info);

}  // namespace cp::addon
