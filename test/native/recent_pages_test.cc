// What is known of the page cache for a moment.
#include <doctest/doctest.h>

#include "driver/source_file.h"

namespace {

using cp::driver::RecentPages;

constexpr std::int64_t kNow = 5'000'000'000'000;

TEST_CASE("pages that were looked at are known for a moment") {
  RecentPages recent;
  CHECK_FALSE(recent.cover(0, 0, kNow));
  recent.note(10, 20, kNow);
  CHECK(recent.cover(10, 20, kNow));
  CHECK(recent.cover(12, 12, kNow + RecentPages::kGoodFor / 2));
  CHECK_FALSE(recent.cover(9, 12, kNow));
  CHECK_FALSE(recent.cover(12, 21, kNow));
  CHECK_FALSE(recent.cover(10, 20, kNow + 2 * RecentPages::kGoodFor));
  recent.note(0, 0, kNow);
  CHECK(recent.cover(0, 0, kNow));
  CHECK_FALSE(recent.cover(10, 20, kNow));
}

TEST_CASE("pages that don't fit into a note are not taken for others") {
  RecentPages recent;
  recent.note(0, 254, kNow);
  CHECK(recent.cover(0, 254, kNow));
  recent.note(1, 256, kNow);
  CHECK_FALSE(recent.cover(255, 256, kNow));
  recent.note((1ULL << 32) + 3, (1ULL << 32) + 4, kNow);
  CHECK_FALSE(recent.cover(3, 4, kNow + 2 * RecentPages::kGoodFor));
  CHECK_FALSE(recent.cover((1ULL << 32) + 3, (1ULL << 32) + 4, kNow));
  recent.note((1ULL << 32) - 1, (1ULL << 32) - 1, kNow);
  CHECK(recent.cover((1ULL << 32) - 1, (1ULL << 32) - 1, kNow));
}

}  // namespace
