#include "stage/cpus.h"

#ifdef _WIN32
#include <windows.h>
#else
#include <sched.h>
#endif

#include "driver/errno.h"

namespace cp::stage {

#ifdef _WIN32

std::vector<std::uint32_t> allowed_cpus() {
  DWORD_PTR own = 0, system = 0;
  std::vector<std::uint32_t> cpus;
  if (!::GetProcessAffinityMask(::GetCurrentProcess(), &own, &system)) return cpus;
  for (std::uint32_t cpu = 0; own != 0; ++cpu, own >>= 1) {
    if (own & 1) cpus.push_back(cpu);
  }
  return cpus;
}

driver::Result bind_to_cpu(std::uint32_t cpu) {
  if (cpu >= 8 * sizeof(DWORD_PTR)) return -EINVAL;
  const DWORD_PTR mask = DWORD_PTR{1} << cpu;
  return ::SetThreadAffinityMask(::GetCurrentThread(), mask) != 0 ? 0 : -EINVAL;
}

#else

std::vector<std::uint32_t> allowed_cpus() {
  cpu_set_t set;
  std::vector<std::uint32_t> cpus;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return cpus;
  for (std::uint32_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  }
  return cpus;
}

driver::Result bind_to_cpu(std::uint32_t cpu) {
  if (cpu >= CPU_SETSIZE) return -EINVAL;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  return sched_setaffinity(0, sizeof set, &set) == 0 ? 0 : -errno;
}

#endif

}  // namespace cp::stage
