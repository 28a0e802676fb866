#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#ifdef __SANITIZE_THREAD__
/// Descriptors are closed and made in the ring, which ThreadSanitizer does not see: the mapping of
/// a new ring looks to it like a race with whoever had that number before.
extern "C" const char* __tsan_default_suppressions() {
  return "race:cp::driver::uring::Ring::map\n";
}
#endif
