// The dispatcher against a model of it, in any schedule.
#include <doctest/doctest.h>

#include <map>
#include <memory>
#include <vector>

#include "support/dispatcher.h"
#include "support/verdict.h"

namespace {

using namespace cp;
using namespace cp::test;

/// Random steps of several threads, one after the other, against what the rules say.
class Model {
 public:
  Model(std::uint64_t seed, std::uint32_t concurrency)
      : random_(seed), dispatcher_({concurrency, kQueueLimit, true}) {
    for (int i = 0; i < 4; ++i) join();
  }

  std::string run(int steps) {
    for (int i = 0; i < steps && verdict_.good(); ++i) step();
    finish();
    return verdict_.first();
  }

 private:
  static constexpr std::uint32_t kQueueLimit = 24;
  static constexpr std::uint32_t kKeys = 5;
  static constexpr std::uint32_t kLeast = 4;  ///< any `take` has room for as many

  enum class Phase { kIdle, kParked, kRunning, kBlocking };
  struct Member {
    std::unique_ptr<FakeThread> thread;
    Phase phase = Phase::kIdle;
    std::size_t next = 0;
    int claimed = -1;
    bool beyond = false;  ///< came back from blocking
  };

  void join() { members_.push_back({std::make_unique<FakeThread>(dispatcher_)}); }

  void step() {
    if (random_.one_in(3)) {
      post_one();
    } else {
      move(members_[random_(static_cast<std::uint32_t>(members_.size()))]);
    }
    check();
  }

  void post_one() {
    const std::uint32_t key = random_(kKeys);
    if (post(dispatcher_, posted(key, sent_[key]))) ++sent_[key];
  }

  void move(Member& member) {
    const bool woken = member.thread->state() == Consumer::State::kWoken;
    switch (member.phase) {
      case Phase::kIdle:
        return take(member);
      case Phase::kParked:
        return woken || random_.one_in(6) ? take(member) : void();
      case Phase::kBlocking:
        member.thread->end_blocking();
        member.beyond = true;
        member.phase = Phase::kRunning;
        return;
      case Phase::kRunning:
        return work(member);
    }
  }

  void take(Member& member) {
    finish_packet(member);
    member.next = 0;
    member.beyond = false;
    const std::size_t count = member.thread->take_or_park(kLeast + random_(8));
    member.phase = count > 0 ? Phase::kRunning : Phase::kParked;
  }

  void work(Member& member) {
    finish_packet(member);
    if (random_.one_in(12)) {
      member.thread->begin_blocking();
      member.phase = Phase::kBlocking;
      return;
    }
    if (random_.one_in(25)) return leave(member);
    if (random_.one_in(10)) return take(member);
    while (member.next < member.thread->batch().size() && !member.thread->claim(member.next)) {
      ++member.next;
    }
    if (member.next == member.thread->batch().size()) return take(member);
    begin_packet(member);
    if (random_.one_in(12)) {
      member.thread->begin_blocking();
      member.phase = Phase::kBlocking;
    } else if (random_.one_in(25)) {
      leave(member);
    }
  }

  void begin_packet(Member& member) {
    const PacketSlot& slot = member.thread->slots[member.next];
    member.claimed = static_cast<int>(member.next++);
    if (slot.kind == static_cast<std::uint8_t>(PacketKind::kAbandoned)) {
      verdict_.expect(abandoned_[slot.key]-- > 0, "T1 an abandoned notice out of nothing");
      return;
    }
    const bool in_order = slot.result == got_[slot.key];
    verdict_.expect(in_order, "D7 key " + std::to_string(slot.key) + ": " +
                                  std::to_string(slot.result) + " instead of " +
                                  std::to_string(got_[slot.key]));
    got_[slot.key] = slot.result + 1;
    for (const Member& other : members_) {
      if (&other == &member || other.claimed < 0) continue;
      const auto at = static_cast<std::size_t>(other.claimed);
      verdict_.expect(other.thread->slots[at].key != slot.key, "D8 two threads hold one key");
    }
  }

  void finish_packet(Member& member) {
    if (member.claimed >= 0) member.thread->done(static_cast<std::size_t>(member.claimed));
    member.claimed = -1;
  }

