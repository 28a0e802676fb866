// A word of memory that native threads share with JavaScript, and that lives as long as either of
// them looks at it.
#pragma once

#include <cstdint>
#include <memory>

namespace cp {

/// Alone in its cache line: others read it for each message.
struct alignas(64) SharedWord {
  std::uint32_t value = 0;
  char padding[60] = {};
};

using SharedWordKeeper = std::shared_ptr<SharedWord>;

}  // namespace cp
