#include "sim/simulation.h"

#include "driver/sim/world.h"
#include "system/switch_point.h"

namespace cp::test {

std::uint32_t fault_kinds() { return static_cast<std::uint32_t>(driver::sim::Fault::kCount); }

Outcome simulate(const Plan& plan) {
  cp::sim::planted() = plan.planted.c_str();
  Outcome outcome;
  const bool frames = plan.workload.empty() ? plan.seed % 4 == 0 : plan.workload == "frames";
  frames ? run_frames_workload(plan, outcome) : run_port_workload(plan, outcome);
  return outcome;
}

}  // namespace cp::test
