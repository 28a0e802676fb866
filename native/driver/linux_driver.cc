#include "driver/linux_driver.h"

#include <sys/socket.h>
#include <unistd.h>

#include "driver/linux_socket.h"

namespace cp::driver {

Result LinuxDriver::associate(Descriptor) { return 0; }

Result LinuxDriver::listen(const ListenOptions& options) { return open_listener(options); }

Result LinuxDriver::set_option(Descriptor socket, SocketOption option, int value) {
  return set_socket_option(static_cast<int>(socket), option, value);
}

Result LinuxDriver::address(Descriptor socket, bool peer, SocketAddress& out) {
  return socket_address(static_cast<int>(socket), peer, out);
}

void LinuxDriver::shut_down(Descriptor socket) { ::shutdown(static_cast<int>(socket), SHUT_RDWR); }

void LinuxDriver::discard(Descriptor descriptor) { ::close(static_cast<int>(descriptor)); }

Result LinuxDriver::duplicate(Descriptor descriptor, FileKind& kind) {
  return duplicate_descriptor(static_cast<int>(descriptor), kind);
}

}  // namespace cp::driver
