// Streams of bytes that tests of several connections tell apart.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "member.h"

namespace cp::test {

inline constexpr std::int64_t kMillisecond = 1'000'000;

/// The n-th byte of a stream nobody else sends.
inline char byte_at(std::size_t stream, std::size_t n) {
  return static_cast<char>((n * 131 + n / 251 + stream * 17) & 0xff);
}
inline std::string part(std::size_t stream, std::size_t from, std::size_t length) {
  std::string bytes(length, '\0');
  for (std::size_t i = 0; i < length; ++i) bytes[i] = byte_at(stream, from + i);
  return bytes;
}

}  // namespace cp::test
