// A workload in a schedule of its own. `Run` has `main`, `look`, for when nothing moves, and
// `faults`.
#pragma once

#include "sim/simulation.h"
#include "system/sim/scheduler.h"

namespace cp::test {

constexpr cp::sim::Time kMillisecond = 1'000'000;

template <typename Run>
void run_workload(const Plan& plan, Outcome& outcome) {
  cp::sim::Schedule schedule;
  schedule.seed = plan.seed;
  schedule.most_interruptions = plan.most_interruptions;
  schedule.verbose = plan.verbose;
  cp::sim::Scheduler scheduler(schedule);
  Run run(plan);
  scheduler.when_quiet([&] { run.look(); });
  scheduler.run([&] { run.main(); });
  outcome.hash = scheduler.hash();
  outcome.steps = scheduler.steps();
  outcome.interruptions = scheduler.interruptions();
  outcome.faults = run.faults();
}

}  // namespace cp::test
