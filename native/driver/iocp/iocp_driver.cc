#include "driver/iocp/iocp_driver.h"

#include <utility>

#include "driver/blocking/blocking_pool.h"
#include "driver/errno.h"
#include "driver/half_close.h"
#include "driver/iocp/iocp_lane.h"
#include "driver/iocp/pipe.h"
#include "driver/iocp/socket.h"
#include "driver/windows/error.h"
#include "driver/windows/file.h"

namespace cp::driver {
namespace {

class IocpDriver final : public Driver {
 public:
  explicit IocpDriver(iocp::KernelPort& port) : port_(port) {}

  const char* name() const override { return "iocp"; }

  std::unique_ptr<Lane> make_lane(BufferSource& buffers, Result& error) override {
    return iocp::IocpLane::make(port_, pool_, buffers, error);
  }

  /// Everything is bound to the kernel port where it is made, since that can fail.
  Result associate(Descriptor) override { return 0; }

  Result listen(const ListenOptions& options) override {
    return options.path.empty() ? iocp::open_listener(port_, options)
                                : iocp::open_pipe_listener(port_, options);
  }

  Result set_option(Descriptor socket, SocketOption option, int value) override {
    if (iocp::is_pipe(socket)) return iocp::set_pipe_option(socket, option, value);
    return iocp::set_socket_option(iocp::socket_of(socket), option, value);
  }

  Result option(Descriptor socket, SocketOption option) override {
    if (iocp::is_pipe(socket)) return iocp::pipe_option(socket, option);
    return iocp::socket_option(iocp::socket_of(socket), option);
  }

  Result duplicate_socket(Descriptor, SocketKind&) override { return -ENOTSUP; }
  Result own_connection(Descriptor connection) override {
    return iocp::prepare_connection(port_, iocp::socket_of(connection));
  }
  /// Windows binds it to the port for life.
  bool lets_go() const override { return false; }
  void remove_socket_file(const std::string&) override {}
  Result address(Descriptor socket, bool peer, SocketAddress& out) override {
    if (!iocp::is_pipe(socket)) {
      return iocp::socket_address(iocp::socket_of(socket), peer, out);
    }
    iocp::pipe_address(out);
    return 0;
  }

  /// A reset is told to every call that follows it.
  bool ended_in_order(Descriptor, std::uint64_t) override { return true; }

  std::int64_t acknowledged(Descriptor) override { return -1; }

  /// The peer of a pipe hears of it when it is closed. With bytes that nobody has received it is a
  /// reset, as closing is.
  void shut_down(Descriptor socket) override {
    if (iocp::is_pipe(socket)) return iocp::end_pipe(socket);
    ::shutdown(iocp::socket_of(socket), SD_BOTH);
  }

  void discard(Descriptor descriptor) override {
    if (iocp::is_pipe(descriptor)) {
      delete iocp::pipe_of(descriptor);
    } else {
      close_anything(descriptor);
    }
  }

  Result temporary_file(const char* directory) override {
    const Result made = make_temporary_file(directory);
    if (made < 0) return made;
    const Result bound = port_.associate(static_cast<Descriptor>(made));
    if (bound == 0) return made;
    close_file(static_cast<Descriptor>(made));
    return bound;
  }

  Result duplicate(Descriptor descriptor, FileKind& kind) override {
    const Result copy = duplicate_handle(descriptor, kind);
    if (copy < 0) return copy;
    const Result bound = port_.associate(static_cast<Descriptor>(copy));
    if (bound == 0) return copy;
    close_anything(static_cast<Descriptor>(copy));
    return bound;
  }

  /// A copy shares what the original is bound to.
  Result duplicate_own(Descriptor file, FileKind& kind) override {
    return duplicate_handle(file, kind);
  }

 private:
  iocp::KernelPort& port_;
  BlockingPool pool_;
};

}  // namespace

/// SIO_TCP_INFO counts what was sent, whether or not it was confirmed.
std::int64_t acknowledged_bytes(Descriptor) { return -1; }

std::int64_t traffic(Descriptor socket) {
  if (iocp::is_pipe(socket)) return iocp::connection_of(socket).moved;
  return iocp::bytes_moved(iocp::socket_of(socket));
}

bool half_closes(Descriptor connection) { return !iocp::is_pipe(connection); }

/// What a lane knows of a socket follows from its own receives of no bytes.
Result receive_now(Descriptor, const Slice&) { return -EAGAIN; }

void close_file(Descriptor file) { ::CloseHandle(reinterpret_cast<HANDLE>(file)); }

Result size_of_file(Descriptor file) {
  FileKind kind{};
  const Result known = file_kind_of(file, kind);
  if (known < 0) return known;
  LARGE_INTEGER size;
  if (kind != FileKind::kRegular) return -EINVAL;
  return ::GetFileSizeEx(reinterpret_cast<HANDLE>(file), &size) ? size.QuadPart : last_error();
}

std::uint32_t open_flags_of(Descriptor) { return 0; }

std::unique_ptr<Driver> make_iocp_driver(Result& error, std::string& reason) {
  reason.clear();
  error = iocp::start_winsock();
  if (error < 0) return nullptr;
  iocp::KernelPort* port = iocp::KernelPort::instance(error);
  if (port == nullptr) return nullptr;
  return std::make_unique<IocpDriver>(*port);
}

}  // namespace cp::driver
