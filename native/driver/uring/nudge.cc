#include "driver/uring/nudge.h"

#include <signal.h>
#include <time.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "driver/driver.h"
#include "driver/uring/abi.h"

namespace cp::driver::uring {
namespace {

/// Nudged without a pause a thread would get nowhere: a nanosleep that is interrupted every 10 µs
/// never ends (seen on 6.18).
constexpr std::int64_t kBetween = 250'000;
/// A thread that runs gets a signal at once; one that sleeps, or waits for a processor, later.
constexpr std::int64_t kSpin = 50'000;
constexpr std::int64_t kPatience = 1'000'000;
/// A call runs 20 of what was put off. The flag may stand over an empty list, so this has an end.
constexpr int kCallsAtOnce = 16;

#if defined(__SANITIZE_THREAD__)
constexpr bool kSignalsWork = false;  // it puts asynchronous ones off until the thread calls libc
#else
constexpr bool kSignalsWork = true;
#endif

int signal_number() { return SIGRTMAX - 2; }

/// Read in the handler, so its place must be known without a call of the dynamic linker's.
#if defined(__GLIBC__)
__attribute__((tls_model("initial-exec")))
#endif
thread_local Nudge* of_this_thread = nullptr;

using Handler = void (*)(int);

/// Whether `handler` gets the signal; without one, sending it would end the process.
bool handled_by(Handler handler) {
  struct sigaction now = {};
  if (sigaction(signal_number(), nullptr, &now) != 0) return false;
  return (now.sa_flags & SA_SIGINFO) == 0 && now.sa_handler == handler;
}

/// Ours, once and for the life of the process.
bool take_signal(Handler handler) {
  static std::mutex* const mutex = new std::mutex;
  std::lock_guard lock(*mutex);
  struct sigaction now = {};
  if (sigaction(signal_number(), nullptr, &now) != 0) return false;
  if (handled_by(handler)) return true;
  if ((now.sa_flags & SA_SIGINFO) != 0 || now.sa_handler != SIG_DFL) return false;
  struct sigaction ours = {};
  ours.sa_handler = handler;
  ours.sa_flags = SA_RESTART;
  return sigaction(signal_number(), &ours, nullptr) == 0;
}

bool blocked_here() {
  sigset_t blocked;
  return sigprocmask(SIG_BLOCK, nullptr, &blocked) != 0 ||
         sigismember(&blocked, signal_number()) != 0;
}

void pause() {
  const struct timespec time = {0, 20'000};
  nanosleep(&time, nullptr);
}

}  // namespace

NudgeMode nudge_mode(std::string* reason) {
  const auto is = [](const char* value) {
    const char* wanted = std::getenv("COMPLETION_PORT_NUDGE");
    return wanted != nullptr && std::strcmp(wanted, value) == 0;
  };
  const auto because = [reason](const char* text) {
    return reason != nullptr ? *reason = text : "";
  };
  if (is("off") || is("tick")) {
    because("COMPLETION_PORT_NUDGE");
    return is("off") ? NudgeMode::kOff : NudgeMode::kTick;
  }
  if (!kSignalsWork) return NudgeMode::kTick;
  if (blocked_here()) {
    because("the thread blocks the signal SIGRTMAX-2");
  } else if (!Nudge::available()) {
    because("the process has a handler of its own for the signal SIGRTMAX-2");
  } else {
    return NudgeMode::kSignal;
  }
  return NudgeMode::kTick;
}

bool Nudge::available() { return take_signal(on_signal); }

void Nudge::open(int fd, std::uint32_t flags, std::uint32_t* sq_flags) {
  fd_ = fd;
  flags_ = flags | kEnterGetEvents;
  sq_flags_ = sq_flags;
  thread_ = static_cast<pid_t>(syscall(SYS_gettid));
  next_ = of_this_thread;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  of_this_thread = this;
}

void Nudge::close() {
  if (thread_ == 0) return;
  thread_ = 0;
  Nudge** link = &of_this_thread;
  while (*link != this) link = &(*link)->next_;
  *link = next_;
  std::atomic_signal_fence(std::memory_order_seq_cst);
}

void Nudge::on_signal(int) {
  const int saved = errno;
  for (Nudge* nudge = of_this_thread; nudge != nullptr; nudge = nudge->next_) nudge->on_signal();
  errno = saved;
}

/// Nothing but system calls and atomics: the thread may be anywhere.
void Nudge::on_signal() {
  signalled_.store(false);
  const std::uint32_t asked = asked_.exchange(0);
  if (asked == 0) return;
  std::uint32_t submit = asked - 1;
  for (int i = 0; i < kCallsAtOnce; ++i, submit = 0) {
    if (uring::enter(fd_, submit, 0, flags_, nullptr, 0) < 0) break;
    const std::atomic_ref<std::uint32_t> flags(*sq_flags_);
    if ((flags.load(std::memory_order_relaxed) & kSqTaskrun) == 0) break;
  }
  entered_.fetch_add(1);
}

/// A signal that comes too late finds nothing asked: the thread may be using the ring again by
/// then.
bool Nudge::enter(std::uint32_t submit) {
  const Deadline start = now();
  if (start < not_before_ || !handled_by(on_signal)) return false;
  not_before_ = start + kBetween;
  const std::uint32_t before = entered_.load();
  asked_.store(submit + 1);
  // The handler clears this before it looks at what is asked, so a signal that was sent is enough.
  if (!signalled_.exchange(true) && syscall(SYS_tgkill, getpid(), thread_, signal_number()) != 0) {
    signalled_.store(false);
    asked_.store(0);
    return false;
  }
  while (entered_.load() == before && now() < start + kSpin) continue;
  while (entered_.load() == before && now() < start + kPatience) pause();
  if (entered_.load() != before) return true;
  if (asked_.exchange(0) != 0) return false;
  while (entered_.load() == before) pause();  // it is in the kernel, where it does not wait
  return true;
}

}  // namespace cp::driver::uring
