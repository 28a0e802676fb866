#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#ifdef __SANITIZE_THREAD__
/// Descriptors are closed and made in the ring, which ThreadSanitizer does not see: the mapping of
/// a new ring, and its end, look to it like a race with whoever had that number before.
/// ThreadSanitizer is a shared library and finds this only if the program exports it.
extern "C" __attribute__((visibility("default"))) const char* __tsan_default_suppressions() {
  return "race:cp::driver::uring::Ring::map\n"
         "race:cp::driver::uring::Ring::~Ring\n";
}
#endif
