#include "driver/sim/process_host.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "driver/blocking/blocking_thread.h"
#include "driver/sim/world.h"

namespace cp::sim {

/// Never destroyed: the world's thread runs until the process is gone.
Scheduler* Scheduler::current() {
  static Scheduler* const scheduler = new Scheduler;
  return scheduler;
}

Fiber* Scheduler::spawn(const char*, std::function<void()> work) {
  system::Thread thread = driver::start_blocking_thread([this, work = std::move(work)] {
    world_.turn = std::unique_lock(mutex_);
    work();
  });
  if (!thread.joinable()) fail("a world has a thread", "the system has none to give");
  thread.detach();
  return &world_;
}

void Scheduler::block(const char*, Time until) {
  if (until == kEndOfTime) return world_.wake.wait(world_.turn);
  const Time left = until - now();
  if (left > 0) world_.wake.wait_for(world_.turn, left);
}

void Scheduler::switch_point(const char*) {
  world_.turn.unlock();
  world_.turn.lock();
}

void fail(const char* property, const std::string& text) {
  std::fprintf(stderr, "FAILED in a simulated world: %s: %s\n", property, text.c_str());
  std::abort();
}

}  // namespace cp::sim

namespace cp::driver::sim {

struct Notice::Event {
  const int descriptor = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  ~Event() {
    if (descriptor >= 0) ::close(descriptor);
  }
  void tell() const {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(descriptor, &one, sizeof one);
  }
};

Notice::Notice(Descriptor) : event_(std::make_shared<Event>()) {}
Notice::~Notice() = default;

Descriptor Notice::descriptor() const { return event_->descriptor; }

void Notice::tell() { event_->tell(); }

/// Told before it sleeps, it does not: the descriptor is readable then.
void Notice::sleep(const char*, Deadline until) {
  int timeout = -1;
  if (until != kNever) {
    const Deadline left = std::max<Deadline>(0, until - driver::now());
    timeout = static_cast<int>(std::min<Deadline>((left + 999'999) / 1'000'000, INT_MAX));
  }
  system::Mutex& mutex = cp::sim::Scheduler::current()->mutex();
  mutex.unlock();
  pollfd event = {event_->descriptor, POLLIN, 0};
  ::poll(&event, 1, timeout);
  mutex.lock();
  clear();
}

void Notice::arm(Deadline deadline) {
  if (deadline == kNever) return;
  const std::weak_ptr<Event> told = event_;
  World::current().after(std::max<Deadline>(0, deadline - driver::now()), [told] {
    if (const auto event = told.lock()) event->tell();
  });
}

void Notice::clear() {
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = ::read(event_->descriptor, &count, sizeof count);
}

}  // namespace cp::driver::sim
