// The kernel's completion port, and which thread polls it.
//
// There is one for the process, and every lane of every port shares it. Windows binds a handle to a
// port for life, while ours roam: any thread issues the next operation on a handle, and a hand-off
// takes it to another port of ours. With one kernel port neither concerns the kernel. What decides
// where a packet goes is the operation, which names its lane.
//
// One thread at a time polls the kernel port and distributes what it takes: whoever would sleep
// when nobody polls it. The others sleep on an event of their own. So a thread can be woken
// that is meant (a packet posted to a kernel port goes to any of those who wait there), a thread
// alone takes its own completions without a hop, and a batch for many lanes costs one call. Whoever
// leaves while others sleep has the last that went to sleep poll it (rule D2's order); a
// thread that is awake polls the kernel port by itself when nobody does.
//
// The kernel's own limit is not used. It counts threads that took a packet here, while rule D3
// counts those that run packets of a port of ours, and excepts the answers to awaited operations:
// with the port's number given to the kernel, a thread that computes would hold back the wake-ups
// and the awaited answers of all the others. native/port enforces D2 and D3 on every driver.
#pragma once

#include <winsock2.h>
// winsock2.h comes before windows.h, which would bring the sockets of 1993.
#include <windows.h>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <vector>

#include "driver/driver.h"

namespace cp::driver::iocp {

struct Pending;

/// An operation that the kernel is done with.
struct Arrival {
  Pending* pending = nullptr;
  DWORD bytes = 0;
};

/// One that can sleep for a lane: its owner, or the thread that watches while the owner is in its
/// event loop.
struct Sleeper {
  enum class State : std::uint8_t {
    kAwake,
    kParked,   ///< until it is asked to watch
    kOnEvent,  ///< on the stack of those who could poll the kernel port
    kPolling,  ///< in GetQueuedCompletionStatusEx
  };
  HANDLE event = nullptr;  ///< resets itself
  State state = State::kAwake;
  Deadline until = kNever;
};

/// What others leave for a lane. Guarded by the kernel port's mutex.
struct Inbox {
  std::vector<Arrival> arrivals;
  bool woken = false;
  bool armed = false;  ///< the owner is in its event loop, and the watcher to tell of news
  Deadline armed_until = kNever;
  bool watch_ended = false;
  Sleeper owner, watcher;

  Inbox() = default;
  ~Inbox();
  Inbox(const Inbox&) = delete;
  Inbox& operator=(const Inbox&) = delete;
  /// 0 or a negative errno; then it is of no use.
  Result open();
  bool has_news() const { return woken || !arrivals.empty(); }
};

class KernelPort {
 public:
  /// Made when first asked for, and left to the end of the process: threads may outlive static
  /// objects. Null with `error` when the system refuses.
  static KernelPort* instance(Result& error);

  /// Binds a handle or socket for its life. kNotOverlapped when Windows refuses.
  Result associate(Descriptor descriptor);

  /// Takes what has arrived for a lane, and with `look` looks at the kernel port unless somebody
  /// polls. With `owner` the owner is awake from now on: its watcher keeps quiet.
  void collect(Inbox& inbox, std::vector<Arrival>& out, bool look, bool owner);
  bool has_arrivals(const Inbox& inbox);
  /// The owner sleeps until there is news or the deadline has passed.
  void sleep(Inbox& inbox, Deadline deadline);
  /// Any thread: news for the owner.
  void wake(Inbox& inbox);

  /// The owner goes to its event loop; false when there is news already.
  bool arm(Inbox& inbox, Deadline deadline);
  void disarm(Inbox& inbox);
  /// Sleeps until a lane that is armed has news; once for each time it is armed. False after
  /// `end_watch`.
  bool watch(Inbox& inbox);
  void end_watch(Inbox& inbox);

 private:
  struct Nap {
    enum class Kind : std::uint8_t { kOver, kParked, kUntil } kind;
    Deadline until = kNever;
  };

  explicit KernelPort(HANDLE port) : port_(port) {}
  template <typename Plan>
  void rest(Sleeper& me, Plan plan);
  void poll(Sleeper& me, DWORD milliseconds, std::unique_lock<std::mutex>& lock);
  void lie_down(Sleeper& me, DWORD milliseconds, std::unique_lock<std::mutex>& lock);
  void park(Sleeper& me, std::unique_lock<std::mutex>& lock);
  void wake_sleepers(Inbox& inbox);
  void wake_sleeper(Sleeper& sleeper);
  void send_next();

  const HANDLE port_;
  std::mutex mutex_;                ///< a leaf; guards what follows and every inbox
  Sleeper* polling_ = nullptr;      ///< at the kernel port
  Sleeper passer_by_;               ///< polls for a lane that only looks
  std::vector<Sleeper*> sleepers_;  ///< kOnEvent; the last in is sent first
};

}  // namespace cp::driver::iocp
