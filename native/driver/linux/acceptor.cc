#include "driver/linux/acceptor.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "driver/blocking/blocking_thread.h"
#include "system/thread.h"

namespace cp::driver {
namespace {

/// A thread that has not come for a connection after that is busy with something else. Loops of
/// busy servers take a few milliseconds a turn: less would take connections from threads that come.
constexpr Deadline kLate = 10'000'000;
/// Out of descriptors or memory: the connections stay with the kernel for that long.
constexpr Deadline kPause = 100'000'000;
/// Connections of a listener that wait for its threads; beyond, they wait in the kernel.
constexpr std::size_t kMostWaiting = 1024;
/// Accepted in one go, so that one listener does not keep the others waiting.
constexpr int kTogether = 16;
constexpr std::uint32_t kDoorbell = 0;

void ring(int eventfd) {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(eventfd, &one, sizeof one);
}

void silence(int eventfd) {
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = ::read(eventfd, &count, sizeof count);
}

}  // namespace

class SharedListener {
 public:
  std::uint32_t id = 0;
  std::string name;
  std::string path;
  int descriptor = -1;
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

int Acceptor::socket_of(const SharedListener& listener) { return listener.descriptor; }
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

std::shared_ptr<SharedListener> Acceptor::share(const std::string& name, int descriptor,
                                                const std::string& path, AcceptPolicy policy,
                                                Result& error) {
  std::lock_guard lock(mutex_);
  const auto fail = [&] {
    ::close(descriptor);
    if (!path.empty()) ::unlink(path.c_str());
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
  struct epoll_event event = {};
  event.data.u32 = listener->id;
  if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, descriptor, &event) != 0) {
    error = -errno;
    return fail();
  }
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
  for (const auto& seat : listener.seats) ring(seat->notifier);
}

bool Acceptor::closed(const SharedListener& listener) {
  std::lock_guard lock(mutex_);
  return listener.closed;
}

void Acceptor::shut(SharedListener& listener) {
  if (listener.closed) return;
  listener.closed = true;
  // Somebody else may have a duplicate of it, so that closing alone would leave it in the set.
  ::epoll_ctl(epoll_, EPOLL_CTL_DEL, listener.descriptor, nullptr);
  if (!listener.path.empty()) ::unlink(listener.path.c_str());
  ::close(std::exchange(listener.descriptor, -1));
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
  struct epoll_event event = {};
  event.events = wanted ? static_cast<std::uint32_t>(EPOLLIN) : 0u;
  event.data.u32 = listener.id;
  ::epoll_ctl(epoll_, EPOLL_CTL_MOD, listener.descriptor, &event);
}

// ---- threads ----------------------------------------------------------------------------------

std::shared_ptr<Seat> Acceptor::join(const std::shared_ptr<SharedListener>& listener,
                                     Result& error) {
  std::lock_guard lock(mutex_);
  if (listener->closed) {
    error = -EBADF;
    return nullptr;
  }
  auto seat = std::make_shared<Seat>();
  seat->notifier = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (seat->notifier < 0) {
    error = -errno;
    return nullptr;
  }
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
      ::close(waiting.descriptor);
      continue;
    }
    ++listener.moved;
    give(*other, waiting.descriptor, at);
  }
  ::close(std::exchange(seat.notifier, -1));
  watch(listener);
  const std::shared_ptr<SharedListener> kept = seat.listener;
  drop_if_unused(listener);
  nudge();
}

bool Acceptor::waits(Seat& seat) {
  std::lock_guard lock(mutex_);
  if (seat.left) return false;
  SharedListener& listener = *seat.listener;
  seat.came = ++turn_;
  seat.open_before = -1;
  if (seat.queue.empty()) take_over(listener, seat);
  if (seat.queue.empty() && !listener.closed) silence(seat.notifier);
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

int Acceptor::take(Seat& seat) {
  std::lock_guard lock(mutex_);
  if (seat.left || seat.queue.empty()) return -1;
  const int descriptor = seat.queue.front().descriptor;
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

void Acceptor::give(Seat& seat, int descriptor, Deadline since) {
  seat.queue.push_back({descriptor, since});
  ring(seat.notifier);
}

// ---- the acceptor's thread --------------------------------------------------------------------

bool Acceptor::start(Result& error) {
  if (started_) return true;
  error = -EMFILE;
  if (epoll_ < 0) epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
  if (doorbell_ < 0) doorbell_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (epoll_ < 0 || doorbell_ < 0) return false;
  struct epoll_event event = {};
  event.events = EPOLLIN;
  event.data.u32 = kDoorbell;
  if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, doorbell_, &event) != 0 && errno != EEXIST) return false;
  system::Thread thread = start_blocking_thread([this] {
    prctl(PR_SET_NAME, "cp-acceptor");
    run();
  });
  error = -EAGAIN;
  if (!thread.joinable()) return false;
  thread.detach();
  return started_ = true;
}

/// The acceptor's thread looks at its deadlines anew.
void Acceptor::nudge() {
  if (doorbell_ >= 0) ring(doorbell_);
}

void Acceptor::run() {
  constexpr int kEvents = 16;
  struct epoll_event events[kEvents];
  Deadline next = kNever;
  for (;;) {
    int timeout = -1;
    if (next != kNever) {
      const Deadline left = std::max<Deadline>(0, next - now());
      timeout = static_cast<int>((left + 999'999) / 1'000'000);
    }
    const int count = ::epoll_wait(epoll_, events, kEvents, timeout);
    std::lock_guard lock(mutex_);
    const Deadline at = now();
    for (int i = 0; i < count; ++i) {
      if (events[i].data.u32 == kDoorbell) {
        silence(doorbell_);
        continue;
      }
      const auto found = listeners_.find(events[i].data.u32);
      if (found != listeners_.end()) accept_some(*found->second, at);
    }
    next = look_after_late(at);
  }
}

void Acceptor::accept_some(SharedListener& listener, Deadline at) {
  for (int i = 0; i < kTogether && !listener.closed; ++i) {
    if (listener.seats.empty() || listener.waiting() >= kMostWaiting) break;
    const int descriptor =
        ::accept4(listener.descriptor, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (descriptor < 0) {
      // Of other errors the connection died of, the next call knows nothing.
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        listener.paused_until = at + kPause;
      }
      if (errno != EINTR && errno != ECONNABORTED) break;
      continue;
    }
    ++listener.accepted;
    give(*choose(listener, nullptr, at), descriptor, at);
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
    for (const auto& seat : listener->seats) {
      while (late(*seat, at)) {
        Seat* other = choose(*listener, seat.get(), at);
        if (other == nullptr) break;  // all are late: it is looked at again
        const int descriptor = seat->queue.front().descriptor;
        seat->queue.pop_front();
        ++listener->moved;
        give(*other, descriptor, at);
      }
      if (!seat->queue.empty())
        next = std::min(next, std::max(at, seat->queue.front().since) + kLate);
    }
  }
  return next;
}

}  // namespace cp::driver
