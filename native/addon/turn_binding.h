// Turns of the process for lib/native/binding.ts: what NativeTurns is there.
#pragma once

#include <napi.h>

namespace cp::addon {

/// Called with the function that is told of a ticket whose turn has come, on the event loop.
Napi::Value make_turns(const Napi::CallbackInfo& info);

}  // namespace cp::addon
