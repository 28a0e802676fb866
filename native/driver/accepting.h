// What the acceptor asks of the system it runs on: epoll and accept4 | an event of Winsock and
// accept.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "driver/driver.h"

namespace cp::driver {

/// Listening sockets that one thread waits for. All but `wait` are called under a lock of the
/// caller's, `nudge` by any thread.
class ListeningSockets {
 public:
  /// Null when the system has no descriptors or handles left.
  static std::unique_ptr<ListeningSockets> make();
  virtual ~ListeningSockets() = default;

  /// Takes a socket in, which is not looked at yet: `wait` may end for it, but does not tell of it.
  /// `id` is not 0. 0 or a negative errno.
  virtual Result add(Descriptor socket, std::uint32_t id) = 0;
  virtual void remove(Descriptor socket, std::uint32_t id) = 0;
  /// Whether `wait` tells of it.
  virtual void look_at(Descriptor socket, std::uint32_t id, bool wanted) = 0;
  /// Puts into `ids` which of them may have connections. Ends at `until`, too, and after a `nudge`.
  virtual void wait(std::vector<std::uint32_t>& ids, Deadline until) = 0;
  virtual void nudge() = 0;
};

/// socket, bind, listen, bound to no driver; or a negative errno. TCP alone on Windows.
Result open_shared_socket(const ListenOptions& options);
/// Another descriptor of a stream socket that listens already; or a negative errno. Not on Windows.
Result share_listening_socket(int fd);
/// A new stream socket of the same family; or a negative errno. Not on Windows.
Result open_socket_like(Descriptor listener);
/// The next connection, non-blocking and bound to no driver; or a negative errno, -EAGAIN where
/// there is none.
Result accept_connection(Descriptor socket);
/// Where a listening socket listens. 0 or a negative errno.
Result address_of_listener(Descriptor socket, SocketAddress& out);
void close_socket(Descriptor socket);
/// For who looks at the process from outside.
void name_acceptor_thread();
/// The file of a socket that listened there.
void remove_file_of_socket(const char* path);

}  // namespace cp::driver