  void leave(Member& member) {
    const bool died = random_.one_in(2);
    if (died && member.claimed >= 0) {
      ++abandoned_[member.thread->slots[member.claimed].key];
    }
    member.thread->leave(died);
    gone_.push_back(std::move(member.thread));
    member = {std::make_unique<FakeThread>(dispatcher_)};
  }

  /// Whether another thread could take something out of this batch.
  bool has_surplus(const Member& member) {
    struct Group {
      std::uint32_t size = 0;
      bool untouched = true;
    };
    std::map<std::uint32_t, Group> groups;
    FakeThread& thread = *member.thread;
    for (std::size_t i = 0; i < thread.batch().size(); ++i) {
      const std::uint32_t state = thread.slot_state(i);
      if (state == kSlotStolen) continue;
      Group& group = groups[thread.slots[i].key];
      ++group.size;
      group.untouched = group.untouched && state == kSlotReady;
    }
    const auto open = std::count_if(groups.begin(), groups.end(), [](const auto& it) {
      return it.second.untouched && it.second.size <= kLeast;
    });
    return open > (member.claimed < 0 ? 1 : 0);  // between packets it is about to begin one
  }

  void check() {
    std::uint32_t running = 0, beyond = 0, woken = 0, parked = 0;
    bool surplus = false;
    for (const Member& member : members_) {
      running += member.phase == Phase::kRunning;
      beyond += member.phase == Phase::kRunning && member.beyond;
      woken += member.thread->state() == Consumer::State::kWoken;
      parked += member.thread->state() == Consumer::State::kWaiting;
      surplus = surplus || (member.phase == Phase::kRunning && has_surplus(member));
    }
    const std::uint32_t limit = dispatcher_.options().concurrency;
    verdict_.expect(running == dispatcher_.running(), "D3 the count of running threads is wrong");
    verdict_.expect(running - beyond <= limit, "D3 more threads run than may");
    verdict_.expect(parked == dispatcher_.waiting(), "D2 the stack of waiting threads is wrong");
    if (parked == 0 || running + woken >= limit) return;
    verdict_.expect(woken > 0 || dispatcher_.ready() == 0, "D5 a packet waits, a thread waits");
    verdict_.expect(!surplus || woken > 0, "D5 a packet waits in a batch, a thread waits");
  }

  void finish() {
    for (Member& member : members_) {
      if (member.phase == Phase::kBlocking) member.thread->end_blocking();
      finish_packet(member);
    }
    for (int round = 0; round < 100 && verdict_.good(); ++round) {
      for (Member& member : members_) {
        member.thread->take();
        for (member.next = 0; member.next < member.thread->batch().size();) {
          if (member.thread->claim(member.next)) {
            begin_packet(member);
            finish_packet(member);
          } else {
            ++member.next;
          }
        }
      }
    }
    for (std::uint32_t key = 0; key < kKeys; ++key) {
      verdict_.expect(sent_[key] == got_[key], "D7 a packet was lost");
      verdict_.expect(abandoned_[key] == 0, "T1 an abandoned notice was lost");
    }
    std::uint32_t room = 0;
    while (room <= kQueueLimit && post(dispatcher_, posted(1, 0))) ++room;
    verdict_.expect(room == kQueueLimit, "Q2 the queue's room is " + std::to_string(room));
  }

  Random random_;
  Dispatcher dispatcher_;
  Verdict verdict_;
  std::vector<Member> members_;
  std::vector<std::unique_ptr<FakeThread>> gone_;
  double sent_[kKeys] = {}, got_[kKeys] = {};
  int abandoned_[kKeys] = {};
};

TEST_CASE("D3 D5 D7 D8 T1 Q2 hold in any schedule") {
  const std::uint64_t first = seed("any schedule");
  for (std::uint64_t i = 0; i < 300; ++i) {
    const std::string wrong = Model(first + i, 1 + i % 4).run(400);
    INFO("CP_SEED=", first + i, " concurrency ", 1 + i % 4);
    REQUIRE(wrong == "");
  }
}

}  // namespace
