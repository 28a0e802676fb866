#include "driver/iocp/socket.h"

#include <mstcpip.h>

#include <cstddef>
#include <cstring>

#include "driver/errno.h"
#include "driver/windows/error.h"

namespace cp::driver::iocp {

static_assert(sizeof(SocketAddress::bytes) >= sizeof(sockaddr_in6));

namespace {

/// TCP_INFO_v0 and SIO_TCP_INFO of Windows 10 (2017), which headers for older ones lack.
struct ConnectionInfo {
  ULONG state, segment_size;
  ULONG64 age;
  BOOLEAN timestamps;
  ULONG round_trip, least_round_trip, bytes_in_flight, congestion_window;
  ULONG send_window, receive_window, receive_buffer;
  ULONG64 bytes_out, bytes_in;
  ULONG reordered, sent_again, sent_again_fast, acknowledged_again, timeouts;
  UCHAR connects_again;
};
static_assert(offsetof(ConnectionInfo, bytes_out) == 48 && sizeof(ConnectionInfo) == 88);
constexpr DWORD kConnectionInfo = _WSAIORW(IOC_VENDOR, 39);

/// Of Windows 10 (1607 to 1709), which headers for older ones lack.
constexpr int kTcpKeepIdle = 3, kTcpMaxRt = 5, kTcpFastOpen = 15, kTcpKeepCount = 16;
constexpr int kTcpKeepInterval = 17;

Result set(SOCKET socket, int level, int name, int value) {
  const auto* bytes = reinterpret_cast<const char*>(&value);
  return ::setsockopt(socket, level, name, bytes, sizeof value) == 0 ? 0 : last_error();
}

Result ask(SOCKET socket, int level, int name) {
  int value = 0;
  int length = sizeof value;
  auto* bytes = reinterpret_cast<char*>(&value);
  return ::getsockopt(socket, level, name, bytes, &length) == 0 ? value : last_error();
}

/// Both times in seconds.
Result probe(SOCKET socket, int idle, int interval) {
  tcp_keepalive probes = {1, static_cast<ULONG>(idle) * 1000, static_cast<ULONG>(interval) * 1000};
  DWORD bytes = 0;
  const int result = ::WSAIoctl(socket, SIO_KEEPALIVE_VALS, &probes, sizeof probes, nullptr, 0,
                                &bytes, nullptr, nullptr);
  return result == 0 ? 0 : last_error();
}

/// As libuv has it, with a second between the probes.
Result keep_alive(SOCKET socket, int seconds) {
  return seconds == 0 ? set(socket, SOL_SOCKET, SO_KEEPALIVE, 0) : probe(socket, seconds, 1);
}

/// Never a time to linger: closesocket would wait for it, or fail where it must not.
Result set_linger(SOCKET socket, bool resets) {
  const LINGER linger = {static_cast<u_short>(resets ? 1 : 0), 0};
  const auto* bytes = reinterpret_cast<const char*>(&linger);
  const int failed = ::setsockopt(socket, SOL_SOCKET, SO_LINGER, bytes, sizeof linger);
  return failed == 0 ? 0 : last_error();
}

Result lingers(SOCKET socket) {
  LINGER linger = {};
  int length = sizeof linger;
  auto* bytes = reinterpret_cast<char*>(&linger);
  if (::getsockopt(socket, SOL_SOCKET, SO_LINGER, bytes, &length) != 0) return last_error();
  return linger.l_onoff != 0 ? 1 : 0;
}

/// What an accepted socket does not get with SO_UPDATE_ACCEPT_CONTEXT, as far as it was set: those
/// of TCP's own. One that the system does not know was refused to the listener already.
void inherit(SOCKET accepted, SOCKET listener) {
  if (ask(listener, IPPROTO_TCP, TCP_NODELAY) > 0) set(accepted, IPPROTO_TCP, TCP_NODELAY, 1);
  if (ask(listener, SOL_SOCKET, SO_KEEPALIVE) > 0) {
    for (const int name : {kTcpKeepIdle, kTcpKeepInterval, kTcpKeepCount}) {
      const Result value = ask(listener, IPPROTO_TCP, name);
      if (value > 0) set(accepted, IPPROTO_TCP, name, static_cast<int>(value));
    }
  }
  const Result most = ask(listener, IPPROTO_TCP, kTcpMaxRt);
  if (most > 0) set(accepted, IPPROTO_TCP, kTcpMaxRt, static_cast<int>(most));
}

/// Whether the provider's sockets are the kernel's own handles.
bool is_plain(int family) {
  const SOCKET socket = ::WSASocketW(family, SOCK_STREAM, IPPROTO_TCP, nullptr, 0, 0);
  // A family that is missing does no harm.
  if (socket == INVALID_SOCKET) return true;
  WSAPROTOCOL_INFOW info = {};
  int length = sizeof info;
  auto* bytes = reinterpret_cast<char*>(&info);
  const bool known = ::getsockopt(socket, SOL_SOCKET, SO_PROTOCOL_INFOW, bytes, &length) == 0;
  ::closesocket(socket);
  return known && (info.dwServiceFlags1 & XP1_IFS_HANDLES) != 0;
}

template <typename Function>
Function extension(SOCKET socket, GUID id) {
  Function function = nullptr;
  DWORD bytes = 0;
  ::WSAIoctl(socket, SIO_GET_EXTENSION_FUNCTION_POINTER, &id, sizeof id, &function, sizeof function,
             &bytes, nullptr, nullptr);
  return function;
}

/// Without SO_REUSEADDR: on Windows that would let another program take the port over.
Result bind_and_listen(SOCKET socket, const ListenOptions& options) {
  if (options.reuse_port) return -ENOTSUP;
  Result result = 0;
  if (family_of(options.address) == AF_INET6) {
    result = set(socket, IPPROTO_IPV6, IPV6_V6ONLY, options.ipv6_only ? 1 : 0);
  }
  if (result == 0 && options.no_delay) result = set(socket, IPPROTO_TCP, TCP_NODELAY, 1);
  if (result == 0) result = set_all(socket, options.settings);
  if (result < 0) return result;
  const auto* address = reinterpret_cast<const sockaddr*>(options.address.bytes);
  const auto length = static_cast<int>(options.address.length);
  if (::bind(socket, address, length) != 0) return last_error();
  return ::listen(socket, options.backlog) == 0 ? 0 : last_error();
}

/// The socket, or an error after which it is closed.
Result or_closed(SOCKET socket, Result result) {
  if (result < 0) ::closesocket(socket);
  return result < 0 ? result : descriptor_of(socket);
}

/// Headers for older ones than Windows 10 lack it.
constexpr DWORD kInitialRetransmission = _WSAIOW(IOC_VENDOR, 17);
struct InitialRetransmission {
  USHORT round_trip;
  UCHAR most;
};
constexpr InitialRetransmission kOnce = {static_cast<UCHAR>(-2), static_cast<UCHAR>(-2)};

bool is_loopback(const SocketAddress& address) {
  if (family_of(address) == AF_INET) {
    sockaddr_in of;
    std::memcpy(&of, address.bytes, sizeof of);
    return (ntohl(of.sin_addr.s_addr) >> 24) == 127;
  }
  sockaddr_in6 of;
  std::memcpy(&of, address.bytes, sizeof of);
  return family_of(address) == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&of.sin6_addr);
}

/// Whether it knows of connecting without sending a SYN again: Windows 10 (1709). To those before,
/// the number would mean to send it 254 times.
bool can_connect_once() {
  using GetVersion = LONG(WINAPI*)(OSVERSIONINFOW*);
  static const bool can = [] {
    const auto get = reinterpret_cast<GetVersion>(reinterpret_cast<void*>(
        ::GetProcAddress(::GetModuleHandleW(L"ntdll.dll"), "RtlGetVersion")));
    OSVERSIONINFOW version = {};
    version.dwOSVersionInfoSize = sizeof version;
    return get != nullptr && get(&version) == 0 && version.dwBuildNumber >= 16299;
  }();
  return can;
}

}  // namespace

