// Runs the threads of a simulation by turns, on one thread of the system: which of them runs is
// decided by a seed at every lock, unlock, wait and wake-up, and at whatever else says that it is a
// switch point. So is the time, which nobody waits for: where all sleep it jumps.
//
// Nothing here is atomic or locked. A thread runs until it comes to a switch point, and what it
// does until then nobody sees half done; orders of memory are not simulated.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "system/sim/fiber.h"
#include "system/sim/format.h"
#include "system/sim/random.h"

namespace cp::sim {

/// Nanoseconds.
using Time = std::int64_t;
inline constexpr Time kEndOfTime = INT64_MAX;

struct Fiber {
  enum class State : std::uint8_t { kReady, kBlocked, kOver };

  std::string name;
  std::uint32_t number = 0;
  State state = State::kReady;
  Time until = kEndOfTime;      ///< kBlocked: then it goes on by itself
  bool woken = false;           ///< it was not the time that ended its wait
  const char* where = "start";  ///< its last switch point
  std::uint64_t priority = 0;
  std::vector<Fiber*> joiners;
  std::vector<void*> own;  ///< see per_thread.h
  std::vector<void (*)(void*)> deleters;
  Stack stack;
  std::function<void()> work;
};

struct Schedule {
  std::uint64_t seed = 0;
  /// Interruptions at most: a thread then runs until it has to wait.
  std::uint64_t most_interruptions = UINT64_MAX;
  std::uint64_t most_steps = 5'000'000;
  bool verbose = false;
};

class Scheduler {
 public:
  explicit Scheduler(const Schedule& schedule);
  ~Scheduler();
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;
  /// Null where nothing is being simulated: locks are then free and time stands still.
  static Scheduler* current();

  /// `main` is the first thread. Returns when it has returned.
  void run(std::function<void()> main);
  Fiber* spawn(std::string name, std::function<void()> work);
  void join(Fiber* fiber);
  Fiber* self() const { return running_; }

  /// Another thread may go on here.
  void switch_point(const char* where);
  /// Another one goes on if there is any.
  void yield(const char* where);
  /// False when the time came before anybody called `wake`.
  bool block(const char* where, Time until = kEndOfTime);
  void wake(Fiber* fiber);
  void sleep(Time span) { block("sleep", now_ + span); }

  /// Reading it takes a little of it.
  Time read_clock();
  Time now() const { return now_; }
  void jump(Time span) { now_ += span; }

  /// Called in a thread of its own whenever all others sleep, before the time jumps: everything
  /// that is to happen without more time has happened.
  void when_quiet(std::function<void()> look) { look_ = std::move(look); }

  /// What one may read of a run, and what tells two runs apart.
  /// `text` is a format for three numbers of 64 bits at most; `name` stands behind it.
  void note(const char* text, std::uint64_t a = 0, std::uint64_t b = 0, std::uint64_t c = 0,
            const char* name = "");
  /// All but the one that asks wait, and for no time.
  bool others_sleep_for_ever() const;
  /// Where each thread is.
  std::string describe() const;
  std::uint64_t hash() const { return hash_; }
  std::uint64_t steps() const { return steps_; }
  std::uint64_t interruptions() const { return interruptions_; }
  bool verbose() const { return schedule_.verbose; }

 private:
  friend class Mutex;
  static void enter();
  void go_on(const char* where);
  Fiber* choose();
  void change_to(Fiber* next, bool last = false);
  void new_countdown();
  [[noreturn]] void stuck();

  const Schedule schedule_;
  Random random_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber*> ready_;  ///< in `choose`
  Fiber main_;
  Fiber* running_ = nullptr;
  Fiber* observer_ = nullptr;
  std::function<void()> look_;
  bool looked_ = false;
  bool looking_ = false;  ///< nobody else runs meanwhile
  bool by_priority_ = false;
  bool over_ = false;
  std::uint64_t pace_ = 0;  ///< switch points between two interruptions, about
  std::uint64_t countdown_ = 0;
  std::uint64_t steps_ = 0, interruptions_ = 0, hash_ = 0;
  std::uint64_t lowest_ = 1u << 30;
  Time now_;
};

/// A property does not hold: tells which and ends the process, whose simulation it was.
[[noreturn]] void fail(const char* property, const std::string& text);
/// What `fail` does besides: the caller of a simulation may want to write down more.
void on_failure(std::function<void()> tell);

}  // namespace cp::sim
