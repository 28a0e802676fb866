#include "driver/blocking/blocking_thread.h"

#include <signal.h>
#include <sys/prctl.h>
#include <time.h>

#include <system_error>
#include <utility>

#include "system/thread.h"

namespace cp::driver {

/// The process's signals are for its own threads; a SIGPIPE here stays pending for ever.
/// (sigprocmask concerns the calling thread, and pthread_sigmask moved in glibc 2.32.)
system::Thread start_blocking_thread(std::function<void()> work) {
  sigset_t all, before;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, &before);
  system::Thread thread;
  try {
    thread = system::Thread([work = std::move(work)] {
      prctl(PR_SET_NAME, "cp-blocking");
      work();
    });
  } catch (const std::system_error&) {
  }
  sigprocmask(SIG_SETMASK, &before, nullptr);
  return thread;
}

void sleep_blocking_thread(Deadline until) {
  struct timespec time;
  time.tv_sec = static_cast<time_t>(until / 1'000'000'000);
  time.tv_nsec = static_cast<long>(until % 1'000'000'000);
  clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, nullptr);
}

}  // namespace cp::driver
