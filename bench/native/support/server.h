// What the echo servers share: their options, the line that says they are ready, and their result.
#pragma once

#include <cerrno>
#include <cstdint>
#include <string>

#include "support/arguments.h"
#include "support/json.h"
#include "support/process.h"

namespace cp::bench {

struct ServerOptions {
  std::string host;
  std::uint32_t port = 0;
  double seconds = 0;
};

inline constexpr const char* kServerHelp =
    "  --port N      to listen at; 0: any (0)\n"
    "  --host H      IPv4 address (127.0.0.1)\n"
    "  --seconds N   ends after that, or at SIGTERM (60)\n"
    "Prints {\"port\":P} when it is ready and its result at the end.\n";

ServerOptions server_options(Arguments& arguments);

/// Counts, from `ready` to `report`.
class ServerRun {
 public:
  /// Prints the first line; from here on the time is limited.
  void ready(std::uint32_t port, double seconds);
  /// Prints the last line, which names the server. Negative `system_calls`: not counted.
  void report(JsonLine line, std::int64_t system_calls) const;

  std::uint64_t messages = 0;  ///< sent back; what one receive gave is one message
  std::uint64_t bytes = 0;
  std::uint64_t connections = 0;
  std::uint64_t errors = 0;

  /// Counts a send or receive that failed, but for clients that ended by resetting.
  void failed(int error) { errors += error != ECONNRESET && error != EPIPE; }

 private:
  std::int64_t began_ = 0;
  CpuTime before_;
};

}  // namespace cp::bench
