// How many connections a server accepts in a second.
#pragma once

#include <netinet/in.h>

#include <cstdint>

#include "support/histogram.h"

namespace cp::bench {

struct AcceptCount {
  std::uint64_t accepts = 0;
  std::uint64_t errors = 0;
  Histogram latency;  ///< from connect to the answer
};

/// Keeps `outstanding` connections being made until stopping(). Each sends one byte and is reset
/// when it came back: the kernel completes a handshake whether the server accepts or not, so only
/// an answer tells. Counted from `count_from` on.
AcceptCount count_accepts(const sockaddr_in& address, std::uint32_t outstanding,
                          std::int64_t count_from);

}  // namespace cp::bench
