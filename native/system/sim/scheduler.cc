#include "system/sim/scheduler.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "system/clock.h"

namespace cp::sim {
namespace {

Scheduler* the_scheduler = nullptr;
std::function<void()> failure_listener;

constexpr Time kBegin = 1'000'000'000;

}  // namespace

void on_failure(std::function<void()> tell) { failure_listener = std::move(tell); }

void fail(const char* property, const std::string& text) {
  std::fprintf(stdout, "FAILED %s: %s\n", property, text.c_str());
  if (the_scheduler != nullptr) std::fputs(the_scheduler->describe().c_str(), stdout);
  if (failure_listener) failure_listener();
  std::fflush(stdout);
  ::_exit(3);
}

Scheduler::Scheduler(const Schedule& schedule)
    : schedule_(schedule), random_(schedule.seed, 1), now_(kBegin) {
  // Rare interruptions find what needs a long run of one thread, frequent ones the narrow windows;
  // in the order of priorities a thread may be kept from running for as long as others can.
  constexpr std::uint64_t kPaces[] = {2, 6, 20, 80, 400};
  pace_ = kPaces[random_.below(std::size(kPaces))];
  by_priority_ = random_.one_in(3);
  new_countdown();
}

Scheduler::~Scheduler() { the_scheduler = nullptr; }

Scheduler* Scheduler::current() { return the_scheduler; }

void Scheduler::run(std::function<void()> main) {
  the_scheduler = this;
  Fiber* first = spawn("main", [this, main = std::move(main)] {
    main();
    over_ = true;
  });
  if (look_) {
    observer_ = spawn("observer", [this] {
      for (;;) {
        block("observer");
        looking_ = true;
        look_();
        looking_ = false;
      }
    });
  }
  running_ = &main_;
  change_to(first);
  the_scheduler = nullptr;
}

Fiber* Scheduler::spawn(std::string name, std::function<void()> work) {
  auto fiber = std::make_unique<Fiber>();
  fiber->name = std::move(name);
  fiber->number = static_cast<std::uint32_t>(fibers_.size());
  fiber->work = std::move(work);
  fiber->priority = (lowest_ << 1) + random_.below(1u << 20);
  fiber->stack.make(&Scheduler::enter);
  fibers_.push_back(std::move(fiber));
  return fibers_.back().get();
}

void Scheduler::enter() {
  Scheduler& scheduler = *the_scheduler;
  Fiber& self = *scheduler.running_;
  Stack::arrived(self.stack);
  self.work();
  for (std::size_t i = 0; i < self.own.size(); ++i) {
    if (self.own[i] != nullptr) self.deleters[i](self.own[i]);
  }
  self.state = Fiber::State::kOver;
  for (Fiber* joiner : self.joiners) scheduler.wake(joiner);
  scheduler.change_to(scheduler.over_ ? &scheduler.main_ : scheduler.choose(), true);
}

void Scheduler::join(Fiber* fiber) {
  switch_point("join");
  while (fiber->state != Fiber::State::kOver) {
    fiber->joiners.push_back(running_);
    block("join");
  }
}

void Scheduler::new_countdown() { countdown_ = 1 + random_.below(2 * pace_); }

void Scheduler::switch_point(const char* where) {
  if (looking_) return;
  if (++steps_ > schedule_.most_steps) {
    fail("progress", format("%llu steps and no end", static_cast<unsigned long long>(steps_)));
  }
  running_->where = where;
  now_ += static_cast<Time>(steps_ & 31) + 20;
  if (--countdown_ > 0) return;
  new_countdown();
  if (interruptions_ >= schedule_.most_interruptions) return;
  ++interruptions_;
  if (by_priority_) running_->priority = --lowest_;
  go_on(where);
}

void Scheduler::yield(const char* where) {
  if (++steps_ > schedule_.most_steps) {
    fail("progress", format("%llu steps and no end", static_cast<unsigned long long>(steps_)));
  }
  now_ += 100;
  running_->priority = --lowest_;
  go_on(where);
}

bool Scheduler::block(const char* where, Time until) {
  ++steps_;
  running_->state = Fiber::State::kBlocked;
  running_->until = until;
  running_->woken = false;
  go_on(where);
  return running_->woken;
}

void Scheduler::wake(Fiber* fiber) {
  if (fiber->state != Fiber::State::kBlocked) return;
  fiber->state = Fiber::State::kReady;
  fiber->until = kEndOfTime;
  fiber->woken = true;
}

void Scheduler::go_on(const char* where) {
  running_->where = where;
  Fiber* next = choose();
  if (next != running_) change_to(next);
}

Fiber* Scheduler::choose() {
  for (;;) {
    ready_.clear();
    Time earliest = kEndOfTime;
    for (const auto& fiber : fibers_) {
      if (fiber->state == Fiber::State::kBlocked) {
        earliest = std::min(earliest, fiber->until);
        if (fiber->until > now_) continue;
        fiber->state = Fiber::State::kReady;
      }
      if (fiber->state == Fiber::State::kReady) ready_.push_back(fiber.get());
    }
    if (!ready_.empty()) break;
    if (!looked_ && observer_ != nullptr && observer_->state == Fiber::State::kBlocked) {
      looked_ = true;
      observer_->state = Fiber::State::kReady;
      return observer_;
    }
    if (earliest == kEndOfTime) stuck();
    now_ = std::max(now_, earliest);
  }
  Fiber* chosen = ready_.front();
  if (by_priority_) {
    for (Fiber* fiber : ready_) {
      if (fiber->priority > chosen->priority) chosen = fiber;
    }
  } else if (interruptions_ < schedule_.most_interruptions) {
    chosen = ready_[random_.below(ready_.size())];
  } else {
    // Nobody is left out: the one after the one that ran.
    for (Fiber* fiber : ready_) {
      if (fiber->number > running_->number) {
        chosen = fiber;
        break;
      }
    }
  }
  if (chosen != observer_) looked_ = false;
  return chosen;
}

void Scheduler::change_to(Fiber* next, bool last) {
  Fiber* before = running_;
  running_ = next;
  hash_ = mix(hash_ ^ next->number);
  if (before == next) return;
  Stack::change(before->stack, next->stack, last);
}

/// All sleep, no time will come that wakes one, and the first thread is not over.
void Scheduler::stuck() { fail("no wait without a waker", "all threads wait for ever"); }

bool Scheduler::others_sleep_for_ever() const {
  return std::all_of(fibers_.begin(), fibers_.end(), [this](const auto& fiber) {
    if (fiber.get() == running_ || fiber->state == Fiber::State::kOver) return true;
    return fiber->state == Fiber::State::kBlocked && fiber->until == kEndOfTime;
  });
}

std::string Scheduler::describe() const {
  std::string text =
      format("  after %.3f us and %llu steps\n", static_cast<double>(now_ - kBegin) / 1000,
             static_cast<unsigned long long>(steps_));
  for (const auto& fiber : fibers_) {
    if (fiber->state == Fiber::State::kOver || fiber.get() == observer_) continue;
    const bool blocked = fiber->state == Fiber::State::kBlocked;
    text +=
        format("  %s: %s at '%s'", fiber->name.c_str(), blocked ? "sleeps" : "runs", fiber->where);
    if (blocked && fiber->until != kEndOfTime) {
      text += format(" for %.3f us more", static_cast<double>(fiber->until - now_) / 1000);
    }
    text += '\n';
  }
  return text;
}

Time Scheduler::read_clock() {
  switch_point("clock");
  return now_;
}

void Scheduler::note(const char* text, std::uint64_t a, std::uint64_t b, std::uint64_t c,
                     const char* name) {
  std::uint64_t first = 0;
  std::memcpy(&first, text, strnlen(text, sizeof first));
  hash_ = mix(hash_ ^ mix(first + a) ^ mix(b + 1) ^ mix(c + 2) ^ static_cast<std::uint64_t>(now_));
  if (!schedule_.verbose) return;
  std::printf("%12.3f us  %-10s  ", static_cast<double>(now_ - kBegin) / 1000,
              running_->name.c_str());
  std::printf(text, static_cast<long long>(a), static_cast<long long>(b),
              static_cast<long long>(c));
  std::printf(" %s\n", name);
}

}  // namespace cp::sim

namespace cp::system {

std::int64_t now() {
  sim::Scheduler* scheduler = sim::Scheduler::current();
  return scheduler == nullptr ? 0 : scheduler->read_clock();
}

}  // namespace cp::system
