#include "driver/sim/sim_lane.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "system/switch_point.h"

namespace cp::driver::sim {

SimLane::SimLane(World& world, BlockingPool& pool, BufferSource& buffers)
    : world_(world),
      pool_(pool),
      buffers_(buffers),
      from_pool_(*this),
      holds_buffers_(world.random().coin()),
      uses_pool_(!kFilesOfWorld || world.random().coin()),
      notice_(world.add_notifier()) {}

SimLane::~SimLane() {
  const Turn turn;
  if (!jobs_.empty() || !ready_.empty() || !overflow_.empty()) {
    cp::sim::fail("one final packet for each operation", "a lane ends with operations in it");
  }
  from_pool_.wait_for_pool();
  for (const Buffer& buffer : std::exchange(held_, {})) buffers_.give_back(buffer);
  world_.remove_notifier(notice_.descriptor());
}

std::shared_ptr<Job> SimLane::find(const Operation* operation) const {
  for (const auto& job : jobs_) {
    if (job->operation == operation) return job;
  }
  return nullptr;
}

void SimLane::submit(Operation* operation) {
  const Turn turn;
  if (find(operation)) cp::sim::fail("one final packet for each operation", "submitted twice");
  auto job = std::make_shared<Job>();
  job->operation = operation;
  job->lane = this;
  jobs_.push_back(std::move(job));
}

/// One that is not begun, or waits, ends at once or a little later; one that is being carried out
/// has its own result.
void SimLane::cancel(Operation* operation) {
  const Turn turn;
  const std::shared_ptr<Job> job = find(operation);
  if (!job) return;  // its completion is on the way out
  job->cancelled = true;
  if (job->state == Job::State::kQueued) return end_cancelled(*job);
  if (job->state == Job::State::kOnPool) {
    if (pool_.cancel(operation)) finish(*job, -ECANCELED);
    return;
  }
  if (!overflow_.empty()) return late_cancels_.push_back(job);
  cancel_now(job);
}

void SimLane::cancel_now(const std::shared_ptr<Job>& job) {
  if (job->state == Job::State::kStarted && !job->waiting && job->connection == nullptr) return;
  if (world_.random().coin()) return end_cancelled(*job);
  world_.after(world_.delay(), [job] {
    if (job->state != Job::State::kDone) job->lane->end_cancelled(*job);
  });
}

void SimLane::end_cancelled(Job& job) {
  stop_waiting(job);
  if (job.connection != nullptr) world_.close_end(std::exchange(job.connection, nullptr)->ends[0]);
  finish(job, -ECANCELED);
}

bool SimLane::anything() const {
  if (!ready_.empty() || !overflow_.empty() || !from_pool_.empty()) return true;
  return std::any_of(jobs_.begin(), jobs_.end(), [](const auto& job) {
    return job->state == Job::State::kQueued || job->state == Job::State::kReady;
  });
}

bool SimLane::pending() const {
  const Turn turn;
  return anything();
}

bool SimLane::has_news() const {
  const Turn turn;
  return !ready_.empty() || !overflow_.empty();
}

void SimLane::flush() {
  const Turn turn;
  start_queued();
}

std::size_t SimLane::reap(std::span<Completion> out) {
  const Turn turn;
  ++calls_;
  top_up();
  if (ready_.empty()) flush_overflow();
  start_queued();
  fetch_from_pool();
  for (const auto& job : std::vector<std::shared_ptr<Job>>(jobs_)) {
    if (job->state == Job::State::kReady) receive_ready(*job);
  }
  std::size_t count = std::min(out.size(), ready_.size());
  if (count > 1 && world_.fault(Fault::kFew)) count = world_.random().between(1, count - 1);
  std::copy_n(ready_.begin(), count, out.begin());
  ready_.erase(ready_.begin(), ready_.begin() + static_cast<std::ptrdiff_t>(count));
  return count;
}

void SimLane::wait(Deadline deadline) {
  const Turn turn;
  ++calls_;
  start_queued();
  cp::sim::Scheduler& scheduler = *cp::sim::Scheduler::current();
  while (!woken_ && !anything() && scheduler.now() < deadline) {
    if (world_.fault(Fault::kEarly)) break;
    notice_.sleep("waits in its lane", deadline);
  }
  woken_.exchange(false);  // what was written before a wake is seen after this
  system::switch_point();
}

/// Without a turn: a thread of the pool calls it with a lock that others want in their turns.
void SimLane::wake() {
  system::switch_point();
  woken_ = true;
  notice_.tell();
}

bool SimLane::sleep_on_notifier(Deadline deadline) {
  const Turn turn;
  ++calls_;
  start_queued();
  if (anything()) return false;
  notice_.arm(deadline);
  return true;
}

bool SimLane::watch(Deadline deadline) {
  cp::sim::Scheduler& scheduler = *cp::sim::Scheduler::current();
  const auto readable = [&] { return woken_ || anything() || scheduler.now() >= notice_.armed(); };
  while (!readable() && scheduler.now() < deadline) {
    notice_.sleep("waits in its event loop", std::min(deadline, notice_.armed()));
  }
  return readable();
}

void SimLane::clear_notifier() {
  const Turn turn;
  notice_.clear();
  woken_.exchange(false);
}

// ---- buffers ----------------------------------------------------------------------------------

/// As a ring has it: as long as something is received, or its thread would keep buffers that others
/// want (rule M3).
void SimLane::top_up() {
  if (!holds_buffers_) return;
  const bool receives = std::any_of(jobs_.begin(), jobs_.end(), [](const auto& job) {
    return job->operation->code == Opcode::kReceive && job->operation->slice_count == 0;
  });
  if (!receives) {
    for (const Buffer& buffer : std::exchange(held_, {})) buffers_.give_back(buffer);
    return;
  }
  take_buffers();
}

void SimLane::take_buffers() {
  constexpr std::size_t kMost = 4;
  while (held_.size() < kMost) {
    const auto have = static_cast<std::uint32_t>(held_.size());
    Buffer buffer;
    if (buffers_.allowance(have) <= have || !buffers_.take(buffer)) return;
    held_.push_back(buffer);
  }
}

bool SimLane::refill() {
  const Turn turn;
  if (!holds_buffers_) return buffers_.available();
  take_buffers();  // for a receive that comes again
  return !held_.empty();
}

// ---- completions ------------------------------------------------------------------------------

/// Into the ring, which the one who reaps has emptied. What was held back meanwhile begins now.
void SimLane::flush_overflow() {
  ready_.swap(overflow_);
  if (CP_PLANTED("what overflows is lost")) ready_.clear();
  for (const std::weak_ptr<Job>& late : std::exchange(late_cancels_, {})) {
    const std::shared_ptr<Job> job = late.lock();
    if (job && job->state != Job::State::kDone) cancel_now(job);
  }
}

/// Anywhere behind what came of the same operation.
void SimLane::push(const Completion& completion) {
  if (holds_buffers_ && (!overflow_.empty() || world_.fault(Fault::kOverflow))) {
    overflow_.push_back(completion);
    return notice_.tell();
  }
  std::size_t first = ready_.size();
  while (first > 0 && ready_[first - 1].operation != completion.operation) --first;
  const std::size_t place = world_.random().between(first, ready_.size());
  ready_.insert(ready_.begin() + static_cast<std::ptrdiff_t>(place), completion);
  notice_.tell();
}

void SimLane::finish(Job& job, Result result) {
  assert(job.state != Job::State::kDone);
  stop_waiting(job);
  job.state = Job::State::kDone;
  Operation* operation = job.operation;
  std::erase_if(jobs_, [&](const auto& it) { return it.get() == &job; });
  push(completion_of(operation, result));
}

void SimLane::fetch_from_pool() {
  from_pool_.fetch([this](Operation* operation, Result result) {
    if (const std::shared_ptr<Job> job = find(operation)) finish(*job, result);
  });
}

}  // namespace cp::driver::sim
