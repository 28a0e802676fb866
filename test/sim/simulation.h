// One simulation: a seed, and what is left out of it.
#pragma once

#include <cstdint>
#include <set>
#include <string>

namespace cp::test {

struct Plan {
  std::uint64_t seed = 0;
  std::string workload;  ///< "port", "frames"; "": by the seed, one in four is the latter
  std::string planted;
  /// Steps of the program that are left out, and faults and interruptions after so many.
  std::set<std::uint32_t> without_steps;
  std::uint64_t without_faults = 0;
  std::uint64_t most_faults = UINT64_MAX;
  std::uint64_t most_interruptions = UINT64_MAX;
  bool verbose = false;
};

/// What a run that held was like.
struct Outcome {
  std::uint64_t hash = 0, steps = 0, interruptions = 0, faults = 0, program = 0;
};

/// Ends the process where a property does not hold.
Outcome simulate(const Plan& plan);

/// Kinds of faults: `without_faults` has a bit for each.
std::uint32_t fault_kinds();

void run_port_workload(const Plan& plan, Outcome& outcome);
void run_frames_workload(const Plan& plan, Outcome& outcome);

}  // namespace cp::test
