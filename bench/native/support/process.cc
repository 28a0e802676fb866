#include "support/process.h"

#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

namespace cp::bench {
namespace {

volatile std::sig_atomic_t stop_asked = 0;

void on_signal(int) {
  stop_asked = 1;
  alarm(1);
}

double microseconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_usec);
}

}  // namespace

std::int64_t now() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1'000'000'000 + time.tv_nsec;
}

CpuTime CpuTime::used() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return {microseconds(usage.ru_utime), microseconds(usage.ru_stime)};
}

void stop_after(double seconds) {
  struct sigaction action {};
  action.sa_handler = on_signal;  // without SA_RESTART
  for (const int number : {SIGTERM, SIGINT, SIGALRM}) sigaction(number, &action, nullptr);
  signal(SIGPIPE, SIG_IGN);
  itimerval timer{};
  timer.it_value.tv_sec = static_cast<time_t>(seconds);
  timer.it_value.tv_usec = static_cast<suseconds_t>(std::fmod(seconds, 1.0) * 1e6);
  if (timer.it_value.tv_sec == 0)
    timer.it_value.tv_usec = std::max<suseconds_t>(timer.it_value.tv_usec, 1);
  setitimer(ITIMER_REAL, &timer, nullptr);
}

bool stopping() { return stop_asked != 0; }

void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

void die(const char* what, int error) {
  std::fprintf(stderr, "%s: %s\n", what, std::strerror(error));
  std::exit(1);
}

void die(const char* what) { die(what, errno); }

}  // namespace cp::bench
