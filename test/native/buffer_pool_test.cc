#include "port/buffer_pool.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <vector>

#include "support/verdict.h"

#ifndef _WIN32
#include <sys/mman.h>
#endif

namespace {

using namespace cp;
using namespace cp::test;

constexpr std::uint32_t kOwner = 4'000'000'001;  // no thread of a port has this number

/// What a port does with its pool at its end.
struct LetGo {
  void operator()(BufferPool* pool) const {
    pool->close();
    pool->let_go();
  }
};
using HeldPool = std::unique_ptr<BufferPool, LetGo>;

HeldPool make_pool(const BufferPool::Options& options) {
  HeldPool pool(BufferPool::make(options));
  REQUIRE(pool != nullptr);
  return pool;
}

HeldPool make_pool(std::uint32_t count, std::uint32_t size = 4096,
                   std::uint64_t limit = 1ull << 30) {
  return make_pool({size, count, limit});
}

Place place_of(const driver::Buffer& buffer) { return {buffer.chunk, buffer.offset}; }

/// What a lane that lends buffers to the kernel does when it tops up.
void top_up(BufferPool& pool, std::vector<driver::Buffer>& held) {
  const std::uint32_t target = pool.allowance(static_cast<std::uint32_t>(held.size()));
  driver::Buffer buffer;
  while (held.size() < target && pool.take(buffer)) held.push_back(buffer);
}

// ---- receive buffers --------------------------------------------------------------------------

TEST_CASE("M1 every lane can hold a buffer, however small the pool and whoever comes last") {
  for (const std::uint32_t count : {0u, 1u, 2u, 3u, 16u, 64u}) {
    const HeldPool pool = make_pool(count);
    std::vector<std::vector<driver::Buffer>> lanes(6);
    for (std::size_t lane = 0; lane < lanes.size(); ++lane) {
      pool->add_lane();
      top_up(*pool, lanes[lane]);
      for (std::size_t earlier = 0; earlier < lane; ++earlier) top_up(*pool, lanes[earlier]);
    }
    for (const auto& held : lanes) CHECK(held.size() >= 1);
    std::set<std::uint32_t> offsets;
    std::size_t total = 0;
    for (const auto& held : lanes) {
      total += held.size();
      for (const driver::Buffer& buffer : held) offsets.insert(buffer.offset);
    }
    CHECK(offsets.size() == total);
    CHECK(total + pool->free_buffers() == count + lanes.size());
    for (auto& held : lanes) {
      for (const driver::Buffer& buffer : held) pool->give_back(buffer);
    }
    CHECK(pool->free_buffers() == count + lanes.size());
    pool->close();
  }
}

TEST_CASE("M1 whoever waits for a buffer is told when one is free") {
  const HeldPool pool = make_pool(1);
  int told = 0;
  pool->set_on_free([](void*) { return true; },
                    [](void* counter) { ++*static_cast<int*>(counter); }, &told);
  driver::Buffer a, b;
  REQUIRE(pool->take(a));
  CHECK_FALSE(pool->take(b));
  BufferPool::own(place_of(a), 0);
  CHECK(told == 0);
  REQUIRE(BufferPool::release(place_of(a)));
  CHECK(told == 1);
  REQUIRE(pool->take(b));
  pool->give_back(b);
  CHECK(told == 2);
  pool->close();
}

TEST_CASE("M1 no thread keeps free buffers from one who needs them, asleep or gone") {
  constexpr std::uint32_t kCount = 100;
  const HeldPool pool = make_pool(kCount);
  // Not std::atomic::wait: where there is no futex, as in MinGW's library, it can miss its wake-up.
  std::promise<void> given, over;
  const auto use_all = [&](std::size_t share) {
    std::vector<driver::Buffer> mine(share);
    for (driver::Buffer& buffer : mine) CHECK(pool->take(buffer));
    for (const driver::Buffer& buffer : mine) pool->give_back(buffer);
  };
  std::thread([&] { use_all(kCount); }).join();  // and it is gone
  std::thread sleeper([&] {
    use_all(kCount / 2);
    given.set_value();
    over.get_future().wait();
  });
  given.get_future().wait();
  CHECK(pool->free_buffers() == kCount);
  CHECK(pool->available());
  use_all(kCount);
  std::vector<driver::Buffer> all(kCount);
  for (driver::Buffer& buffer : all) CHECK(pool->take(buffer));
  driver::Buffer none;
  CHECK(!pool->take(none));
  CHECK(!pool->available());
  CHECK(pool->free_buffers() == 0);
  over.set_value();
  sleeper.join();
}

/// What a port does: a thread says that it starves, looks once more, and sleeps until it is told.
TEST_CASE("M1 no thread sleeps for ever while a buffer is free, however they come and go") {
  struct Shared {
    std::atomic<std::uint32_t> starving{0};
    std::mutex mutex;
    std::condition_variable told;
    std::uint64_t calls = 0;
  } shared;
  constexpr std::uint32_t kThreads = 6;
  constexpr int kRounds = 20'000;
  const HeldPool pool = make_pool(3);
  pool->set_on_free(
      [](void* context) { return static_cast<Shared*>(context)->starving.load() > 0; },
      [](void* context) {
        auto& it = *static_cast<Shared*>(context);
        std::lock_guard lock(it.mutex);
        ++it.calls;
        it.told.notify_all();
      },
      &shared);
  std::atomic<bool> stuck{false};
  std::vector<std::thread> threads;
  for (std::uint32_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int round = 0; round < kRounds && !stuck; ++round) {
        driver::Buffer buffer;
        while (!pool->take(buffer) && !stuck) {
          std::uint64_t calls = 0;
          {
            std::lock_guard lock(shared.mutex);
            calls = shared.calls;
          }
          ++shared.starving;
          if (!pool->available()) {
            std::unique_lock lock(shared.mutex);
            const auto heard = [&] { return shared.calls != calls; };
            if (!shared.told.wait_for(lock, std::chrono::seconds(60), heard)) stuck = true;
          }
          --shared.starving;
        }
        if (buffer.data != nullptr) pool->give_back(buffer);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(!stuck);
  CHECK(pool->free_buffers() == 3);
}

TEST_CASE("M2 no piece of a page in use is given back, however large pages are") {
  constexpr std::uint64_t kPage = 65536;
  for (const std::size_t page : {std::size_t{4096}, std::size_t{kPage}}) {
    BufferPool::Options options{4096, 1, 1u << 20};
    options.page_size = page;
    const HeldPool pool = make_pool(options);
    std::vector<Place> small(256);
    std::vector<std::uint8_t*> bytes;
    for (Place& place : small) {
      REQUIRE(pool->allocate(4096, kOwner, place));
      bytes.push_back(BufferPool::use(place, 4096));
      std::memset(bytes.back(), 0x5a, 4096);
      BufferPool::unuse(place);
    }
    for (std::size_t i = 0; i < small.size(); i += 2) CHECK(BufferPool::release(small[i]));
    Place large;
    REQUIRE(pool->allocate(1u << 19, kOwner, large));
    bool discarded = false;
    for (std::size_t i = 0; i < small.size(); i += 2) discarded |= *bytes[i] != 0x5a;
    if (page == kPage) CHECK(!discarded);
#ifndef _WIN32  // there the bytes may stay
    if (page == 4096) CHECK(discarded);
#endif
    for (std::size_t i = 1; i < small.size(); i += 2) CHECK(*bytes[i] == 0x5a);
    pool->close();
  }
}

TEST_CASE("M2 a second release is refused") {
  const HeldPool pool = make_pool(2);
  driver::Buffer buffer;
  REQUIRE(pool->take(buffer));
  CHECK_FALSE(BufferPool::release(place_of(buffer)));  // the lane's
  BufferPool::own(place_of(buffer), 0);
  CHECK(BufferPool::release(place_of(buffer)));
  CHECK_FALSE(BufferPool::release(place_of(buffer)));
  Place place;
  REQUIRE(pool->allocate(100, kOwner, place));
  CHECK(BufferPool::release(place));
  CHECK_FALSE(BufferPool::release(place));
  CHECK(pool->free_buffers() == 2);
  pool->close();
}

TEST_CASE("M5 a received buffer holds nothing of what it held before") {
  const HeldPool pool = make_pool(1);
  const auto receive = [&](char letter, std::size_t length) {
    driver::Buffer buffer;
    REQUIRE(pool->take(buffer));
    std::memset(buffer.data, letter, length);
    BufferPool::own(place_of(buffer), length);
    const bool clean = std::all_of(buffer.data + length, buffer.data + buffer.size,
                                   [](std::uint8_t byte) { return byte == 0; });
    CHECK(clean);
    REQUIRE(BufferPool::release(place_of(buffer)));
  };
  for (const std::size_t length : {100, 5, 1024, 0, 1, 512, 1023, 2}) receive('x', length);
  pool->close();
}

TEST_CASE("M2 a checked pool overwrites what is free, and no sooner") {
  BufferPool::Options options;
  options.check = true;
  const HeldPool pool = make_pool(options);
  Place place;
  REQUIRE(pool->allocate(100, kOwner, place));
  std::uint8_t* bytes = BufferPool::use(place, 100);
  REQUIRE(bytes != nullptr);
  bytes[0] = 1;
  REQUIRE(BufferPool::release(place));
  CHECK(bytes[0] == 1);
  CHECK(BufferPool::in_use(place));
  BufferPool::unuse(place);
  CHECK_FALSE(BufferPool::in_use(place));
  CHECK(bytes[0] == 0xdb);
  pool->close();
}

TEST_CASE("M2 a block an operation uses is free only after the last use, whatever the order") {
  const HeldPool pool = make_pool(1);
  driver::Buffer buffer, other;
  REQUIRE(pool->take(buffer));
  const Place place = place_of(buffer);
  BufferPool::own(place, 0);
  REQUIRE(BufferPool::use(place, 10) == buffer.data);
  REQUIRE(BufferPool::use({place.chunk, place.offset + 100}, 10) == buffer.data + 100);
  SUBCASE("released first") {
    CHECK(BufferPool::release(place));
    CHECK(BufferPool::use(place, 1) == nullptr);
    BufferPool::unuse(place);
    CHECK_FALSE(pool->take(other));
    BufferPool::unuse(place);
  }
  SUBCASE("released between") {
    BufferPool::unuse(place);
    CHECK(BufferPool::release(place));
    CHECK_FALSE(pool->take(other));
    BufferPool::unuse(place);
  }
  SUBCASE("released last") {
    BufferPool::unuse(place);
    BufferPool::unuse(place);
    CHECK_FALSE(pool->take(other));
    CHECK(BufferPool::release(place));
  }
  CHECK(pool->take(other));
  pool->give_back(other);
  pool->close();
}

TEST_CASE("M2 memory outside of one owned block is not to be had") {
  const HeldPool pool = make_pool(4);
  Place place;
  REQUIRE(pool->allocate(5000, kOwner, place));
  CHECK(BufferPool::use(place, 8192) != nullptr);
  BufferPool::unuse(place);
  CHECK(BufferPool::use(place, 8193) == nullptr);
  CHECK(BufferPool::use({place.chunk, place.offset + 8000}, 193) == nullptr);
  CHECK(BufferPool::use({place.chunk, place.offset + 8192}, 1) == nullptr);
  CHECK(BufferPool::use({place.chunk, 0xfffffff0}, 1) == nullptr);
  CHECK(BufferPool::use({driver::kNoChunk, 0}, 1) == nullptr);
  CHECK(BufferPool::use({driver::kNoChunk - 1, 0}, 1) == nullptr);
  CHECK_FALSE(BufferPool::release({driver::kNoChunk, 0}));
  CHECK_FALSE(BufferPool::release({place.chunk, 0xfffffff0}));
  CHECK(Chunk::find(driver::kNoChunk) == nullptr);
  CHECK(BufferPool::release(place));
  pool->close();
}

// ---- allocated blocks -------------------------------------------------------------------------

TEST_CASE("M2 blocks are page-aligned, large enough and apart from each other") {
  const HeldPool pool = make_pool(1);
  std::map<std::uint8_t*, std::size_t> blocks;
  for (const std::size_t size : {0, 1, 4095, 4096, 4097, 10'000, 70'000, 1'000'000, 5'000'000}) {
    for (int i = 0; i < 5; ++i) {
      Place place;
      REQUIRE(pool->allocate(size, kOwner, place));
      std::uint8_t* base = BufferPool::use(place, size);
      REQUIRE(base != nullptr);
      CHECK(reinterpret_cast<std::uintptr_t>(base) % 4096 == 0);
      std::memset(base, 1, size);
      blocks[base] = std::max<std::size_t>(size, 1);
    }
  }
  CHECK(blocks.size() == 45);
  std::uint8_t* end = nullptr;
  for (const auto& [base, size] : blocks) {
    CHECK(base >= end);
    end = base + size;
  }
}

TEST_CASE("M2 the limit bounds what is allocated, and what is released counts no more") {
  const HeldPool pool = make_pool(1, 4096, 64 * 1024);
  std::vector<Place> places;
  Place place;
  while (pool->allocate(3000, kOwner, place)) places.push_back(place);
  CHECK(places.size() == 16);
  CHECK(pool->allocated_bytes() == 64 * 1024);
  REQUIRE(BufferPool::release(places.back()));
  CHECK(pool->allocate(4096, kOwner, place));
  CHECK_FALSE(pool->allocate(1, kOwner, place));
  CHECK_FALSE(pool->allocate(1ull << 40, kOwner, place));
  for (const Place& each : places) BufferPool::release(each);
  CHECK(pool->allocated_bytes() == 0);
  CHECK(pool->allocate(60'000, kOwner, place));
  BufferPool::release(place);
  pool->close();
}

TEST_CASE("M7 the limit refuses what may go beyond it only where that is more by itself") {
  const HeldPool pool = make_pool(1, 4096, 1u << 20);
  Place all, beyond, refused;
  CHECK(pool->enough(1u << 20) == 1u << 20);
  REQUIRE(pool->allocate(1u << 19, kOwner, all));
  CHECK(pool->enough(1u << 20) == 1u << 19);
  CHECK(pool->enough(1000) == 1000);
  Place rest;
  REQUIRE(pool->allocate(1u << 19, kOwner, rest));
  CHECK(pool->enough(1u << 20) == BufferPool::kLeastEnough);
  CHECK_FALSE(pool->allocate(1, kOwner, refused));
  REQUIRE(pool->allocate(1u << 20, kOwner, beyond, true));
  CHECK(pool->allocated_bytes() == 2u << 20);
  CHECK(pool->enough(1u << 20) == BufferPool::kLeastEnough);
  CHECK_FALSE(pool->allocate((1u << 20) + 1, kOwner, refused, true));
  for (const Place& place : {all, rest, beyond}) BufferPool::release(place);
  CHECK(pool->allocated_bytes() == 0);
  pool->close();
}

TEST_CASE("M2 what is kept as long as the port is there is outside of the limit") {
  const HeldPool pool = make_pool(1, 4096, 65536);
  Place kept, more, taken, refused;
  REQUIRE(pool->allocate_fixed(100, kept));
  CHECK(pool->allocated_bytes() == 0);
  REQUIRE(pool->allocate(65536, kOwner, taken));
  CHECK_FALSE(pool->allocate(1, kOwner, refused));
  CHECK(pool->allocate_fixed(100, more));
  CHECK(BufferPool::use(kept, 100) != nullptr);
  pool->release_fixed(kept);
  pool->release_fixed(more);
  BufferPool::release(taken);
  CHECK(pool->allocated_bytes() == 4096);  // an operation has one of them still in use
  BufferPool::unuse(kept);
  CHECK(pool->allocated_bytes() == 0);
  pool->close();
}

TEST_CASE("M2 a released block is given out again before the pool grows") {
  const HeldPool pool = make_pool(1);
  Place first, second;
  REQUIRE(pool->allocate(200'000, kOwner, first));
  REQUIRE(BufferPool::release(first));
  REQUIRE(pool->allocate(150'000, kOwner, second));
  CHECK(second.chunk == first.chunk);
  CHECK(second.offset == first.offset);
  BufferPool::release(second);
  pool->close();
}

TEST_CASE("M2 large blocks give their pages back and read as zero afterwards") {
  const HeldPool pool = make_pool(1);
  constexpr std::size_t kSize = 64u << 20;
  Place place;
  REQUIRE(pool->allocate(kSize, kOwner, place));
  std::uint8_t* base = BufferPool::use(place, kSize);
  base[0] = base[kSize - 1] = 7;
  BufferPool::unuse(place);
  REQUIRE(BufferPool::release(place));
  CHECK(base[0] == 0);
  CHECK(base[kSize - 1] == 0);
  pool->close();
}

#ifndef _WIN32  // which has no mincore

/// Bytes of the block that are in memory now.
std::size_t resident(Place place, std::size_t size) {
  std::vector<unsigned char> pages(size / 4096);
  REQUIRE(mincore(Chunk::find(place.chunk)->base() + place.offset, size, pages.data()) == 0);
  return static_cast<std::size_t>(std::count_if(
             pages.begin(), pages.end(), [](unsigned char page) { return (page & 1) != 0; })) *
         4096;
}

std::vector<Place> fill(BufferPool& pool, std::size_t size) {
  std::vector<Place> places;
  Place place;
  while (pool.allocate(size, kOwner, place)) {
    std::memset(Chunk::find(place.chunk)->base() + place.offset, 1, size);
    places.push_back(place);
  }
  return places;
}

TEST_CASE("M2 free blocks of one size make room for another's: memory stays within the limit") {
  constexpr std::size_t kLimit = 16u << 20;
  const HeldPool pool = make_pool(1, 4096, kLimit);
  for (const std::size_t size : {1u << 16, 1u << 20, 1u << 14, 1u << 22, 1u << 16}) {
    const std::vector<Place> places = fill(*pool, size);
    CHECK(places.size() == kLimit / size);
    CHECK(pool->resident_bytes() == kLimit);
    for (const Place& place : places) BufferPool::release(place);
    CHECK(resident(places.front(), size) == size);  // kept for the next of that size
  }
  const std::vector<Place> places = fill(*pool, 1 << 16);
  std::size_t in_memory = 0;
  for (const Place& place : places) in_memory += resident(place, 1 << 16);
  CHECK(in_memory == kLimit);
  pool->close();
}

TEST_CASE("M2 what a ring may hold on to keeps its pages") {
  const HeldPool pool = make_pool(1, 4096, 4u << 20);
  const std::vector<Place> places = fill(*pool, 1 << 16);
  driver::Slice memory;
  REQUIRE(pool->chunk(places.front().chunk, memory));
  for (const Place& place : places) BufferPool::release(place);
  for (const Place& place : fill(*pool, 1 << 20)) BufferPool::release(place);
  for (const Place& place : places) CHECK(resident(place, 1 << 16) == 1 << 16);
  pool->close();
}

#endif

TEST_CASE("T1 what a dead thread owned is released, what others own is not") {
  const HeldPool pool = make_pool(4);
  Place mine, theirs;
  REQUIRE(pool->allocate(100, kOwner, mine));
  REQUIRE(pool->allocate(100, kOwner + 1, theirs));
  driver::Buffer received, passed_on, queued;
  REQUIRE((pool->take(received) && pool->take(passed_on) && pool->take(queued)));
  for (const auto& buffer : {received, passed_on, queued}) {
    BufferPool::own(place_of(buffer), 0);
    BufferPool::assign(place_of(buffer), kOwner);
  }
  BufferPool::assign(place_of(passed_on), kOwner + 1);
  BufferPool::assign(place_of(queued), 0);
  REQUIRE(BufferPool::use(mine, 10) != nullptr);
  BufferPool::release_all_of(kOwner);
  CHECK_FALSE(BufferPool::release(mine));
  CHECK_FALSE(BufferPool::release(place_of(received)));
  CHECK(BufferPool::release(place_of(passed_on)));
  CHECK(BufferPool::release(place_of(queued)));
  CHECK(pool->allocated_bytes() == 8192);
  BufferPool::unuse(mine);
  CHECK(BufferPool::release(theirs));
  CHECK(pool->allocated_bytes() == 0);
  pool->close();
}

// ---- closing ----------------------------------------------------------------------------------

TEST_CASE("T2 a closed pool gives nothing out, and memory in use stays until the last use") {
  const HeldPool pool = make_pool(2);
  Place place;
  REQUIRE(pool->allocate(100, kOwner, place));
  std::uint8_t* base = BufferPool::use(place, 100);
  Chunk* chunk = Chunk::find(place.chunk);
  Chunk& receive = pool->receive_chunk();
  REQUIRE(chunk != nullptr);
  REQUIRE(BufferPool::release(place));
  pool->close();
  driver::Buffer buffer;
  Place other;
  CHECK_FALSE(pool->take(buffer));
  CHECK_FALSE(pool->allocate(100, kOwner, other));
  CHECK_FALSE(receive.pin());
  std::memset(base, 3, 100);
  REQUIRE(chunk->pin());
  chunk->unpin();
  BufferPool::unuse(place);
  CHECK_FALSE(chunk->pin());
  CHECK(BufferPool::use(place, 1) == nullptr);
  CHECK_FALSE(BufferPool::release(place));
}

TEST_CASE("T2 a view keeps the memory of a closed pool mapped") {
  const HeldPool pool = make_pool(2);
  Place place;
  REQUIRE(pool->allocate(100, kOwner, place));
  std::uint8_t* base = BufferPool::use(place, 100);
  BufferPool::unuse(place);
  Chunk* chunk = Chunk::find(place.chunk);
  REQUIRE(chunk->pin());
  BufferPool::release(place);
  pool->close();
  base[0] = 1;
  chunk->unpin();
  CHECK_FALSE(chunk->pin());
}

TEST_CASE(
    "M2 a chunk's name names nothing once it is gone, and other pools' are not for the kernel") {
  const HeldPool first = make_pool(1);
  const HeldPool second = make_pool(1);
  Place place;
  REQUIRE(first->allocate(100, kOwner, place));
  driver::Slice slice;
  CHECK(first->chunk(place.chunk, slice));
  CHECK(slice.length >= 4096);
  CHECK_FALSE(second->chunk(place.chunk, slice));
  CHECK_FALSE(first->chunk(first->receive_chunk().id(), slice));
  CHECK_FALSE(first->chunk(driver::kNoChunk, slice));
  CHECK(Chunk::find(place.chunk)->id() == place.chunk);
  BufferPool::release(place);
  first->close();
  CHECK(Chunk::find(place.chunk) == nullptr);
  CHECK(BufferPool::use(place, 1) == nullptr);
  CHECK_FALSE(BufferPool::release(place));
  BufferPool::assign(place, kOwner);
  Place other;
  REQUIRE(second->allocate(100, kOwner, other));
  CHECK(other.chunk != place.chunk);
  BufferPool::release(other);
  second->close();
}

TEST_CASE("T2 a pool goes with the last of its blocks that somebody has") {
  const std::size_t before = BufferPool::count();
  for (int round = 0; round < 2000; ++round) {
    BufferPool* pool = make_pool(2).release();
    Place kept;
    REQUIRE(pool->allocate(100, kOwner, kept));
    driver::Buffer received;
    REQUIRE(pool->take(received));
    pool->close();
    pool->let_go();
    CHECK(BufferPool::count() == before + 1);
    BufferPool::own(place_of(received), 10);
    REQUIRE(BufferPool::release(place_of(received)));
    CHECK(BufferPool::count() == before + 1);
    REQUIRE(BufferPool::release(kept));
    CHECK(BufferPool::count() == before);
  }
}

// ---- several threads --------------------------------------------------------------------------

TEST_CASE("M2 of several threads that release one block, one succeeds") {
  const HeldPool pool = make_pool(1);
  for (int round = 0; round < 300; ++round) {
    Place place;
    REQUIRE(pool->allocate(100, kOwner, place));
    REQUIRE(BufferPool::use(place, 1) != nullptr);
    std::atomic<int> succeeded{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 2; ++i) {
      threads.emplace_back([&] { succeeded += BufferPool::release(place); });
    }
    threads.emplace_back([&] { BufferPool::unuse(place); });
    for (auto& thread : threads) thread.join();
    REQUIRE(succeeded == 1);
    REQUIRE(pool->allocated_bytes() == 0);
  }
  pool->close();
}

TEST_CASE("M1 M2 a block is never somebody else's while it is owned or used") {
  const std::uint64_t first = seed("buffer pool");
  const HeldPool pool = make_pool(8, 4096, 1 << 20);
  pool->add_lane();
  Verdict verdict;
  const auto work = [&](std::uint32_t number) {
    Random random(first + number);
    struct Held {
      Place place;
      std::uint8_t* base;
      bool received;
    };
    std::vector<Held> held;
    const auto drop = [&](std::size_t i) {
      const Held it = held[i];
      held.erase(held.begin() + static_cast<std::ptrdiff_t>(i));
      std::uint8_t* base = BufferPool::use(it.place, 8);
      if (!verdict.expect(base == it.base, "what is owned can't be used")) return;
      const bool early = random.one_in(2);
      if (early) verdict.expect(BufferPool::release(it.place), "release refused");
      std::uint64_t mark;
      std::memcpy(&mark, base, 8);
      verdict.expect(mark == number, "somebody else wrote into the block");
      BufferPool::unuse(it.place);
      if (!early) verdict.expect(BufferPool::release(it.place), "release refused");
    };
    for (int step = 0; step < 4000 && verdict.good(); ++step) {
      if (held.size() > 6 || (!held.empty() && random.one_in(2))) {
        drop(random(static_cast<std::uint32_t>(held.size())));
        continue;
      }
      Held it{};
      driver::Buffer buffer;
      it.received = random.one_in(2);
      if (it.received) {
        if (!pool->take(buffer)) continue;
        if (random.one_in(4)) {
          pool->give_back(buffer);
          continue;
        }
        it.place = place_of(buffer);
        it.base = buffer.data;
        const std::uint64_t mark = number;
        std::memcpy(it.base, &mark, 8);
        BufferPool::own(it.place, 0);
        BufferPool::assign(it.place, kOwner + number);
      } else {
        if (!pool->allocate(1 + random(40'000), kOwner + number, it.place)) continue;
        it.base = BufferPool::use(it.place, 8);
        if (!verdict.expect(it.base != nullptr, "what was allocated can't be used")) return;
        const std::uint64_t mark = number;
        std::memcpy(it.base, &mark, 8);
        BufferPool::unuse(it.place);
      }
      held.push_back(it);
    }
    if (number % 2 == 0) return BufferPool::release_all_of(kOwner + number);
    while (!held.empty() && verdict.good()) drop(held.size() - 1);
  };
  std::vector<std::thread> threads;
  for (std::uint32_t number = 1; number <= 4; ++number) threads.emplace_back(work, number);
  for (auto& thread : threads) thread.join();
  CHECK(verdict.first() == "");
  CHECK(pool->free_buffers() == 9);
  CHECK(pool->allocated_bytes() == 0);
  pool->close();
}

TEST_CASE("T2 closing the pool while threads release its blocks frees each chunk once") {
  for (int round = 0; round < 60; ++round) {
    const HeldPool pool = make_pool(4);
    std::vector<std::thread> threads;
    std::atomic<bool> go{false};
    for (std::uint32_t number = 0; number < 3; ++number) {
      std::vector<Place> places;
      Place place;
      for (int i = 0; i < 8; ++i) {
        REQUIRE(pool->allocate(5000, kOwner, place));
        if (i % 2 == 0) REQUIRE(BufferPool::use(place, 1) != nullptr);
        places.push_back(place);
      }
      threads.emplace_back([&go, places] {
        while (!go.load()) std::this_thread::yield();
        for (std::size_t i = 0; i < places.size(); ++i) {
          BufferPool::release(places[i]);
          if (i % 2 == 0) BufferPool::unuse(places[i]);
        }
      });
    }
    Place place;
    REQUIRE(pool->allocate(5000, kOwner, place));
    Chunk* chunk = Chunk::find(place.chunk);
    BufferPool::release(place);
    go.store(true);
    pool->close();
    for (auto& thread : threads) thread.join();
    CHECK_FALSE(chunk->pin());
  }
}

}  // namespace
