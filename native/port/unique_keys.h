// Keys that the library gives to handles: unlike those of all other handles of the process, so that
// a handle keeps its key when it goes to another port (rule A2).
#pragma once

#include <cstdint>

namespace cp {

/// From 2^31 up, so that small numbers are the program's. No key comes back before all others have
/// been given, 2^31 of them, and then not while a handle has it.
std::uint32_t unique_key();

/// For tests: the calling thread takes its next keys as if so many ranges had been used up.
void skip_key_ranges(std::uint32_t ranges);
inline constexpr std::uint32_t kKeysInRange = 4096;
/// The last range is left out: its last key is that of a pipeline's listeners.
inline constexpr std::uint32_t kKeyRanges = (1u << 31) / kKeysInRange - 1;

}  // namespace cp
