// How a thread that is busy is brought to enter its ring: under DEFER_TASKRUN the kernel runs what
// it has put off, and takes entries (SINGLE_ISSUER), in a call of the ring's own thread alone. A
// signal's handler is that thread, whatever it is in the midst of: JavaScript, a native function, a
// system call.
//
// What follows from that for others: a system call that Linux does not restart after a signal
// (nanosleep, poll, epoll_wait, semtimedop, sockets with SO_RCVTIMEO) may fail with EINTR in a
// thread that is stuck, and only there.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <string>

namespace cp::driver::uring {

/// What COMPLETION_PORT_NUDGE says, or the default.
enum class NudgeMode : std::uint8_t {
  kSignal,  ///< as described above
  kTick,    ///< other rings, where the timer's tick does it: Access::kTick
  kOff,     ///< what completes for a busy thread waits until it comes
};

/// The mode for a ring of the calling thread. kTick instead of kSignal where the thread blocks the
/// signal or the process has another handler for it: `reason`, if not null, is told.
NudgeMode nudge_mode(std::string* reason = nullptr);

/// One ring's side of it. Made, opened and destroyed by the ring's thread.
class Nudge {
 public:
  Nudge() = default;
  ~Nudge() { close(); }
  Nudge(const Nudge&) = delete;
  Nudge& operator=(const Nudge&) = delete;

  /// Takes the signal for the process; false where it has another handler.
  static bool available();

  /// `fd`, `flags`: how the thread enters the ring. `sq_flags`: where it has the kernel's TASKRUN.
  void open(int fd, std::uint32_t flags, std::uint32_t* sq_flags);
  /// From here on no handler looks at the ring: they run on this thread.
  void close();

  /// Has the thread submit as many entries and run what was put off. The caller sees to it that the
  /// thread neither uses the ring nor closes it meanwhile. False when it was too soon after the
  /// last one, or the thread did not get to it in time, because it waits for a disk, say: then it
  /// won't.
  bool enter(std::uint32_t submit);

 private:
  static void on_signal(int);
  void on_signal();

  int fd_ = -1;
  std::uint32_t flags_ = 0;
  std::uint32_t* sq_flags_ = nullptr;
  pid_t thread_ = 0;
  Nudge* next_ = nullptr;                  ///< of the same thread
  std::atomic<std::uint32_t> asked_{0};    ///< 1 + entries to submit; 0: nothing is asked
  std::atomic<bool> signalled_{false};     ///< a signal is on its way, and no second one needed
  std::atomic<std::uint32_t> entered_{0};  ///< how often
  std::int64_t not_before_ = 0;
};

}  // namespace cp::driver::uring