Result start_winsock() {
  static const int status = [] {
    WSADATA data;
    return ::WSAStartup(MAKEWORD(2, 2), &data);
  }();
  return status == 0 ? 0 : from_windows(static_cast<unsigned long>(status));
}

bool skips_on_success() {
  static const bool plain = is_plain(AF_INET) && is_plain(AF_INET6);
  return plain;
}

Result make_socket(int family) {
  constexpr DWORD kFlags = WSA_FLAG_OVERLAPPED | WSA_FLAG_NO_HANDLE_INHERIT;
  const SOCKET socket = ::WSASocketW(family, SOCK_STREAM, IPPROTO_TCP, nullptr, 0, kFlags);
  return socket != INVALID_SOCKET ? descriptor_of(socket) : last_error();
}

Result prepare_connection(KernelPort& port, SOCKET socket) {
  u_long yes = 1;
  if (::ioctlsocket(socket, FIONBIO, &yes) != 0) return last_error();
  const Result bound = port.associate(descriptor_of(socket));
  if (bound < 0 || !skips_on_success()) return bound;
  constexpr UCHAR kModes = FILE_SKIP_COMPLETION_PORT_ON_SUCCESS | FILE_SKIP_SET_EVENT_ON_HANDLE;
  const auto handle = reinterpret_cast<HANDLE>(socket);
  return ::SetFileCompletionNotificationModes(handle, kModes) ? 0 : last_error();
}

