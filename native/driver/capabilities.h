// What the first-choice driver asks of the kernel, one answer each: for diagnosis, not for use.
#pragma once

#include <string>
#include <vector>

#include "driver/driver.h"

namespace cp::driver {

struct Capability {
  std::string name;   ///< as the system's manual has it
  std::string since;  ///< first kernel version that has it
  bool required;      ///< without it the driver is not used; else it only gets slower
  Result result;      ///< 0: granted; else a negative errno
};

/// Asks anew at each call. Ends at the first refusal after which nothing more can be asked. Empty
/// on systems whose driver depends on nothing that could be missing.
std::vector<Capability> capabilities();

/// What brings about that completions of a busy thread are not left lying: "signal", "tick", "off",
/// see uring/nudge.h; "" where the driver needs nothing of the kind. `reason`: why not the first.
struct Nudging {
  std::string mode;
  std::string reason;
};
/// For the calling thread.
Nudging nudging();

}  // namespace cp::driver
