// An echo server on this library's core, the way the library's JavaScript drives it: keyed handles,
// a multishot receive for each connection, each buffer sent and released.
#include <pthread.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <thread>

#include "support/core.h"
#include "support/server.h"
#include "support/socket.h"

namespace cp::bench {
namespace {

constexpr std::uint32_t kListener = 1;
constexpr std::uint32_t kQuit = 2;

class Server {
 public:
  Server(Port& port, const ServerOptions& options) : port_(port), attached_(port) {
    const sockaddr_in address = address_of(options.host, options.port);
    driver::ListenOptions listen;
    std::memcpy(listen.address.bytes, &address, sizeof address);
    listen.address.length = sizeof address;
    Thread::Association association;
    association.keyed = true;
    association.key = kListener;
    const std::int64_t listener = thread().listen(listen, true, association);
    if (listener < 0) die("listen", static_cast<int>(-listener));
    listener_ = static_cast<std::uint32_t>(listener);
    // Accepted sockets inherit it, as in listen_at of support/socket.cc.
    port.driver().set_option(descriptor(), driver::SocketOption::kNoDelay, 1);
    submit(PacketKind::kAccept, listener_, true);
  }

  std::uint32_t port() {
    driver::SocketAddress address;
    port_.driver().address(descriptor(), false, address);
    sockaddr_in bound{};
    std::memcpy(&bound, address.bytes, sizeof bound);
    return ntohs(bound.sin_port);
  }

  void run(ServerRun& run) {
    while (!quit_) {
      const std::int64_t count = thread().get(kBatchLimit, driver::kNever);
      if (count < 0) return;
      attached_.each(count, [&](const PacketSlot& packet) { handle(packet, run); });
    }
  }

 private:
  Thread& thread() { return attached_.thread(); }
  driver::Descriptor descriptor() { return Port::look_up(listener_).descriptor; }

  void submit(PacketKind kind, std::uint32_t handle, bool multishot) {
    Request* request = new_request();
    request->kind = kind;
    request->multishot = multishot;
    thread().submit(request, handle);
  }

  void handle(const PacketSlot& packet, ServerRun& run) {
    switch (static_cast<PacketKind>(packet.kind)) {
      case PacketKind::kReceive:
        return received(packet, run);
      case PacketKind::kSend:
        return sent(packet, run);
      case PacketKind::kAccept:
        return accepted(packet, run);
      case PacketKind::kPosted:
        quit_ |= packet.key == kQuit;
        return;
      default:
        return;
    }
  }

  void accepted(const PacketSlot& packet, ServerRun& run) {
    if (packet.error != 0) {
      ++run.errors;
      return;
    }
    ++run.connections;
    submit(PacketKind::kReceive, packet.accepted, true);
  }

  void sent(const PacketSlot& packet, ServerRun& run) {
    if (packet.error != 0 && packet.error != -ECANCELED) run.failed(-packet.error);
  }

  void received(const PacketSlot& packet, ServerRun& run) {
    if (packet.error != 0) run.failed(-packet.error);
    if (packet.error != 0 || packet.result == 0) {
      return submit(PacketKind::kClose, packet.handle, false);
    }
    const auto bytes = static_cast<std::uint32_t>(packet.result);
    ++run.messages;
    run.bytes += bytes;
    const Place place{packet.chunk, packet.offset};
    Request* send = transfer(PacketKind::kSend, place, bytes, true);
    send->quiet = true;
    thread().submit(send, packet.handle);
  }

  Port& port_;
  Attached attached_;
  std::uint32_t listener_ = 0;
  bool quit_ = false;
};

}  // namespace
}  // namespace cp::bench

int main(int argc, char** argv) {
  using namespace cp::bench;
  const std::string help = std::string("echo_core: echoes TCP on this library's core\n") +
                           kServerHelp +
                           "  --driver D    io_uring or epoll (what the library would take)\n"
                           "  --affine      packets stay with the thread of their operation\n"
                           "  --buffers N --buffer-size N   the port's pool (1024, 32768)\n";
  Arguments arguments(argc, argv, help.c_str());
  const ServerOptions options = server_options(arguments);
  cp::PortOptions port_options;
  port_options.driver = arguments.text("--driver", "");
  port_options.affine = arguments.flag("--affine");
  port_options.buffers.buffer_count = arguments.count("--buffers", 1024, 2, 65536);
  port_options.buffers.buffer_size = arguments.count("--buffer-size", 32768, 4096, 1 << 20);
  arguments.end();
  raise_descriptor_limit();
  const cp::PortHold hold = make_port(port_options);
  cp::Port& port = *hold;
  const std::string driver = port.driver().name();
  ServerRun run;
  std::int64_t calls = 0;

  // Signals are this thread's: it waits for the end and posts it. The server has none to look at.
  sigset_t all;
  sigfillset(&all);
  std::atomic<std::uint32_t> ready{0};
  sigset_t before;
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread server([&] {
    Server server(port, options);
    ready.store(server.port());
    ready.notify_one();
    server.run(run);
    calls = static_cast<std::int64_t>(port.stats().system_calls);
  });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ready.wait(0);
  run.ready(ready.load(), options.seconds);
  while (!stopping()) pause();
  port.post(kQuit, 0);
  server.join();
  run.report(JsonLine().add("program", "echo_core").add("driver", driver), calls);
}
