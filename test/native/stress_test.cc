// The dispatcher under several threads that take, claim, steal, block, leave and come, and an
// oracle that every claim is shown to. Run with CP_SEED to repeat a schedule's dice (not its
// timing).
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "port/dispatcher.h"
#include "support/consumer.h"
#include "support/verdict.h"

namespace {

using namespace cp;
using namespace cp::test;

constexpr std::uint32_t kKeys = 23;
constexpr std::uint32_t kProducers = 3;

/// What was posted where, and what was claimed. The counts of a key are plain on purpose: with
/// serialized keys only the thread that holds the key touches them, and TSan would tell.
class Oracle {
 public:
  Oracle(std::uint32_t concurrency, bool serialized)
      : concurrency_(concurrency), serialized_(serialized) {}

  void running() {
    const int now = ++running_;
    verdict.expect(now <= static_cast<int>(concurrency_), "D3 " + std::to_string(now) + " run");
  }
  void not_running() { --running_; }

  /// Values are producer * 2^32 + number, one number line per producer and key.
  void begin(std::uint32_t key, double value) {
    ++claimed;
    if (!serialized_) return;
    Key& it = keys_[key];
    verdict.expect(!it.held.exchange(true), "D8 two threads hold key " + std::to_string(key));
    const auto producer = static_cast<std::size_t>(value / 4294967296.0);
    const auto number =
        static_cast<std::uint32_t>(value - static_cast<double>(producer) * 4294967296.0);
    std::uint32_t& next = it.next[producer];
    verdict.expect(number == next, "D7 key " + std::to_string(key) + ": number " +
                                       std::to_string(number) + " instead of " +
                                       std::to_string(next));
    next = number + 1;
  }
  void end(std::uint32_t key) {
    if (serialized_) keys_[key].held.store(false);
  }

  Verdict verdict;
  std::atomic<std::uint64_t> posted{0}, claimed{0}, deaths{0}, abandoned{0};

 private:
  struct Key {
    std::atomic<bool> held{false};
    std::uint32_t next[kProducers + 1] = {};
  };
  const std::uint32_t concurrency_;
  const bool serialized_;
  std::atomic<int> running_{0};
  Key keys_[kKeys];
};

/// One thread of the port, for all its lives.
class Worker {
 public:
  Worker(Dispatcher& dispatcher, Oracle& oracle, std::uint64_t seed)
      : dispatcher_(dispatcher), oracle_(oracle), random_(seed) {}

  /// Takes until the dispatcher is closed. Consumers outlive the dispatcher's use of them.
  void run(std::mutex& mutex, std::vector<std::unique_ptr<FakeThread>>& graveyard) {
    while (oracle_.verdict.good()) {
      auto self = std::make_unique<FakeThread>(dispatcher_);
      const bool closed = live(*self);
      std::lock_guard lock(mutex);
      graveyard.push_back(std::move(self));
      if (closed) return;
    }
  }

 private:
  enum class Outcome { kGoOn, kLeft, kNextBatch };

  /// True when the dispatcher was closed, false when the thread left before.
  bool live(FakeThread& self) {
    for (;;) {
      const std::uint32_t max = 1 + random_(random_.one_in(3) ? 200 : 12);
      const std::uint32_t looks = random_.one_in(2) ? random_(3000) : 0;
      if (self.get(max, looks) == 0) return true;
      oracle_.running();
      counted_ = true;
      for (std::size_t i = 0; i < self.batch().size(); ++i) {
        if (!self.claim(i)) continue;
        const Outcome outcome = handle(self, i);
        if (outcome == Outcome::kLeft) return false;
        if (outcome == Outcome::kNextBatch) break;
      }
      stop_counting();
    }
  }

  Outcome handle(FakeThread& self, std::size_t i) {
    // By its fields, not as a copy: thieves that come too late still look at its state.
    const PacketSlot& slot = self.slots[i];
    const bool notice = slot.kind == static_cast<std::uint8_t>(PacketKind::kAbandoned);
    if (notice) {
      ++oracle_.abandoned;
    } else {
      oracle_.begin(slot.key, slot.result);
    }
    for (std::uint32_t spin = random_(200); spin-- > 0;) sink_.fetch_add(1);
    if (random_.one_in(40)) block(self);
    const bool dies = random_.one_in(500);
    if (dies) ++oracle_.deaths;  // before its notice can be seen
    if (!notice) oracle_.end(slot.key);
    if (dies || random_.one_in(500)) {
      if (!dies) self.done(i);
      stop_counting();
      oracle_.verdict.expect(self.leave(dies).empty(), "packets that nobody can take");
      return Outcome::kLeft;
    }
    self.done(i);
    return random_.one_in(60) ? Outcome::kNextBatch : Outcome::kGoOn;
  }

  void block(FakeThread& self) {
    stop_counting();  // from here on it may be one more than the limit (rule D4)
    self.begin_blocking();
    std::this_thread::yield();
    self.end_blocking();
  }

  void stop_counting() {
    if (counted_) oracle_.not_running();
    counted_ = false;
  }

