#include "addon/address.h"

#ifdef _WIN32
#include <winsock2.h>
#include <ws2tcpip.h>
#else
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/un.h>
#endif

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

namespace cp::addon {
namespace {

/// Of an interface by its name, or its number: Windows has numbers alone, as Node.js has it there.
/// 0: there is none such.
std::uint32_t scope_of(const char* name) {
#ifndef _WIN32
  if (const std::uint32_t index = if_nametoindex(name); index != 0) return index;
#endif
  if (*name < '0' || *name > '9') return 0;
  char* end = nullptr;
  const unsigned long index = std::strtoul(name, &end, 10);
  return *end == '\0' && index <= UINT32_MAX ? static_cast<std::uint32_t>(index) : 0;
}

/// Where an address means something on one interface only, its name belongs to it: without it
/// nobody can connect back. As uv_if_indextoiid has it: Windows gives the number.
std::string zone_of(const sockaddr_in6& address) {
  if (!IN6_IS_ADDR_LINKLOCAL(&address.sin6_addr) || address.sin6_scope_id == 0) return {};
#ifdef _WIN32
  return '%' + std::to_string(address.sin6_scope_id);
#else
  char name[IF_NAMESIZE];
  if (if_indextoname(address.sin6_scope_id, name) == nullptr) return {};
  return std::string("%") + name;
#endif
}

template <typename Native>
void store(const Native& native, driver::SocketAddress& out) {
  static_assert(sizeof native <= sizeof out.bytes);
  std::memcpy(out.bytes, &native, sizeof native);
  out.length = sizeof native;
}

#ifdef _WIN32

/// A named pipe has no address but its family: the name goes beside it (driver/driver.h). None is
/// abstract.
bool parse_path(std::string_view path, driver::SocketAddress& out) {
  if (path.empty() || path[0] == 0) return false;
  const ADDRESS_FAMILY family = AF_UNIX;
  std::memcpy(out.bytes + offsetof(sockaddr, sa_family), &family, sizeof family);
  out.length = sizeof family;
  return true;
}

#else

/// A name that begins with NUL is no file, and has no end but its length.
bool parse_path(std::string_view path, driver::SocketAddress& out) {
  sockaddr_un address{};
  const bool abstract = path.substr(0, 1) == std::string_view("\0", 1);
  if (path.empty() || path.size() > sizeof address.sun_path - (abstract ? 0 : 1)) return false;
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  store(address, out);
  out.length = static_cast<std::uint32_t>(offsetof(sockaddr_un, sun_path) + path.size() +
                                          (abstract ? 0 : 1));
  return true;
}

#endif

}  // namespace

std::string path_of(std::string_view text) {
  constexpr std::string_view kPrefix = "unix:";
  if (text.substr(0, kPrefix.size()) != kPrefix) return {};
  return std::string(text.substr(kPrefix.size()));
}

bool parse_address(const std::string& text, std::uint16_t port, driver::SocketAddress& out) {
  if (const std::string path = path_of(text); !path.empty()) return parse_path(path, out);
  sockaddr_in v4{};
  if (inet_pton(AF_INET, text.c_str(), &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    store(v4, out);
    return true;
  }
  const std::size_t percent = text.find('%');
  sockaddr_in6 v6{};
  if (inet_pton(AF_INET6, text.substr(0, percent).c_str(), &v6.sin6_addr) != 1) return false;
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(port);
  if (percent != std::string::npos) {
    v6.sin6_scope_id = scope_of(&text[percent + 1]);
    if (v6.sin6_scope_id == 0) return false;
  }
  store(v6, out);
  return true;
}

bool format_address(const driver::SocketAddress& address, NamedAddress& out) {
  char text[INET6_ADDRSTRLEN] = {};
  sockaddr generic{};
  std::memcpy(&generic, address.bytes, sizeof generic);
  if (generic.sa_family == AF_INET) {
    sockaddr_in v4{};
    std::memcpy(&v4, address.bytes, sizeof v4);
    inet_ntop(AF_INET, &v4.sin_addr, text, sizeof text);
    out = {text, ntohs(v4.sin_port), "IPv4"};
    return true;
  }
  if (generic.sa_family == AF_UNIX) {
#ifdef _WIN32
    out = {"", 0, "unix"};
#else
    const std::size_t before = offsetof(sockaddr_un, sun_path);
    const char* path = reinterpret_cast<const char*>(address.bytes) + before;
    const std::size_t length = address.length > before ? address.length - before : 0;
    const bool file = length > 0 && path[0] != 0;
    out = {std::string(path, file ? strnlen(path, length) : length), 0, "unix"};
#endif
    return true;
  }
  if (generic.sa_family != AF_INET6) return false;
  sockaddr_in6 v6{};
  std::memcpy(&v6, address.bytes, sizeof v6);
  inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof text);
  out = {text + zone_of(v6), ntohs(v6.sin6_port), "IPv6"};
  return true;
}

}  // namespace cp::addon
