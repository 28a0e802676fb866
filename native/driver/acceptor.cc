#include "driver/acceptor.h"

#include <algorithm>
#include <utility>

#include "driver/accept_errors.h"
#include "driver/blocking/blocking_thread.h"
#include "driver/errno.h"
#include "system/thread.h"

namespace cp::driver {
namespace {

/// A thread that has not come for a connection after that is busy with something else. Loops of
/// busy servers take a few milliseconds a turn: less would take connections from threads that come.
constexpr Deadline kLate = 10'000'000;
/// Connections of a listener that wait for its threads; beyond, they wait in the kernel.
constexpr std::size_t kMostWaiting = 1024;
/// Accepted in one go, so that one listener does not keep the others waiting.
constexpr int kTogether = 16;

}  // namespace

class SharedListener {
 public:
  std::uint32_t id = 0;
  std::string name;
  std::string path;
  Descriptor descriptor = kNoDescriptor;
  AcceptPolicy policy = AcceptPolicy::kLeastConnections;
  std::uint32_t holds = 0;
  bool closed = false;
  bool watched = false;
  Deadline paused_until = 0;
  std::vector<std::shared_ptr<Seat>> seats;
  std::size_t next = 0;  ///< whose turn it is, among equals
  std::uint64_t accepted = 0, moved = 0;