  Dispatcher& dispatcher_;
  Oracle& oracle_;
  Random random_;
  bool counted_ = false;
  std::atomic<std::uint32_t> sink_{0};
};

void stress(std::uint64_t seed, std::uint32_t concurrency, std::uint32_t threads, bool serialized,
            std::uint32_t keys, std::chrono::milliseconds span) {
  constexpr std::uint32_t kLimit = 300;
  // Leaked when it hangs: the threads still use it.
  auto* dispatcher = new Dispatcher({concurrency, kLimit, serialized});
  auto* oracle = new Oracle(concurrency, serialized);
  auto* mutex = new std::mutex;
  auto* graveyard = new std::vector<std::unique_ptr<FakeThread>>;
  auto* writers = new std::vector<std::unique_ptr<RingWriter>>;
  std::vector<std::thread> workers, producers;
  std::atomic<std::uint32_t> ended{0};
  for (std::uint32_t i = 0; i < threads; ++i) {
    workers.emplace_back([&, i] {
      Worker(*dispatcher, *oracle, seed * 100 + i).run(*mutex, *graveyard);
      ++ended;
    });
  }
  const auto end = std::chrono::steady_clock::now() + span;
  for (std::uint32_t p = 1; p <= kProducers; ++p) {
    producers.emplace_back([&, p] {
      Random random(seed * 100 + 50 + p);
      // One that calls for each message, and others that write into rings and leave at the end.
      std::unique_ptr<RingWriter> writer;
      if (p > 1) writer = std::make_unique<RingWriter>(*dispatcher);
      const auto send = [&](std::uint32_t key, double value) {
        return writer ? writer->post(key, value, 1 + random(60))
                      : post(*dispatcher, posted(key, value));
      };
      std::uint32_t next[kKeys] = {};
      while (std::chrono::steady_clock::now() < end && oracle->verdict.good()) {
        for (std::uint32_t burst = random(40); burst-- > 0;) {
          const std::uint32_t key = random(keys);
          if (!send(key, p * 4294967296.0 + next[key])) break;
          ++next[key];
          ++oracle->posted;
        }
        if (writer && random.one_in(3)) writer->end_turn();
        if (random.one_in(4)) std::this_thread::sleep_for(std::chrono::microseconds(random(300)));
      }
      if (!writer) return;
      writer->leave(random.one_in(2));
      // Others may still look at it, as at a worker that has left.
      std::lock_guard lock(*mutex);
      writers->push_back(std::move(writer));
    });
  }
  for (auto& producer : producers) producer.join();
  const bool all = eventually([&] {
    const bool claimed = oracle->claimed == oracle->posted && oracle->abandoned == oracle->deaths;
    return claimed || !oracle->verdict.good();
  });
  INFO("CP_SEED=", seed, " concurrency ", concurrency, " threads ", threads, " keys ", keys);
  CHECK(oracle->verdict.first() == "");
  CHECK(oracle->claimed == oracle->posted);
  CHECK(oracle->abandoned == oracle->deaths);
  if (all && oracle->verdict.good()) {
    CHECK(dispatcher->queued() == 0);
    // A thread keeps some room for what it may post, and gives it back before it sleeps.
    CHECK(eventually([&] { return dispatcher->room() == kLimit; }));
  }
  dispatcher->close();
  REQUIRE(eventually([&] { return ended == threads; }));
  for (auto& worker : workers) worker.join();
  CHECK(dispatcher->running() <= threads);
  delete writers;
  delete graveyard;
  delete mutex;
  delete oracle;
  delete dispatcher;
}

constexpr std::chrono::milliseconds kSpan(700);

TEST_CASE("D3 D7 D8 hold under threads that take, steal, block, leave and come") {
  const std::uint64_t number = seed("stress");
  stress(number, 2, 5, true, kKeys, kSpan);
  stress(number + 1, 4, 4, true, 3, kSpan);
  stress(number + 2, 1, 4, true, kKeys, kSpan);
}

TEST_CASE("D7 holds when any thread may have any packet") {
  stress(seed("stress without keys"), 3, 5, false, kKeys, kSpan);
}

/// A thread dies with all keys at hand while packets of them arrive: who takes those has to hear
/// first that the key was abandoned.
void abandon_while_packets_arrive(std::uint32_t keys, bool pinned) {
  Dispatcher dispatcher({3, 65536, true});
  FakeThread dying(dispatcher), taking(dispatcher);
  for (std::uint32_t key = 1; key <= keys; ++key) push(dispatcher, completed(key, key, 1));
  REQUIRE(dying.take() == keys);
  for (std::uint32_t key = 1; key <= keys; ++key) {
    REQUIRE(dying.claim(key - 1));
    if (pinned) dying.pin(key, key);
    if (pinned) dying.done(key - 1);
  }
  std::atomic<bool> go{false};
  std::thread pushing([&] {
    while (!go.load()) relax();
    for (std::uint32_t key = keys; key > 0; --key) push(dispatcher, completed(key, key, 2));
  });
  std::thread leaving([&] {
    go.store(true);
    dying.leave(true);
  });
  std::vector<bool> told(keys + 1);
  std::uint32_t missing = 2 * keys;
  std::string wrong;
  const bool all = eventually([&] {
    const std::size_t count = taking.take();
    for (std::size_t i = 0; i < count; ++i) {
      if (!taking.claim(i)) continue;
      const PacketSlot& slot = taking.slots[i];
      const bool notice = slot.kind == static_cast<std::uint8_t>(PacketKind::kAbandoned);
      if (notice) told[slot.key] = true;
      if (!told[slot.key]) wrong = "key " + std::to_string(slot.key);
      --missing;
      taking.done(i);
    }
    return missing == 0;
  });
  pushing.join();
  leaving.join();
  CHECK(all);
  REQUIRE(wrong == "");
}

TEST_CASE("D1 T1 that a key was abandoned is told before anything that arrives meanwhile") {
  for (int round = 0; round < 200; ++round) {
    abandon_while_packets_arrive(200, round % 2 == 0);
  }
}

TEST_CASE("D1 D7 hold for a single thread") { stress(seed("stress of one"), 1, 1, true, 1, kSpan); }

}  // namespace
