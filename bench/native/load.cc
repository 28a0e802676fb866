// A TCP load generator for echo servers.
#include <sys/prctl.h>

#include <cerrno>
#include <cstdio>

#include "support/accepts.h"
#include "support/arguments.h"
#include "support/echo_client.h"
#include "support/json.h"
#include "support/latency.h"
#include "support/process.h"
#include "support/socket.h"
#include "support/wire.h"

namespace cp::bench {
namespace {

constexpr const char* kHelp =
    "load: sends messages to an echo server and looks at what comes back\n"
    "  --port N          the server's\n"
    "  --host H          IPv4 address (127.0.0.1)\n"
    "  --connections N   each has one message under way (50)\n"
    "  --size N          bytes of a message (64)\n"
    "  --seconds N       what is measured (5)\n"
    "  --warmup N        seconds before it (1)\n"
    "  --rate N          messages a second in total; latency counts from the time each was to be\n"
    "                    sent at, so a server that stalls is not spared. 0: as fast as answered "
    "(0)\n"
    "  --io NAME         io_uring or epoll (io_uring where there is one)\n"
    "  --accepts         connects, sends one byte, resets when it came back: accepts a second.\n"
    "                    --connections are being made at a time\n";

struct Options {
  sockaddr_in address{};
  std::uint32_t connections = 0, size = 0;
  double seconds = 0, warmup = 0, rate = 0;
  std::string io;
};

int count_accepts_for(const Options& options) {
  stop_after(options.warmup + options.seconds);
  const std::int64_t from = now() + static_cast<std::int64_t>(options.warmup * 1e9);
  const AcceptCount count = count_accepts(options.address, options.connections, from);
  const double seconds = static_cast<double>(now() - from) / 1e9;
  JsonLine line;
  line.add("program", "load").add("mode", "accepts").add("connections", options.connections);
  line.add("seconds", seconds).add("accepts", count.accepts);
  line.add("accepts_per_second", static_cast<double>(count.accepts) / seconds);
  add_latency(line, count.latency);
  line.add("errors", count.errors).print();
  return count.errors == 0 ? 0 : 1;
}

void connect_all(Wire& wire, const Options& options) {
  for (std::uint32_t i = 0; i < options.connections; ++i) {
    const int socket = connect_to(options.address);
    if (socket < 0) die("connect");
    wire.add(socket);
  }
}

int echo(const Options& options) {
  const std::unique_ptr<Wire> wire = make_wire(options.io);
  connect_all(*wire, options);
  stop_after(options.warmup + options.seconds + 5);  // in case nothing ever comes back
  EchoClient::Options wanted;
  wanted.connections = options.connections;
  wanted.size = options.size;
  wanted.rate = options.rate;
  wanted.count_from = now() + static_cast<std::int64_t>(options.warmup * 1e9);
  wanted.end = wanted.count_from + static_cast<std::int64_t>(options.seconds * 1e9);
  const CpuTime before = CpuTime::used();
  EchoClient client(*wire, wanted);
  client.run();
  const CpuTime cpu = CpuTime::used() - before;
  const double each = static_cast<double>(std::max<std::uint64_t>(client.all(), 1));
  JsonLine line;
  line.add("program", "load").add("mode", options.rate > 0 ? "rate" : "closed");
  line.add("io", wire->name()).add("connections", options.connections).add("size", options.size);
  line.add("seconds", options.seconds).add("messages", client.messages());
  line.add("messages_per_second", static_cast<double>(client.messages()) / options.seconds);
  if (options.rate > 0) line.add("rate", options.rate);
  add_latency(line, client.latency());
  line.add("all_messages", client.all()).add("cpu_us_per_message", cpu.sum() / each);
  line.add("errors", client.errors()).print();
  return client.errors() == 0 && client.messages() > 0 ? 0 : 1;
}

}  // namespace
}  // namespace cp::bench

int main(int argc, char** argv) {
  using namespace cp::bench;
  Arguments arguments(argc, argv, kHelp);
  Options options;
  const std::string host = arguments.text("--host", "127.0.0.1");
  options.address = address_of(host, arguments.count("--port", 0, 0, 65535));
  options.connections = arguments.count("--connections", 50, 1, 60000);
  options.size = arguments.count("--size", 64, 1, 16 << 20);
  options.seconds = arguments.number("--seconds", 5, 0.05, 3600);
  options.warmup = arguments.number("--warmup", 1, 0, 600);
  options.rate = arguments.number("--rate", 0, 0, 1e8);
  options.io = arguments.text("--io", "");
  const bool accepts = arguments.flag("--accepts");
  arguments.end();
  if (options.address.sin_port == 0) arguments.fail("--port", "is wanted");
  raise_descriptor_limit();
  prctl(PR_SET_TIMERSLACK, 1);  // waits for the time of the next message end at that time
  return accepts ? count_accepts_for(options) : echo(options);
}