  std::size_t waiting() const {
    std::size_t all = 0;
    for (const auto& seat : seats) all += seat->queue.size();
    return all;
  }
};

namespace {

bool late(const Seat& seat, Deadline now) {
  return !seat.queue.empty() && seat.queue.front().since + kLate <= now;
}

std::int64_t load(const Seat& seat) {
  const std::int32_t open = seat.words->open.load(std::memory_order_relaxed);
  const std::int64_t in_hand = open == seat.open_before ? 1 : 0;
  return open + in_hand + static_cast<std::int64_t>(seat.queue.size());
}

/// Whether `a` is to have the next connection rather than `b`, which comes later in turn.
bool before(AcceptPolicy policy, const Seat& a, const Seat& b) {
  switch (policy) {
    case AcceptPolicy::kLeastConnections:
      return load(a) <= load(b);
    case AcceptPolicy::kLifo:
      if (a.queue.size() != b.queue.size()) return a.queue.size() < b.queue.size();
      return a.came >= b.came;
    case AcceptPolicy::kRoundRobin:
      return true;
  }
  return true;
}

}  // namespace

/// Never destroyed: its thread runs until the process ends.
Acceptor& Acceptor::instance() {
  static auto* const acceptor = new Acceptor;
  return *acceptor;
}

Descriptor Acceptor::socket_of(const SharedListener& listener) { return listener.descriptor; }
std::uint32_t Acceptor::id(const SharedListener& listener) { return listener.id; }

// ---- listeners --------------------------------------------------------------------------------

std::shared_ptr<SharedListener> Acceptor::find(const std::string& name) {
  std::lock_guard lock(mutex_);
  for (const auto& [id, listener] : listeners_) {
    if (listener->name != name || listener->closed) continue;
    ++listener->holds;
    return listener;
  }
  return nullptr;
}

std::shared_ptr<SharedListener> Acceptor::find(std::uint32_t id) {
  std::lock_guard lock(mutex_);
  const auto found = listeners_.find(id);
  if (found == listeners_.end() || found->second->closed) return nullptr;
  ++found->second->holds;
  return found->second;
}

std::shared_ptr<SharedListener> Acceptor::share(const std::string& name, Descriptor descriptor,
                                                const std::string& path, AcceptPolicy policy,
                                                Result& error) {
  std::lock_guard lock(mutex_);
  const auto fail = [&] {
    close_socket(descriptor);
    if (!path.empty()) remove_file_of_socket(path.c_str());
    return nullptr;
  };
  if (!start(error)) return fail();
  auto listener = std::make_shared<SharedListener>();
  listener->id = ++last_id_;
  listener->name = name;
  listener->descriptor = descriptor;
  listener->path = path;
  listener->policy = policy;
  listener->holds = 1;
  error = sockets_->add(descriptor, listener->id);
  if (error < 0) return fail();
  listeners_.emplace(listener->id, listener);
  return listener;
}

void Acceptor::release(SharedListener& listener) {
  std::lock_guard lock(mutex_);
  --listener.holds;
  drop_if_unused(listener);
}

void Acceptor::close(SharedListener& listener) {
  std::lock_guard lock(mutex_);
  shut(listener);
  for (const auto& seat : listener.seats) seat->bell->ring();
}

bool Acceptor::closed(const SharedListener& listener) {
  std::lock_guard lock(mutex_);
  return listener.closed;
}

void Acceptor::shut(SharedListener& listener) {
  if (listener.closed) return;
  listener.closed = true;
  sockets_->remove(listener.descriptor, listener.id);
  if (!listener.path.empty()) remove_file_of_socket(listener.path.c_str());
  close_socket(std::exchange(listener.descriptor, kNoDescriptor));
}

void Acceptor::drop_if_unused(SharedListener& listener) {
  if (listener.holds > 0 || !listener.seats.empty()) return;
  shut(listener);
  listeners_.erase(listener.id);
}

/// Looks at the socket as long as somebody can take what comes.
void Acceptor::watch(SharedListener& listener) {
  const bool wanted = !listener.closed && !listener.seats.empty() && listener.paused_until == 0 &&
                      listener.waiting() < kMostWaiting;
  if (listener.closed || wanted == listener.watched) return;
  listener.watched = wanted;
  sockets_->look_at(listener.descriptor, listener.id, wanted);
}

// ---- threads ----------------------------------------------------------------------------------

std::shared_ptr<Seat> Acceptor::join(const std::shared_ptr<SharedListener>& listener,
                                     SeatBell& bell) {
  std::lock_guard lock(mutex_);
  if (listener->closed) return nullptr;
  auto seat = std::make_shared<Seat>();
  seat->bell = &bell;
  seat->listener = listener;
  listener->seats.push_back(seat);
  watch(*listener);
  return seat;
}

void Acceptor::leave(Seat& seat) {
  std::lock_guard lock(mutex_);
  if (std::exchange(seat.left, true)) return;
  SharedListener& listener = *seat.listener;
  std::erase_if(listener.seats, [&](const auto& other) { return other.get() == &seat; });
  const Deadline at = now();
  for (const Seat::Waiting& waiting : std::exchange(seat.queue, {})) {
    Seat* other = listener.closed ? nullptr : choose(listener, nullptr, at);
    if (other == nullptr) {
      close_socket(waiting.descriptor);
      continue;
    }
    ++listener.moved;
    give(*other, waiting.descriptor, at);
  }
  seat.bell = nullptr;
  watch(listener);
  const std::shared_ptr<SharedListener> kept = seat.listener;
  drop_if_unused(listener);
  sockets_->nudge();  // deadlines may have changed
}

bool Acceptor::waits(Seat& seat) {
  std::lock_guard lock(mutex_);
  if (seat.left) return false;
  SharedListener& listener = *seat.listener;
  seat.came = ++turn_;
  seat.open_before = -1;
  if (seat.queue.empty()) take_over(listener, seat);
  if (seat.queue.empty()) seat.bell->silence();
  return !seat.queue.empty();
}

/// One that another thread was given and doesn't come for.
void Acceptor::take_over(SharedListener& listener, Seat& seat) {
  const Deadline at = now();
  for (const auto& other : listener.seats) {
    if (!late(*other, at)) continue;
    seat.queue.push_back({other->queue.front().descriptor, at});
    other->queue.pop_front();
    ++listener.moved;
    return;
  }
}

Descriptor Acceptor::take(Seat& seat) {
  std::lock_guard lock(mutex_);
  if (seat.left || seat.queue.empty()) return kNoDescriptor;
  const Descriptor descriptor = seat.queue.front().descriptor;
  seat.queue.pop_front();
  seat.open_before = seat.words->open.load(std::memory_order_relaxed);
  watch(*seat.listener);
  return descriptor;
}

Acceptor::Stats Acceptor::stats(const SharedListener& listener) {
  std::lock_guard lock(mutex_);
  Stats stats;
  stats.threads = static_cast<std::uint32_t>(listener.seats.size());
  stats.waiting = static_cast<std::uint32_t>(listener.waiting());
  for (const auto& seat : listener.seats) {
    stats.open += static_cast<std::uint32_t>(seat->words->open.load());
  }
  stats.accepted = listener.accepted;
  stats.moved = listener.moved;
  return stats;
}

/// Of the threads that come for what they are given, the one that the policy says; where none does,
/// the one with the fewest connections. Null without threads.
Seat* Acceptor::choose(SharedListener& listener, const Seat* except, Deadline at) {
  const std::size_t count = listener.seats.size();
  Seat* best = nullptr;
  Seat* least = nullptr;
  Seat* wished = nullptr;
  for (std::size_t i = 0; i < count; ++i) {
    Seat* seat = listener.seats[(listener.next + i) % count].get();
    if (seat == except) continue;
    if (least == nullptr || load(*seat) < load(*least)) least = seat;
    if (wished == nullptr || !before(listener.policy, *wished, *seat)) wished = seat;
    if (late(*seat, at)) continue;
    if (best == nullptr || !before(listener.policy, *best, *seat)) best = seat;
  }
  Seat* chosen = best != nullptr || except != nullptr ? best : least;
  if (chosen != wished && except == nullptr) ++listener.moved;
  for (std::size_t i = 0; i < count && chosen != nullptr; ++i) {
    if (listener.seats[i].get() == chosen) listener.next = (i + 1) % count;
  }
  return chosen;
}

void Acceptor::give(Seat& seat, Descriptor descriptor, Deadline since) {
  seat.queue.push_back({descriptor, since});
  seat.bell->ring();
}

// ---- the acceptor's thread --------------------------------------------------------------------

bool Acceptor::start(Result& error) {
  if (started_) return true;
  error = -EMFILE;
  if (sockets_ == nullptr) sockets_ = ListeningSockets::make();
  if (sockets_ == nullptr) return false;
  system::Thread thread = start_blocking_thread([this] { run(); });
  error = -EAGAIN;
  if (!thread.joinable()) return false;
  thread.detach();
  return started_ = true;
}

void Acceptor::run() {
  name_acceptor_thread();
  std::vector<std::uint32_t> ids;
  Deadline next = kNever;
  for (;;) {
    sockets_->wait(ids, next);
    std::lock_guard lock(mutex_);
    const Deadline at = now();
    for (const std::uint32_t id : ids) {
      const auto found = listeners_.find(id);
      if (found != listeners_.end()) accept_some(*found->second, at);
    }
    next = look_after_late(at);
  }
}

void Acceptor::accept_some(SharedListener& listener, Deadline at) {
  for (int i = 0; i < kTogether && !listener.closed; ++i) {
    if (listener.seats.empty() || listener.waiting() >= kMostWaiting) break;
    const Result accepted = accept_connection(listener.descriptor);
    if (accepted < 0) {
      if (exhausted(accepted)) listener.paused_until = at + kPauseAfterExhaustion;
      // Of other errors the connection died of, the next call knows nothing.
      if (accepted != -EINTR && !concerns_one_connection(accepted)) break;
      continue;
    }
    ++listener.accepted;
    give(*choose(listener, nullptr, at), static_cast<Descriptor>(accepted), at);
  }
  watch(listener);
}

/// Gives what waits for late threads to others that come; when to look again.
Deadline Acceptor::look_after_late(Deadline at) {
  Deadline next = kNever;
  for (const auto& [id, listener] : listeners_) {
    if (listener->paused_until != 0 && listener->paused_until <= at) {
      listener->paused_until = 0;
      watch(*listener);
    }
    if (listener->paused_until != 0) next = std::min(next, listener->paused_until);
    for (const auto& seat : listener->seats) move_late(*listener, *seat, at);
    // All that was moved has its place now, also with those that were looked at before.
    for (const auto& seat : listener->seats) {
      if (seat->queue.empty()) continue;
      next = std::min(next, std::max(at, seat->queue.front().since) + kLate);
    }
  }
  return next;
}

void Acceptor::move_late(SharedListener& listener, Seat& seat, Deadline at) {
  while (late(seat, at)) {
    Seat* other = choose(listener, &seat, at);
    if (other == nullptr) return;  // all are late: it is looked at again
    const Descriptor descriptor = seat.queue.front().descriptor;
    seat.queue.pop_front();
    ++listener.moved;
    give(*other, descriptor, at);
  }
}

}  // namespace cp::driver