LPFN_ACCEPTEX accept_ex(SOCKET socket) { return extension<LPFN_ACCEPTEX>(socket, WSAID_ACCEPTEX); }

LPFN_CONNECTEX connect_ex(SOCKET socket) {
  return extension<LPFN_CONNECTEX>(socket, WSAID_CONNECTEX);
}

SocketAddress reachable(SocketAddress peer) {
  if (family_of(peer) == AF_INET) {
    sockaddr_in address;
    std::memcpy(&address, peer.bytes, sizeof address);
    if (address.sin_addr.s_addr == htonl(INADDR_ANY)) {
      address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    }
    std::memcpy(peer.bytes, &address, sizeof address);
  } else if (family_of(peer) == AF_INET6) {
    sockaddr_in6 address;
    std::memcpy(&address, peer.bytes, sizeof address);
    if (IN6_IS_ADDR_UNSPECIFIED(&address.sin6_addr)) address.sin6_addr.s6_addr[15] = 1;
    std::memcpy(peer.bytes, &address, sizeof address);
  }
  return peer;
}

void refuse_at_once(SOCKET socket, const SocketAddress& peer) {
  if (!is_loopback(peer) || !can_connect_once()) return;
  InitialRetransmission once = kOnce;
  DWORD bytes = 0;
  ::WSAIoctl(socket, kInitialRetransmission, &once, sizeof once, nullptr, 0, &bytes, nullptr,
             nullptr);
}

/// One of IPv6 reaches addresses of IPv4 only as a socket that is for both.
Result bind_for_connect(SOCKET socket, const ConnectTarget& target) {
  sockaddr_storage any = {};
  const int family = family_of(target.peer);
  if (family == AF_INET6) set(socket, IPPROTO_IPV6, IPV6_V6ONLY, 0);
  any.ss_family = static_cast<decltype(any.ss_family)>(family);
  int length = family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
  const auto* address = reinterpret_cast<const sockaddr*>(&any);
  if (target.local.length > 0) {
    address = reinterpret_cast<const sockaddr*>(target.local.bytes);
    length = static_cast<int>(target.local.length);
  }
  return ::bind(socket, address, length) == 0 ? 0 : last_error();
}

Result open_listener(KernelPort& port, const ListenOptions& options) {
  const Result made = make_socket(family_of(options.address));
  if (made < 0) return made;
  const SOCKET socket = socket_of(static_cast<Descriptor>(made));
  const Result bound = port.associate(descriptor_of(socket));
  return or_closed(socket, bound < 0 ? bound : bind_and_listen(socket, options));
}

Result open_listening_socket(const ListenOptions& options) {
  const Result made = make_socket(family_of(options.address));
  if (made < 0) return made;
  const SOCKET socket = socket_of(static_cast<Descriptor>(made));
  return or_closed(socket, bind_and_listen(socket, options));
}

Result adopt_accepted(KernelPort& port, SOCKET accepted, SOCKET listener) {
  const auto* bytes = reinterpret_cast<const char*>(&listener);
  if (::setsockopt(accepted, SOL_SOCKET, SO_UPDATE_ACCEPT_CONTEXT, bytes, sizeof listener) != 0) {
    return last_error();
  }
  inherit(accepted, listener);
  return prepare_connection(port, accepted);
}

