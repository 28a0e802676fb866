// How a lane on the world in memory begins each operation, and tries it again.
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <iterator>

#include "driver/accept_errors.h"
#include "driver/blocking/blocking_calls.h"
#include "driver/receive_once.h"
#include "driver/sim/sim_driver.h"
#include "driver/sim/sim_lane.h"
#include "driver/source_file.h"
#include "system/switch_point.h"

namespace cp::driver::sim {
namespace {

const char* name_of(Opcode code) {
  constexpr const char* kNames[] = {
      "open",      "close",     "read",         "write",           "sync",
      "data sync", "truncate",  "allocate",     "set mode",        "set owner",
      "set times", "stat",      "accept",       "connect",         "receive",
      "send",      "send file", "send handles", "receive handles", "shutdown"};
  static_assert(std::size(kNames) == static_cast<std::size_t>(Opcode::kShutdown) + 1);
  return kNames[static_cast<std::size_t>(code)];
}

}  // namespace

void SimLane::start_queued() {
  if (!overflow_.empty()) {
    if (CP_PLANTED("what EBUSY refuses is lost")) {
      for (const auto& job : jobs_) {
        if (job->state == Job::State::kQueued) job->state = Job::State::kStarted;
      }
    }
    return;
  }
  for (const auto& job : std::vector<std::shared_ptr<Job>>(jobs_)) {
    if (job->state == Job::State::kQueued) start(*job);
  }
}

void SimLane::start(Job& job) {
  job.state = Job::State::kStarted;
  switch (job.operation->code) {
    case Opcode::kAccept:
    case Opcode::kReceive:
    case Opcode::kSend:
    case Opcode::kSendFile:
    case Opcode::kShutdown:
      world_.check(*job.operation);
      return later(job, world_.random().coin() ? 0 : world_.delay());
    case Opcode::kSendHandles:
    case Opcode::kReceiveHandles:
      return finish(job, -EOPNOTSUPP);  // these sockets are TCP's
    case Opcode::kConnect:
      return connect(job);
    case Opcode::kClose:
      if (kFilesOfWorld ? job.operation->stream || job.operation->pollable
                        : World::has(job.operation->descriptor)) {
        return close(job);
      }
      return on_file(job);
    case Opcode::kRead:
    case Opcode::kWrite:
      if (kFilesOfWorld && job.operation->stream) {
        return later(job, world_.random().coin() ? 0 : world_.delay());
      }
      return on_file(job);
    case Opcode::kOpen:
    case Opcode::kSync:
    case Opcode::kDataSync:
    case Opcode::kTruncate:
    case Opcode::kAllocate:
    case Opcode::kSetMode:
    case Opcode::kSetOwner:
    case Opcode::kSetTimes:
    case Opcode::kStat:
      return on_file(job);
  }
}

/// By the pool's threads, or by the system itself.
void SimLane::on_file(Job& job) {
  if (uses_pool_) {
    job.state = Job::State::kOnPool;
    return pool_.submit(job.operation, from_pool_);
  }
  later(job, world_.delay());
}

void SimLane::later(Job& job, Time span) {
  if (job.tried) return;
  job.tried = true;
  const std::shared_ptr<Job> shared = find(job.operation);
  const auto run = [shared] {
    shared->tried = false;
    if (shared->state == Job::State::kStarted) shared->lane->attempt(*shared);
  };
  if (span == 0) return run();
  world_.after(span, run);
}

/// Never at once: whoever tells of a change may be in the middle of an attempt.
void SimLane::kick(Job& job) {
  later(job, world_.random().one_in(4) ? std::max<Time>(1, world_.delay()) : 1);
}

void SimLane::attempt(Job& job) {
  cp::sim::Scheduler::current()->note(
      "the system tries on descriptor %lld:", static_cast<std::uint64_t>(job.operation->descriptor),
      0, 0, name_of(job.operation->code));
  const Opcode code = job.operation->code;
  const bool interruptible =
      code == Opcode::kAccept || code == Opcode::kReceive || code == Opcode::kSend;
  if (interruptible && world_.fault(Fault::kInterrupted)) return finish(job, -EINTR);
  switch (job.operation->code) {
    case Opcode::kAccept:
      return accept(job);
    case Opcode::kReceive:
      return receive(job);
    case Opcode::kSend:
      return send(job);
    case Opcode::kSendFile:
      return send_file(job);
    case Opcode::kShutdown:
      return shut_down(job);
    case Opcode::kRead:
    case Opcode::kWrite:
    case Opcode::kOpen:
    case Opcode::kClose:
    case Opcode::kSync:
    case Opcode::kDataSync:
    case Opcode::kTruncate:
    case Opcode::kAllocate:
    case Opcode::kSetMode:
    case Opcode::kSetOwner:
    case Opcode::kSetTimes:
    case Opcode::kStat:
    case Opcode::kConnect:
    case Opcode::kSendHandles:
    case Opcode::kReceiveHandles:
      return perform(job);
  }
}

/// An end of a FIFO waits until there are bytes, or room; the opening of one, until somebody has
/// opened the other.
void SimLane::perform(Job& job) {
  const Result result = world_.perform(*job.operation);
  if (result == -EAGAIN && job.operation->stream) return wait_ready(job);
  if (result != kTryLater) return finish(job, result);
  if (job.cancelled) return end_cancelled(job);
  constexpr Time kLookAgain = 1'000'000;
  later(job, kLookAgain);
}

void SimLane::wait_ready(Job& job) {
  if (job.waiting) return;
  if (job.cancelled) return end_cancelled(job);
  job.waiting = true;
  world_.at(job.operation->descriptor)->waiting().push_back(&job);
}

void SimLane::stop_waiting(Job& job) {
  if (!job.waiting) return;
  job.waiting = false;
  world_.check(*job.operation);
  std::erase(world_.at(job.operation->descriptor)->waiting(), &job);
}

void SimLane::accept(Job& job) {
  world_.check(*job.operation);
  Entry* entry = world_.at(job.operation->descriptor);
  if (entry->listener == nullptr) return finish(job, -EINVAL);
  const std::shared_ptr<Listener> listener = entry->listener;
  for (;;) {
    Connection* connection = nullptr;
    const Result result = world_.accept(*listener, connection);
    if (result == -EAGAIN) return wait_ready(job);
    if (concerns_one_connection(result)) continue;
    if (result < 0) return finish(job, result);
    Entry accepted;
    accepted.end = &connection->ends[1];
    Completion completion = completion_of(job.operation, world_.put(std::move(accepted)));
    cp::sim::Scheduler::current()->note("connection %lld is accepted as descriptor %lld",
                                        connection->number,
                                        static_cast<std::uint64_t>(completion.result));
    if (!job.operation->multishot || world_.fault(Fault::kNatural)) {
      return finish(job, completion.result);
    }
    completion.more = true;
    push(completion);
  }
}

void SimLane::connect(Job& job) {
  if (world_.fault(Fault::kTooManyFiles)) return finish(job, -EMFILE);
  const std::shared_ptr<Job> shared = find(job.operation);
  const SocketAddress& peer = job.operation->target->peer;
  if (!World::speaks(peer)) return finish(job, -EAFNOSUPPORT);
  job.connection = world_.dial(peer, [shared](Connection* connection, Result result) {
    World& world = World::current();
    if (shared->state == Job::State::kDone) return;
    shared->connection = nullptr;
    if (result < 0) {
      connection->ends[0].closed = true;
      return shared->lane->finish(*shared, result);
    }
    Entry entry;
    entry.end = &connection->ends[0];
    shared->lane->finish(*shared, world.put(std::move(entry)));
  });
}

/// Where the lane's thread has the buffers, that one does it (`receive_ready`).
void SimLane::receive(Job& job) {
  world_.check(*job.operation);
  End* end = world_.at(job.operation->descriptor)->end;
  if (end == nullptr) return finish(job, -ENOTSOCK);
  const bool own_memory = job.operation->slice_count > 0;
  if (own_memory) {
    const Slice& into = job.operation->slices[0];
    const Result result = world_.receive(*end, static_cast<std::uint8_t*>(into.base), into.length);
    if (result == -EAGAIN) return wait_ready(job);
    return finish(job, result);
  }
  const bool something =
      !end->in().arrived.empty() || end->in().end_arrived || end->shut_in || end->reset;
  if (!something) return wait_ready(job);
  if (!holds_buffers_) {
    stop_waiting(job);
    job.state = Job::State::kReady;
    return notice_.tell();
  }
  for (;;) {
    if (world_.fault(Fault::kNoBuffers)) return finish(job, -ENOBUFS);
    if (!end->in().arrived.empty() && held_.empty()) return finish(job, -ENOBUFS);
    std::uint8_t nothing = 0;
    const bool bytes = !end->in().arrived.empty() && !end->shut_in;
    const Result result = bytes ? world_.receive(*end, held_.back().data, held_.back().size)
                                : world_.receive(*end, &nothing, 1);
    if (result == -EAGAIN) return wait_ready(job);
    if (result <= 0) return finish(job, result);
    Completion completion = completion_of(job.operation, result);
    completion.buffer = held_.back();
    held_.pop_back();
    completion.more_data = !end->in().arrived.empty();
    completion.more = job.operation->multishot && !world_.fault(Fault::kNatural);
    if (completion.more) {
      push(completion);
      continue;
    }
    stop_waiting(job);
    job.state = Job::State::kDone;
    std::erase_if(jobs_, [&](const auto& it) { return it.get() == &job; });
    return push(completion);
  }
}

/// By the thread that reaps: it may be interrupted where it takes a buffer, and the operation be
/// over when it goes on.
void SimLane::receive_ready(Job& job) {
  world_.check(*job.operation);
  End* end = world_.at(job.operation->descriptor)->end;
  constexpr int kTurn = 4;
  for (int turn = 0; turn < kTurn; ++turn) {
    Completion completion = completion_of(job.operation, 0);
    const Result result =
        receive_once(buffers_, *job.operation, completion, [&](const Slice& into) -> Result {
          if (job.state != Job::State::kReady) return -EAGAIN;
          return world_.receive(*end, static_cast<std::uint8_t*>(into.base), into.length);
        });
    if (job.state != Job::State::kReady) {
      assert(result <= 0);
      return;
    }
    if (result == -EAGAIN) {
      job.state = Job::State::kStarted;
      wait_ready(job);
      if (job.waiting) kick(job);
      return;
    }
    if (result <= 0) return finish(job, result);
    completion.result = result;
    completion.more_data = !end->in().arrived.empty();
    completion.more = job.operation->multishot && !world_.fault(Fault::kNatural);
    if (!completion.more) {
      job.state = Job::State::kDone;
      std::erase_if(jobs_, [&](const auto& it) { return it.get() == &job; });
      return push(completion);
    }
    push(completion);
  }
}

void SimLane::send(Job& job) {
  world_.check(*job.operation);
  const Operation& operation = *job.operation;
  End* end = world_.at(operation.descriptor)->end;
  if (end == nullptr) return finish(job, -ENOTSOCK);
  Result sent = 0;
  for (std::uint32_t i = 0; i < operation.slice_count; ++i) {
    const Slice& slice = operation.slices[i];
    if (slice.length == 0) continue;
    const Result result =
        world_.send(*end, static_cast<const std::uint8_t*>(slice.base), slice.length);
    if (result < 0) {
      if (sent > 0) break;
      if (result == -EAGAIN) return wait_ready(job);
      return finish(job, result);
    }
    sent += result;
    if (static_cast<std::size_t>(result) < slice.length) break;
  }
  finish(job, sent);
}

void SimLane::send_file(Job& job) {
  world_.check(*job.operation);
  const Operation& operation = *job.operation;
  End* end = world_.at(operation.descriptor)->end;
  if (world_.fault(Fault::kIo)) return finish(job, -EIO);
  std::uint8_t bytes[8192];
  const std::size_t most = std::min<std::size_t>(operation.length, sizeof bytes);
  const Result read =
      read_for_sending(world_, operation.file->descriptor, operation.offset, bytes, most);
  if (read <= 0) return finish(job, read);
  const Result result = world_.send(*end, bytes, static_cast<std::size_t>(read));
  if (result == -EAGAIN) return wait_ready(job);
  finish(job, result);
}

void SimLane::shut_down(Job& job) {
  world_.check(*job.operation);
  End* end = world_.at(job.operation->descriptor)->end;
  finish(job, world_.shut_down(*end, static_cast<int>(job.operation->flags)));
}

void SimLane::close(Job& job) {
  world_.check(*job.operation);
  finish(job, world_.close(job.operation->descriptor));
}

}  // namespace cp::driver::sim
