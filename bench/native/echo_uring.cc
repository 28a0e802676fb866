// An echo server on io_uring, as near to the kernel as it gets: multishot accept, multishot receive
// into provided buffers, each buffer sent from where it lies. The limit the core is held against.
#include <sys/socket.h>

#include <cerrno>
#include <vector>

#include "support/raw_ring.h"
#include "support/server.h"
#include "support/socket.h"

namespace cp::bench {
namespace {

constexpr std::uint32_t kEntries = 1024;
constexpr std::uint32_t kCompletions = 16384;
constexpr std::uint16_t kNone = 0xffff;

enum class Event : std::uint8_t { kAccept, kReceive, kSend, kClose };

/// What a completion has to know lies in its 64 bits: 8 of event, 32 of descriptor, 16 of buffer.
std::uint64_t pack(Event event, int fd, std::uint16_t buffer = 0) {
  return static_cast<std::uint64_t>(event) | static_cast<std::uint64_t>(fd) << 8 |
         static_cast<std::uint64_t>(buffer) << 40;
}

/// Buffers that wait for the one before them to be sent, linked through `Server::waiting_`.
struct Connection {
  std::uint16_t first = kNone, last = kNone;
  bool sending = false;
  bool receiving = false;
  bool broken = false;
};

class Server {
 public:
  Server(int listener, std::uint32_t buffers, std::uint32_t buffer_size)
      : ring_(kEntries, kCompletions),
        buffers_(ring_, buffers, buffer_size),
        waiting_(buffers),
        listener_(listener) {}

  void run(ServerRun& run) {
    accept();
    while (!stopping()) {
      ring_.enter(1, kForever);
      ring_.drain([&](const uring::Cqe& cqe) { settle(cqe, run); });
      if (!returned_) continue;
      returned_ = false;
      buffers_.publish();
      for (const int fd : starved_) receive(fd);
      starved_.clear();
    }
  }

  std::uint64_t system_calls() const { return ring_.system_calls(); }

 private:
  struct Waiting {
    std::uint16_t next = kNone;
    std::uint32_t size = 0;
  };

  Connection& connection(int fd) {
    const auto i = static_cast<std::size_t>(fd);
    if (connections_.size() <= i) connections_.resize(i * 2 + 64);
    return connections_[i];
  }

  void accept() {
    uring::Sqe& entry = ring_.next();
    entry.opcode = uring::kOpAccept;
    entry.fd = listener_;
    entry.ioprio = uring::kAcceptMultishot;
    entry.op_flags = SOCK_CLOEXEC;
    entry.user_data = pack(Event::kAccept, listener_);
  }

  void receive(int fd) {
    connection(fd).receiving = true;
    uring::Sqe& entry = ring_.next();
    entry.opcode = uring::kOpRecv;
    entry.fd = fd;
    entry.ioprio = uring::kReceiveMultishot;
    entry.flags = uring::kSqeBufferSelect;
    entry.buffer = ProvidedRing::kGroup;
    entry.user_data = pack(Event::kReceive, fd);
  }

  void send(int fd, std::uint16_t buffer, std::uint32_t size) {
    connection(fd).sending = true;
    uring::Sqe& entry = ring_.next();
    entry.opcode = uring::kOpSend;
    entry.fd = fd;
    entry.address = reinterpret_cast<std::uint64_t>(buffers_.data(buffer));
    entry.length = size;
    entry.op_flags = MSG_WAITALL | MSG_NOSIGNAL;  // the kernel goes on with a short send
    entry.user_data = pack(Event::kSend, fd, buffer);
  }

  void settle(const uring::Cqe& cqe, ServerRun& run) {
    const int fd = static_cast<int>(cqe.user_data >> 8 & 0xffffffff);
    switch (static_cast<Event>(cqe.user_data & 0xff)) {
      case Event::kAccept:
        return accepted(cqe, run);
      case Event::kReceive:
        return received(fd, cqe, run);
      case Event::kSend:
        return sent(fd, static_cast<std::uint16_t>(cqe.user_data >> 40), cqe, run);
      case Event::kClose:
        return;
    }
  }

