// Address space for the pool. The one thing besides the waiting primitive that native/port asks the
// operating system for.
#pragma once

#include <cstddef>

namespace cp {

/// Of the system: 4,096 bytes, or 16 or 64 KiB on arm64. A power of two.
std::size_t page_size();

/// Zeroed, page-aligned memory that costs nothing until it is touched; null when refused.
void* reserve_memory(std::size_t size);
void free_memory(void* base, std::size_t size);
/// `base` and `size`: whole pages, or the system would take what lies beside them as well. The
/// pages go back to the system; the addresses stay valid and read as zero, or on Windows as what
/// they were: memory without pages would fault there when a stale view reads it (rule M2).
void discard_memory(void* base, std::size_t size);

}  // namespace cp
