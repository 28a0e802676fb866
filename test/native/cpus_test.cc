// Threads bound to processors.
#include "stage/cpus.h"

#include <doctest/doctest.h>

#include <thread>

#ifdef _WIN32
#include <windows.h>
#else
#include <sched.h>
#endif

#include "driver/errno.h"

namespace {

using namespace cp::stage;

std::uint32_t current_cpu() {
#ifdef _WIN32
  return ::GetCurrentProcessorNumber();
#else
  return static_cast<std::uint32_t>(::sched_getcpu());
#endif
}

TEST_CASE("a thread runs on the processor that it is bound to") {
  const std::vector<std::uint32_t> cpus = allowed_cpus();
  REQUIRE(!cpus.empty());
  for (const std::uint32_t cpu : cpus) {
    cp::driver::Result result = -1;
    std::size_t elsewhere = 0;
    std::thread([&] {
      result = bind_to_cpu(cpu);
      for (int i = 0; i < 1000; ++i) {
        std::this_thread::yield();
        elsewhere += current_cpu() != cpu;
      }
    }).join();
    CHECK(result == 0);
    CHECK(elsewhere == 0);
  }
}

TEST_CASE("a processor there is not is refused") { CHECK(bind_to_cpu(1u << 20) == -EINVAL); }

}  // namespace
