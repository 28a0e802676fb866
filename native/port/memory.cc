#include "port/memory.h"

#ifdef _WIN32
#include <windows.h>
#else
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace cp {

#ifdef _WIN32

std::size_t page_size() {
  SYSTEM_INFO info{};
  GetSystemInfo(&info);
  return info.dwPageSize;
}

void* reserve_memory(std::size_t size) {
  return VirtualAlloc(nullptr, size, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
}
void free_memory(void* base, std::size_t) { VirtualFree(base, 0, MEM_RELEASE); }
void discard_memory(void* base, std::size_t size) {
  VirtualAlloc(base, size, MEM_RESET, PAGE_READWRITE);
}

#else

std::size_t page_size() { return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)); }

void* reserve_memory(std::size_t size) {
  void* base = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return base == MAP_FAILED ? nullptr : base;
}
void free_memory(void* base, std::size_t size) { munmap(base, size); }
void discard_memory(void* base, std::size_t size) { madvise(base, size, MADV_DONTNEED); }

#endif

}  // namespace cp
