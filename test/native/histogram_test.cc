// Buckets, and who counts what in them.
#include "port/histogram.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <memory>
#include <numeric>

#include "port/dispatcher.h"
#include "support/consumer.h"

namespace {

using namespace cp;
using namespace cp::test;
using Counts = HistogramCounts;

std::uint64_t total(const Dispatcher& dispatcher) {
  Counts all;
  dispatcher.waits(all);
  return std::accumulate(all.counts.begin(), all.counts.end(), std::uint64_t{0});
}

}  // namespace

TEST_CASE("a bucket is as wide as a 32nd of its values at most, and none is left out") {
  for (std::uint32_t value = 0; value < 100'000; ++value) {
    const std::size_t here = Counts::bucket_of(value), next = Counts::bucket_of(value + 1);
    CHECK((next == here || next == here + 1));
    if (value < 64) CHECK(here == value);
  }
  for (std::uint32_t bit = 6; bit < 32; ++bit) {
    const std::uint32_t power = 1u << bit;
    const std::size_t first = Counts::bucket_of(power);
    CHECK(Counts::bucket_of(power - 1) == first - 1);
    CHECK(Counts::bucket_of(power + power / 32 - 1) == first);
    CHECK(Counts::bucket_of(power + power / 32) == first + 1);
  }
  CHECK(Counts::bucket_of(0xffffffff) == Counts::kBuckets - 1);
}

TEST_CASE("what is taken back, or taken over, is as if it had not been there") {
  const auto one = std::make_unique<Histogram>(), other = std::make_unique<Histogram>();
  one->record(5);
  one->record(1000);
  one->record(0xffffffff);
  one->take_back(1000);
  other->record(7);
  other->take_over(*one);
  Counts left, all;
  one->add_to(left);
  other->add_to(all);
  CHECK(left.sum == 0);
  CHECK(all.sum == 12 + std::uint64_t{0xffffffff});
  CHECK(std::accumulate(all.counts.begin(), all.counts.end(), std::uint64_t{0}) == 3);
  CHECK(all.counts[5] == 1);
  CHECK(all.counts[7] == 1);
  CHECK(all.counts[Counts::kBuckets - 1] == 1);
}

TEST_CASE("a packet counts once") {
  Dispatcher dispatcher({1, 65536, true});
  FakeThread thread(dispatcher);
  for (std::uint32_t key = 1; key <= 8; ++key) dispatcher.push(completed(key, key, 0), nullptr);
  dispatcher.push(awaited(thread, 5), nullptr);
  REQUIRE(thread.take() == 9);
  CHECK(total(dispatcher) == 9);
  // None of them was begun: all but the awaited one go back, and come again.
  REQUIRE(thread.take() == 8);
  CHECK(total(dispatcher) == 9);
}

TEST_CASE("a packet that is stolen counts with the thief alone") {
  Dispatcher dispatcher({2, 65536, true});
  FakeThread owner(dispatcher), thief(dispatcher);
  for (std::uint32_t key = 1; key <= 9; ++key) dispatcher.push(completed(key, key, 0), nullptr);
  REQUIRE(post(dispatcher, posted(10, 0)));
  REQUIRE(owner.take() == 10);
  REQUIRE(owner.claim(0));
  REQUIRE(thief.take() > 0);
  CHECK(total(dispatcher) == 9);
}

TEST_CASE("what a thread has counted stays when it leaves") {
  Dispatcher dispatcher({1, 65536, true});
  FakeThread other(dispatcher);
  {
    FakeThread thread(dispatcher);
    dispatcher.push(completed(1, 1, 0), nullptr);
    REQUIRE(thread.take() == 1);
    REQUIRE(thread.claim(0));
    thread.done(0);
    thread.leave(false);
  }
  CHECK(total(dispatcher) == 1);
}
