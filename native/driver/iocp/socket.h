// Sockets on Windows: making them ready for the kernel port, and calls that do not block.
#pragma once

#include <winsock2.h>
#include <ws2tcpip.h>
// mswsock.h needs winsock2.h before it.
#include <mswsock.h>

#include "driver/driver.h"
#include "driver/iocp/kernel_port.h"

namespace cp::driver::iocp {

/// Starts Winsock once for the process. 0 or a negative errno.
Result start_winsock();

inline SOCKET socket_of(Descriptor descriptor) { return static_cast<SOCKET>(descriptor); }
inline Descriptor descriptor_of(SOCKET socket) { return static_cast<Descriptor>(socket); }

/// A TCP socket that child processes don't inherit; or a negative errno.
Result make_socket(int family);

/// Makes a connection's socket non-blocking and binds it to the kernel port. 0 or a negative errno.
Result prepare_connection(KernelPort& port, SOCKET socket);

/// Whether a call on a connection that succeeds at once leaves no packet. True where the system's
/// own providers handle TCP: a layered one may send the packet all the same, and then an operation
/// would complete twice. Listeners always leave one.
bool skips_on_success();

/// AcceptEx and ConnectEx belong to the provider and have to be asked for; null when
/// it has none.
LPFN_ACCEPTEX accept_ex(SOCKET socket);
LPFN_CONNECTEX connect_ex(SOCKET socket);

/// Where ConnectEx is to connect to: this machine, if `peer` is the address that stands for any.
SocketAddress reachable(SocketAddress peer);

/// Has connecting to this machine fail as soon as nobody listens there, as libuv does: Windows
/// would try for two seconds.
void refuse_at_once(SOCKET socket, const SocketAddress& peer);

/// Binds to the address that the target names, or to any: ConnectEx demands one. 0 or a negative
/// errno.
Result bind_for_connect(SOCKET socket, const ConnectTarget& target);

/// socket, bind, listen: or a negative errno.
Result open_listener(KernelPort& port, const ListenOptions& options);
/// The same, bound to no port.
Result open_listening_socket(const ListenOptions& options);

/// Makes a connection of what AcceptEx has accepted: it knows neither its addresses nor its
/// listener's options yet. 0 or a negative errno.
Result adopt_accepted(KernelPort& port, SOCKET accepted, SOCKET listener);

Result set_socket_option(SOCKET socket, SocketOption option, int value);
Result set_all(SOCKET socket, const std::vector<SocketSetting>& settings);
Result socket_option(SOCKET socket, SocketOption option);
/// See traffic.
std::int64_t bytes_moved(SOCKET socket);
/// The local address, or the peer's.
Result socket_address(SOCKET socket, bool peer, SocketAddress& out);

/// The address family of a socket that is to connect or to bind to `address`.
int family_of(const SocketAddress& address);
/// The family of a socket that is bound.
int family_of(SOCKET socket);

}  // namespace cp::driver::iocp
