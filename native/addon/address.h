// Numeric addresses, between text and what the driver takes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "driver/operation.h"

namespace cp::addon {

/// False when `text` is not a numeric IPv4 or IPv6 address (with a scope that there is, as
/// fe80::1%eth0 or fe80::1%2), or the
/// path of a socket behind `unix:`, which may be too long. A path that begins with NUL is abstract.
bool parse_address(const std::string& text, std::uint16_t port, driver::SocketAddress& out);

/// What follows `unix:`; else empty.
std::string path_of(std::string_view text);

/// The file that a socket makes which is bound to `text`; else empty.
inline std::string file_of(std::string_view text) {
  std::string path = path_of(text);
  return path.empty() || path[0] == '\0' ? std::string() : path;
}

struct NamedAddress {
  std::string text;
  std::uint16_t port = 0;
  const char* family = "IPv4";  ///< "IPv4", "IPv6" or "unix"
};
bool format_address(const driver::SocketAddress& address, NamedAddress& out);

}  // namespace cp::addon