Result set_socket_option(SOCKET socket, SocketOption option, int value) {
  switch (option) {
    case SocketOption::kNoDelay:
      return set(socket, IPPROTO_TCP, TCP_NODELAY, value);
    case SocketOption::kKeepAlive:
      return keep_alive(socket, value);
    case SocketOption::kReceiveBuffer:
      return set(socket, SOL_SOCKET, SO_RCVBUF, value);
    case SocketOption::kSendBuffer:
      return set(socket, SOL_SOCKET, SO_SNDBUF, value);
    case SocketOption::kLinger:
      return set_linger(socket, value != 0);
    case SocketOption::kKeepAliveInterval:
      return set(socket, IPPROTO_TCP, kTcpKeepInterval, value);
    case SocketOption::kKeepAliveCount:
      return set(socket, IPPROTO_TCP, kTcpKeepCount, value);
    case SocketOption::kUserTimeout:
      return set(socket, IPPROTO_TCP, kTcpMaxRt, (value + 999) / 1000);
    case SocketOption::kFastOpen:
      return set(socket, IPPROTO_TCP, kTcpFastOpen, value > 0 ? 1 : 0);
    case SocketOption::kTypeOfService:  // setsockopt would succeed, and change nothing
    case SocketOption::kDeferAccept:
    case SocketOption::kFastOpenConnect:
    case SocketOption::kPipeAccess:
      return -ENOTSUP;
  }
  return -EINVAL;
}

Result set_all(SOCKET socket, const std::vector<SocketSetting>& settings) {
  for (const SocketSetting& setting : settings) {
    const Result result = set_socket_option(socket, setting.option, setting.value);
    if (result < 0) return result;
  }
  return 0;
}

Result socket_option(SOCKET socket, SocketOption option) {
  switch (option) {
    case SocketOption::kNoDelay:
      return ask(socket, IPPROTO_TCP, TCP_NODELAY);
    case SocketOption::kKeepAlive: {
      const Result on = ask(socket, SOL_SOCKET, SO_KEEPALIVE);
      if (on <= 0) return on;
      const Result idle = ask(socket, IPPROTO_TCP, kTcpKeepIdle);
      return idle < 0 ? INT32_MAX : idle;  // before Windows 10 (1709) nothing tells the time
    }
    case SocketOption::kReceiveBuffer:
      return ask(socket, SOL_SOCKET, SO_RCVBUF);
    case SocketOption::kSendBuffer:
      return ask(socket, SOL_SOCKET, SO_SNDBUF);
    case SocketOption::kLinger:
      return lingers(socket);
    case SocketOption::kKeepAliveInterval:
      return ask(socket, IPPROTO_TCP, kTcpKeepInterval);
    case SocketOption::kKeepAliveCount:
      return ask(socket, IPPROTO_TCP, kTcpKeepCount);
    case SocketOption::kUserTimeout: {
      const Result seconds = ask(socket, IPPROTO_TCP, kTcpMaxRt);
      return seconds < 0 ? seconds : seconds * 1000;
    }
    case SocketOption::kFastOpen:
      return ask(socket, IPPROTO_TCP, kTcpFastOpen);
    case SocketOption::kTypeOfService:
    case SocketOption::kDeferAccept:
    case SocketOption::kFastOpenConnect:
    case SocketOption::kPipeAccess:
      return -ENOTSUP;
  }
  return -EINVAL;
}

std::int64_t bytes_moved(SOCKET socket) {
  DWORD version = 0;
  ConnectionInfo info = {};
  DWORD bytes = 0;
  const int result = ::WSAIoctl(socket, kConnectionInfo, &version, sizeof version, &info,
                                sizeof info, &bytes, nullptr, nullptr);
  return result == 0 ? static_cast<std::int64_t>(info.bytes_in + info.bytes_out) : -1;
}

Result socket_address(SOCKET socket, bool peer, SocketAddress& out) {
  auto* address = reinterpret_cast<sockaddr*>(out.bytes);
  int length = sizeof out.bytes;
  const int result =
      peer ? ::getpeername(socket, address, &length) : ::getsockname(socket, address, &length);
  if (result != 0) return last_error();
  out.length = static_cast<std::uint32_t>(length);
  return 0;
}

int family_of(const SocketAddress& address) {
  ADDRESS_FAMILY family;
  std::memcpy(&family, address.bytes + offsetof(sockaddr, sa_family), sizeof family);
  return family;
}

int family_of(SOCKET socket) {
  SocketAddress local;
  return socket_address(socket, false, local) == 0 ? family_of(local) : AF_INET;
}

}  // namespace cp::driver::iocp
