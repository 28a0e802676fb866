#include "support/server.h"

#include <algorithm>

namespace cp::bench {

ServerOptions server_options(Arguments& arguments) {
  ServerOptions options;
  options.host = arguments.text("--host", "127.0.0.1");
  options.port = arguments.count("--port", 0, 0, 65535);
  options.seconds = arguments.number("--seconds", 60, 0.01, 3600);
  return options;
}

void ServerRun::ready(std::uint32_t port, double seconds) {
  stop_after(seconds);
  JsonLine().add("port", port).print();
  began_ = now();
  before_ = CpuTime::used();
}

void ServerRun::report(JsonLine line, std::int64_t system_calls) const {
  const CpuTime cpu = CpuTime::used() - before_;
  const double seconds = static_cast<double>(now() - began_) / 1e9;
  const double each = static_cast<double>(std::max<std::uint64_t>(messages, 1));
  line.add("seconds", seconds);
  line.add("connections", connections).add("messages", messages).add("bytes", bytes);
  line.add("errors", errors);
  line.add("user_us", cpu.user).add("system_us", cpu.system).add("cpu_us", cpu.sum());
  line.add("cpu_us_per_message", cpu.sum() / each);
  if (system_calls >= 0) {
    line.add("system_calls", system_calls);
    line.add("system_calls_per_message", static_cast<double>(system_calls) / each);
  }
  line.print();
}

}  // namespace cp::bench
