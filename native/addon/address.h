// Numeric addresses, between text and what the driver takes.
#pragma once

#include <cstdint>
#include <string>

#include "driver/operation.h"

namespace cp::addon {

/// False when `text` is not a numeric IPv4 or IPv6 address (with a scope, as fe80::1%eth0).
bool parse_address(const std::string& text, std::uint16_t port, driver::SocketAddress& out);

struct NamedAddress {
  std::string text;
  std::uint16_t port = 0;
  bool ipv6 = false;
};
bool format_address(const driver::SocketAddress& address, NamedAddress& out);

}  // namespace cp::addon
