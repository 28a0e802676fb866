#include "driver/iocp/iocp_lane.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "driver/errno.h"

namespace cp::driver::iocp {

std::unique_ptr<IocpLane> IocpLane::make(KernelPort& port, BlockingPool& pool,
                                         BufferSource& buffers, Result& error) {
  std::unique_ptr<IocpLane> lane(new IocpLane(port, pool, buffers));
  error = lane->inbox_.open();
  return error < 0 ? nullptr : std::move(lane);
}

/// Nobody sleeps for the lane any more, and the kernel owes it nothing: no packet names its
/// inbox.
IocpLane::~IocpLane() {
  assert(in_flight_ == 0 && with_kernel_ == 0 && ready_.empty());
  from_pool_.wait_for_pool();
}

void IocpLane::submit(Operation* operation) {
  ++in_flight_;
  operation->lane_descriptor = kNoDescriptor;
  start(operation);
}

void IocpLane::cancel(Operation* operation) {
  switch (static_cast<State>(operation->lane_state)) {
    case kRunnable:
      runnable_.remove(operation);
      return finish(operation, -ECANCELED);
    case kWithKernel:
      return call_back(operation);
    case kOnPool:
      if (pool_.cancel(operation)) return finish(operation, -ECANCELED);
      operation->lane_state = kLeavingPool;
      return;
    case kLeavingPool:
    case kDone:
      return;
  }
}

// ---- reaping ----------------------------------------------------------------------------------

/// What waits since before goes out first, and if it fills the batch the kernel is asked next time.
std::size_t IocpLane::reap(std::span<Completion> out) {
  if (ready_.size() < out.size()) {
    // As many as there are now: one that takes another turn is for the next time.
    for (std::size_t i = runnable_.size(); i > 0 && !runnable_.empty(); --i) {
      receive(runnable_.pop_front());
    }
    fetch_from_pool();
    if (with_kernel_ > 0) calls_.add();
    port_.collect(inbox_, arrivals_, with_kernel_ > 0, !errand_);
    for (const Arrival& arrival : arrivals_) arrived(arrival);
    arrivals_.clear();
  }
  return take_ready(out);
}

void IocpLane::fetch_from_pool() {
  from_pool_.fetch([this](Operation* operation, Result result) {
    const auto opened = static_cast<Descriptor>(result);
    if (result >= 0 && operation->code == Opcode::kOpen) result = take_over(operation, opened);
    if (result >= 0 && operation->code == Opcode::kConnect) result = take_over_pipe(opened);
    finish(operation, result);
  });
}

// ---- waiting ----------------------------------------------------------------------------------

bool IocpLane::something_to_do() const {
  return !ready_.empty() || !runnable_.empty() || !from_pool_.empty();
}

void IocpLane::wait(Deadline deadline) {
  if (!something_to_do()) port_.sleep(inbox_, deadline);
}

bool IocpLane::sleep_on_notifier(Deadline deadline) {
  return !something_to_do() && port_.arm(inbox_, deadline);
}

}  // namespace cp::driver::iocp
