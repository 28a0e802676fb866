#include "driver/iocp/iocp_lane.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "driver/errno.h"
#include "driver/iocp/windows_file.h"

namespace cp::driver {

std::unique_ptr<IocpLane> IocpLane::make(KernelPort& port, BlockingPool& pool,
                                         BufferSource& buffers, Result& error) {
  std::unique_ptr<IocpLane> lane(new IocpLane(port, pool, buffers));
  error = lane->mailbox_.open();
  return error < 0 ? nullptr : std::move(lane);
}

/// Nobody sleeps for the lane any more, and the kernel owes it nothing: no packet names its
/// mailbox.
IocpLane::~IocpLane() {
  assert(in_flight_ == 0 && with_kernel_ == 0 && ready_.empty());
  // A thread of the pool may still be about to leave `completed`.
  { std::lock_guard lock(pool_mutex_); }
}

void IocpLane::submit(Operation* operation) {
  ++in_flight_;
  operation->lane_descriptor = kNoDescriptor;
  start(operation);
}

/// CancelIoEx finds nothing (ERROR_NOT_FOUND) when the operation has just completed: its packet is
/// on the way then, and tells.
void IocpLane::cancel(Operation* operation) {
  switch (static_cast<State>(operation->lane_state)) {
    case kRunnable:
      runnable_.remove(operation);
      return finish(operation, -ECANCELED);
    case kPending: {
      if (operation->code == Opcode::kAccept) return cancel_accept(operation);
      const bool connecting = operation->code == Opcode::kConnect;
      Pending& pending = Pending::in(*operation);
      const bool reading = operation->code == Opcode::kSendFile && !pending.sending;
      const Descriptor on = connecting ? operation->lane_descriptor
                            : reading  ? operation->file
                                       : operation->descriptor;
      pending.cancelled = true;
      count_call();
      ::CancelIoEx(reinterpret_cast<HANDLE>(on), &pending.overlapped);
      return;
    }
    case kOnPool:
      if (pool_.cancel(operation)) finish(operation, -ECANCELED);
      return;
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
    if (has_from_pool_.load(std::memory_order_acquire)) fetch_from_pool();
    if (with_kernel_ > 0) count_call();
    port_.collect(mailbox_, arrivals_, with_kernel_ > 0, !errand_);
    for (const Arrival& arrival : arrivals_) arrived(arrival);
    arrivals_.clear();
  }
  return take_ready(out);
}

std::size_t IocpLane::take_ready(std::span<Completion> out) {
  const std::size_t taken = std::min(ready_.size(), out.size());
  const auto end = ready_.begin() + static_cast<std::ptrdiff_t>(taken);
  std::copy(ready_.begin(), end, out.begin());
  for (auto it = ready_.begin(); it != end; ++it) in_flight_ -= it->more ? 0 : 1;
  ready_.erase(ready_.begin(), end);
  return taken;
}

// ---- waiting ----------------------------------------------------------------------------------

bool IocpLane::something_to_do() const {
  return !ready_.empty() || !runnable_.empty() || has_from_pool_.load(std::memory_order_acquire);
}

void IocpLane::wait(Deadline deadline) {
  if (!something_to_do()) port_.sleep(mailbox_, deadline);
}

bool IocpLane::sleep_on_notifier(Deadline deadline) {
  return !something_to_do() && port_.arm(mailbox_, deadline);
}

// ---- the blocking pool ------------------------------------------------------------------------

/// Everything under the lock, the wake as well: once the owner has taken the result, it may destroy
/// the lane, and the destructor's lock waits for this one.
void IocpLane::completed(Operation* operation, Result result) {
  std::lock_guard lock(pool_mutex_);
  from_pool_.push_back({operation, result, false, false, {}});
  has_from_pool_.store(true, std::memory_order_release);
  wake();
}

void IocpLane::fetch_from_pool() {
  std::vector<Completion> fetched;
  {
    std::lock_guard lock(pool_mutex_);
    fetched.swap(from_pool_);
    has_from_pool_.store(false, std::memory_order_relaxed);
  }
  for (Completion& completion : fetched) {
    if (completion.operation->code == Opcode::kOpen && completion.result >= 0)
      take_over(completion);
    completion.operation->lane_state = kDone;
    ready_.push_back(completion);
  }
}

/// Binds what was opened to the kernel port. A console, for one, can't be.
void IocpLane::take_over(Completion& opened) {
  const auto descriptor = static_cast<Descriptor>(opened.result);
  Result result = file_kind_of(descriptor, opened.operation->file_kind);
  if (result == 0) result = port_.associate(descriptor);
  if (result == 0) return;
  close_anything(descriptor);
  opened.result = result;
}

}  // namespace cp::driver
