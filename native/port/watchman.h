// Notices threads that do not come to their lanes while others of their port idle (rule D5).
//
// One thread for the process, which is there while some port has several threads that may help each
// other. Once a millisecond it looks at those that are in their programs; one that has not moved
// since it looked last is stuck, and if something has happened in its lane, a thread that waits is
// sent to look after that. So is one that was told in its event loop, which is busy with something
// else. Where nothing moves it sleeps, and an idle process has no wake-ups of it: the next thread
// that goes into a handler rings, and so does the notifier of a lane whose owner is in its event
// loop.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "driver/doorbell.h"
#include "system/mutex.h"
#include "system/thread.h"

namespace cp {

class Port;
class Thread;

/// What the watchman remembers of a thread from one look to the next.
struct WatchmansNotes {
  std::uint64_t turn = 0;
  std::uint32_t errands = 0;
  driver::Deadline since = 0;         ///< it has not moved
  driver::Deadline needed_since = 0;  ///< it has something in its lane; 0: it has not
  driver::Deadline next_errand = 0;
  std::size_t unbegun = 0;             ///< packets it has taken and not begun
  driver::Deadline unbegun_since = 0;  ///< it begins none of them
};

class Watchman {
 public:
  static Watchman& instance();

  /// From now on the port's threads are looked after, and each that comes to it. Any number of
  /// times.
  void watch(Port& port);
  /// Before the port ends. The last one ends the watchman's thread.
  void forget(Port& port);

  /// A watched thread has gone into a handler, or says otherwise that there is something to see.
  void notice() {
    if (asleep_.load()) wake();
  }
  /// A watched thread sleeps on this notifier of its lane.
  void hear(int notifier) { bell_->hear(notifier); }
  /// How often it has looked so far.
  std::uint64_t looks() const { return looks_.load(std::memory_order_relaxed); }

 private:
  /// What one look has shown.
  struct Sight {
    bool moved = false;    ///< somebody did something since the last look
    bool busy = false;     ///< somebody is in a handler
    bool pending = false;  ///< somebody's lane has something that he does not look after
    bool idle = false;     ///< somebody waits who could
  };

  void start();
  void stop();
  void main();
  Sight look(driver::Deadline now);
  void look_at(Port& port, driver::Deadline now, Sight& sight);
  void look_at(Thread& thread, driver::Deadline now, Sight& sight);
  static void look_at_batch(Thread& thread, driver::Deadline now);
  bool send_somebody(Thread& busy, driver::Deadline now);
  bool ask_somebody(Thread& busy, driver::Deadline now);
  void wake();

  system::Mutex life_mutex_;  ///< held while the thread is started or ended; outside of `mutex_`
  system::Mutex mutex_;  ///< guards what follows; held during a look, outside of all of a port's
  std::vector<Port*> ports_;
  std::vector<Thread*> threads_;  ///< of the port that is being looked at
  std::unique_ptr<driver::Doorbell> bell_;
  system::Thread thread_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> asleep_{false};
  std::atomic<std::uint64_t> looks_{0};
};

}  // namespace cp
