// The queue for a native stage's memory by itself: who is told what, when several threads take and
// give back between a notice and what comes of it.
#include "stage/memory_queue.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <optional>

#include "stage/admission.h"
#include "support/member.h"

namespace {

using namespace cp;
using namespace cp::stage;
using namespace cp::test;

constexpr std::uint64_t kRoom = 16384, kWanted = 65536, kLimit = 2 * kWanted;

struct Told {
  std::uint32_t key;
  Notice notice;
  bool operator==(const Told&) const = default;
};

class Queue {
 public:
  explicit Queue(const char* driver) : port_(limited(driver)), member_(*port_), queue(*port_) {}
  ~Queue() { CHECK(port_->pool().allocated_bytes() == 0); }

  /// The next notice, if there is one.
  std::optional<Told> told() {
    const Packet packet = member_.next(0);
    if (packet.kind != PacketKind::kNotice) return std::nullopt;
    return Told{packet.key, static_cast<Notice>(static_cast<int>(packet.result))};
  }
  Place take(std::uint64_t size) {
    Place place;
    CHECK(port_->pool().allocate(size, 0, place));
    return place;
  }
  bool finds_none(std::uint64_t size) {
    Place place;
    using Allocation = BufferPool::Allocation;
    return port_->pool().try_allocate(size, 0, place) == Allocation::kLimit;
  }
  void give_back(Place place) {
    BufferPool::release(place);
    queue.memory_returned();
  }
  /// Who was told of memory takes all it wanted, has no use for its `smaller` room, and ends.
  void comes_through(std::uint32_t key, Place smaller) {
    const Place all = take(kWanted);
    queue.settles(key);
    give_back(smaller);
    queue.notice_done();
    give_back(all);
    CHECK(!told());
  }

 private:
  static PortHold limited(const char* driver) {
    PortOptions made = options();
    made.buffers.memory_limit = kLimit;
    return make_port(driver, made);
  }
  PortHold port_;
  Member member_;

 public:
  MemoryQueue queue;
};

PORT_TEST("nobody gives up when memory came back before who was told of some waits again") {
  NEEDS_DRIVER();
  Queue it(D::name);
  const Place growing = it.take(kRoom);
  it.queue.grows(1, kRoom);
  Place other = it.take(kWanted);
  const Place third = it.take(kRoom);
  it.queue.wait(1, kWanted, false, false, false);
  CHECK(!it.told());
  it.give_back(other);
  CHECK(it.told() == Told{1, Notice::kMemory});
  // Another thread is faster, and is done before this one waits again.
  other = it.take(kWanted);
  CHECK(it.finds_none(kWanted));
  it.give_back(other);
  it.give_back(third);
  it.queue.wait(1, kWanted, false, true, false);
  it.queue.notice_done();
  CHECK(it.told() == Told{1, Notice::kMemory});
  it.comes_through(1, growing);
}

PORT_TEST("nobody gives up while who was told of memory has not taken it") {
  NEEDS_DRIVER();
  Queue it(D::name);
  // What growing documents hold leaves room for one of the two that wait.
  const Place first = it.take(kWanted), second = it.take(kRoom);
  it.queue.grows(1, kWanted);
  it.queue.grows(2, kRoom);
  const Place other = it.take(2 * kRoom);
  it.queue.wait(2, 2 * kRoom, false, false, false);
  CHECK(!it.told());
  it.give_back(other);
  CHECK(it.told() == Told{2, Notice::kMemory});
  it.queue.wait(1, kLimit - kRoom, false, false, false);
  CHECK(!it.told());
  const Place larger = it.take(2 * kRoom);
  it.queue.settles(2);
  it.give_back(second);
  it.queue.notice_done();
  CHECK(!it.told());
  // Done with it: now all that is given out is of one that waits.
  it.give_back(larger);
  CHECK(it.told() == Told{1, Notice::kGiveUp});
  it.queue.leave(1);
  it.queue.settles(1);
  it.give_back(first);
  it.queue.notice_done();
  CHECK(!it.told());
}

PORT_TEST("nobody gives up when memory came back before who was told to hears of it") {
  NEEDS_DRIVER();
  Queue it(D::name);
  const Place first = it.take(kWanted), second = it.take(kWanted);
  it.queue.grows(1, kWanted);
  it.queue.grows(2, kWanted);
  it.queue.wait(2, kWanted, false, false, false);
  CHECK(it.told() == Told{1, Notice::kGiveUp});
  // The client of another one has gone.
  it.queue.settles(1);
  it.give_back(first);
  CHECK(it.told() == Told{2, Notice::kMemory});
  CHECK(!it.queue.must_give_up());
  it.queue.notice_done();
  it.comes_through(2, second);
}

PORT_TEST("one gives up when what growing documents hold is all that is given out") {
  NEEDS_DRIVER();
  Queue it(D::name);
  const Place first = it.take(kWanted), second = it.take(kWanted);
  it.queue.grows(1, kWanted);
  it.queue.grows(2, kWanted);
  it.queue.wait(1, kWanted, false, false, false);
  // The one whose client is silent goes first.
  CHECK(it.told() == Told{2, Notice::kGiveUp});
  CHECK(it.queue.must_give_up());
  it.queue.settles(2);
  it.give_back(second);
  CHECK(it.told() == Told{1, Notice::kMemory});
  it.queue.notice_done();
  it.queue.settles(1);
  it.give_back(first);
  it.queue.notice_done();
  CHECK(!it.told());
}

}  // namespace
