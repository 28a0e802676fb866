// A world for the threads of a process, which are real, as its time is: one of them at a time is in
// it, and no other sees what it does half done. The seed decides what the world does, not which
// thread comes first.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "driver/driver.h"
#include "system/condition.h"
#include "system/mutex.h"
#include "system/sim/format.h"
#include "system/sim/random.h"

namespace cp::sim {

/// Nanoseconds.
using Time = std::int64_t;
inline constexpr Time kEndOfTime = INT64_MAX;

/// The world's own thread.
struct Fiber {
  system::Condition wake;
  std::unique_lock<system::Mutex> turn;
};

/// Has the name and the members that the simulator's has, as far as a world needs them.
class Scheduler {
 public:
  static Scheduler* current();
  system::Mutex& mutex() { return mutex_; }

  Fiber* spawn(const char* name, std::function<void()> work);
  /// The world's thread alone: others have their turns meanwhile.
  void block(const char* where, Time until = kEndOfTime);
  void wake(Fiber* fiber) { fiber->wake.notify_one(); }
  void switch_point(const char* where);
  Time now() const { return driver::now(); }
  void jump(Time) {}  // this clock is everybody's
  void note(const char*, std::uint64_t = 0, std::uint64_t = 0, std::uint64_t = 0,
            const char* = "") {}

 private:
  system::Mutex mutex_;
  Fiber world_;
};

/// The library, or the world, is wrong: ends the process.
[[noreturn]] void fail(const char* property, const std::string& text);

}  // namespace cp::sim

namespace cp::driver::sim {

/// A call of the library into the world. What the library calls from there (a source of buffers,
/// the blocking pool) holds none of its locks when it calls the world, but for `Lane::wake`, which
/// takes no turn.
class Turn {
 public:
  Turn() : lock_(cp::sim::Scheduler::current()->mutex()) {}

 private:
  std::lock_guard<system::Mutex> lock_;
};

/// How the owner of a lane is told: a descriptor that stays readable until it is cleared.
class Notice {
 public:
  explicit Notice(Descriptor);
  ~Notice();
  Notice(const Notice&) = delete;
  Notice& operator=(const Notice&) = delete;

  Descriptor descriptor() const;
  /// Any thread, in a turn or not.
  void tell();
  /// The owner, in its turn, which others have until it is told or it is that late.
  void sleep(const char* where, Deadline until);
  /// The descriptor becomes readable then.
  void arm(Deadline deadline);
  Deadline armed() const { return kNever; }
  void clear();

 private:
  struct Event;  ///< outlives this where the world is to tell it later
  std::shared_ptr<Event> event_;
};

}  // namespace cp::driver::sim
