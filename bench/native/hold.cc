// Opens connections and holds them, idle, until its input ends.
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "support/arguments.h"
#include "support/json.h"
#include "support/process.h"
#include "support/socket.h"

namespace cp::bench {
namespace {

constexpr const char* kHelp =
    "hold: opens connections and holds them until its standard input ends\n"
    "  --port N          the server's\n"
    "  --host H          IPv4 address (127.0.0.1)\n"
    "  --connections N   (1000)\n"
    "  --echo            sends one byte on each first and waits for it to come back\n"
    "  --seconds N       gives up after that (600)\n"
    "Prints {\"ready\":true,...} when all of them are open.\n";

bool echo_once(int socket) {
  char byte = 'h';
  return send(socket, &byte, 1, MSG_NOSIGNAL) == 1 && recv(socket, &byte, 1, 0) == 1 && byte == 'h';
}

void wait_for_the_end() {
  char buffer[256];
  while (!stopping()) {
    pollfd input{STDIN_FILENO, POLLIN, 0};
    if (poll(&input, 1, 100) > 0 && read(STDIN_FILENO, buffer, sizeof buffer) <= 0) return;
  }
}

}  // namespace
}  // namespace cp::bench

int main(int argc, char** argv) {
  using namespace cp::bench;
  Arguments arguments(argc, argv, kHelp);
  const std::string host = arguments.text("--host", "127.0.0.1");
  const sockaddr_in address = address_of(host, arguments.count("--port", 0, 0, 65535));
  const std::uint32_t count = arguments.count("--connections", 1000, 1, 60000);
  const bool with_echo = arguments.flag("--echo");
  const double seconds = arguments.number("--seconds", 600, 0.05, 3600);
  arguments.end();
  if (address.sin_port == 0) arguments.fail("--port", "is wanted");
  raise_descriptor_limit();
  stop_after(seconds);
  std::vector<int> sockets;
  const std::int64_t began = now();
  for (std::uint32_t i = 0; i < count && !stopping(); ++i) {
    const int socket = connect_to(address);
    if (socket < 0) die("connect");
    if (with_echo && !echo_once(socket)) die("echo");
    sockets.push_back(socket);
  }
  const double took = static_cast<double>(now() - began) / 1e9;
  JsonLine line;
  line.add("ready", sockets.size() == count).add("program", "hold");
  line.add("connections", sockets.size()).add("seconds", took).print();
  if (sockets.size() < count) return 1;
  wait_for_the_end();
  for (const int socket : sockets) {
    reset_on_close(socket);
    close(socket);
  }
}