  void accepted(const uring::Cqe& cqe, ServerRun& run) {
    if (cqe.result >= 0) {
      ++run.connections;
      connection(cqe.result) = {};
      receive(cqe.result);
    } else {
      ++run.errors;
    }
    if (!(cqe.flags & uring::kCqeMore)) accept();
  }

  void received(int fd, const uring::Cqe& cqe, ServerRun& run) {
    Connection& from = connection(fd);
    if (cqe.result > 0) {
      ++run.messages;
      run.bytes += static_cast<std::uint64_t>(cqe.result);
      const auto buffer = static_cast<std::uint16_t>(cqe.flags >> uring::kCqeBufferShift);
      echo(fd, from, buffer, static_cast<std::uint32_t>(cqe.result));
    }
    if (cqe.flags & uring::kCqeMore) return;
    from.receiving = false;
    if (cqe.result == -ENOBUFS) {
      starved_.push_back(fd);
    } else if (cqe.result > 0) {
      receive(fd);
    } else {
      if (cqe.result < 0) run.failed(-cqe.result);
      if (!from.sending) close_connection(fd);
      from.broken = true;
    }
  }

  /// One send at a time: two of one socket could cross where the first has to wait.
  void echo(int fd, Connection& to, std::uint16_t buffer, std::uint32_t size) {
    if (!to.sending) return send(fd, buffer, size);
    waiting_[buffer] = {kNone, size};
    (to.first == kNone ? to.first : waiting_[to.last].next) = buffer;
    to.last = buffer;
  }

  void sent(int fd, std::uint16_t buffer, const uring::Cqe& cqe, ServerRun& run) {
    give_back(buffer);
    Connection& to = connection(fd);
    to.sending = false;
    if (cqe.result < 0) {
      run.failed(-cqe.result);
      drop(fd, to);
    }
    if (to.first != kNone) {
      const std::uint16_t next = to.first;
      to.first = waiting_[next].next;
      send(fd, next, waiting_[next].size);
    } else if (to.broken && !to.receiving) {
      close_connection(fd);
    }
  }

  void drop(int fd, Connection& to) {
    for (; to.first != kNone; to.first = waiting_[to.first].next) give_back(to.first);
    shutdown(fd, SHUT_RDWR);  // ends the receive
  }

  void give_back(std::uint16_t buffer) {
    buffers_.give_back(buffer);
    returned_ = true;
  }

  void close_connection(int fd) {
    uring::Sqe& entry = ring_.next();
    entry.opcode = uring::kOpClose;
    entry.fd = fd;
    entry.user_data = pack(Event::kClose, fd);
  }

  RawRing ring_;
  ProvidedRing buffers_;
  std::vector<Waiting> waiting_;
  std::vector<Connection> connections_;
  std::vector<int> starved_;
  const int listener_;
  bool returned_ = false;
};

}  // namespace
}  // namespace cp::bench

int main(int argc, char** argv) {
  using namespace cp::bench;
  const std::string help = std::string("echo_uring: echoes TCP on io_uring itself\n") +
                           kServerHelp +
                           "  --buffers N --buffer-size N   what the kernel receives into "
                           "(1024, 32768)\n";
  Arguments arguments(argc, argv, help.c_str());
  ServerOptions options = server_options(arguments);
  const std::uint32_t buffers = arguments.count("--buffers", 1024, 2, 32768);
  const std::uint32_t size = arguments.count("--buffer-size", 32768, 64, 1 << 20);
  arguments.end();
  if ((buffers & (buffers - 1)) != 0) arguments.fail("--buffers", "wants a power of two");
  raise_descriptor_limit();
  Server server(listen_at(options.host, options.port, false), buffers, size);
  ServerRun run;
  run.ready(options.port, options.seconds);
  server.run(run);
  run.report(JsonLine().add("program", "echo_uring"),
             static_cast<std::int64_t>(server.system_calls()));
}
