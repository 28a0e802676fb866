// Where a thread that has nothing left takes from others. The thief has its own lock and tries the
// victim's: it never waits for it, so two thieves cannot wait for each other.
#include <algorithm>
#include <atomic>

#include "port/dispatcher.h"
#include "system/relax.h"

namespace cp {
namespace {

constexpr int kTriesForLock = 40;
/// Fewer than these are left to their thread for a moment, which comes to them before a thief does.
constexpr std::uint32_t kWorthStealing = 8;
constexpr int kMoment = 50;
/// Keys taken from another thread at one time.
constexpr std::size_t kKeysAtOnce = 32;
/// A thread that has work of its own all the time looks after what has waited for so long
/// elsewhere.
constexpr std::int64_t kTooOld = 1'000'000;

std::uint32_t ready_at(const Consumer& consumer) {
  return consumer.run_queue().size() + consumer.unread();
}

/// Any sequence does that no two threads share.
std::uint32_t roll(Consumer& consumer) {
  consumer.dice = consumer.dice * 1664525u + 1013904223u;
  return consumer.dice >> 8;
}

/// All members but `self`, from any one on, until `visit` returns something.
template <typename Visit>
std::size_t first_of(const Members& members, Consumer& self, Visit visit) {
  const std::uint32_t count = members.places();
  std::uint32_t at = count > 0 ? roll(self) % count : 0;
  for (std::uint32_t i = 0; i < count; ++i, at = at + 1 == count ? 0 : at + 1) {
    Consumer* consumer = members.at(at);
    if (consumer == nullptr || consumer == &self) continue;
    if (const std::size_t got = visit(*consumer)) return got;
  }
  return 0;
}

}  // namespace

/// What is ready at other threads, and if there is nothing, what they have taken and not begun.
std::size_t Dispatcher::steal(const HeldConsumer& thief, std::size_t max) {
  if (members_.count() < 2) return 0;
  bool any = false;
  for (const std::uint32_t least : {kWorthStealing, 1u}) {
    if (least == 1) {
      if (!any) break;
      for (int i = 0; i < kMoment; ++i) relax();
    }
    const std::size_t got = first_of(members_, *thief, [&](Consumer& victim) -> std::size_t {
      const std::uint32_t ready = ready_at(victim);
      any = any || ready > 0;
      return ready >= least ? steal_ready(thief, victim, max) : 0;
    });
    if (got > 0) return got;
  }
  return first_of(members_, *thief, [&](Consumer& victim) -> std::size_t {
    return victim.batch().stealable() > 0 ? steal_surplus(thief, victim, max) : 0;
  });
}

/// How much of what is ready at another thread a thief takes: so that it is left its part, if it
/// runs packets, and others that wait get theirs.
std::size_t Dispatcher::portion(const Consumer& thief, const Consumer& victim,
                                std::size_t ready) const {
  const std::size_t others = waiters_.helpers(thief) + (victim.has_place.load() ? 1 : 0);
  return (ready + others) / (1 + others);
}

/// Its keys, those first that it would come to first; where it has none, its messages.
std::size_t Dispatcher::steal_ready(const HeldConsumer& thief, Consumer& from, std::size_t max) {
  ReadyKey entries[kKeysAtOnce];
  std::size_t count = 0, got = 0;
  {
    const HeldConsumer victim = HeldConsumer::tried(from, kTriesForLock);
    if (!victim || from.gone()) return 0;
    const std::size_t keys = portion(*thief, from, from.run_queue().size());
    const std::size_t wanted = std::min({keys, max, kKeysAtOnce});
    while (count < wanted) entries[count++] = victim.run_queue().pop_front();
    if (count == 0) {
      const std::size_t most = std::min(max, portion(*thief, from, from.unread()));
      got = keys_.take_messages(thief, victim, most);
    }
  }
  got += keys_.take_all(thief, entries, count, max);
  thief->steals.add(got);
  return got;
}

/// About half of what was taken and not begun.
std::size_t Dispatcher::steal_surplus(const HeldConsumer& thief, Consumer& from, std::size_t max) {
  std::vector<ReadyKey> entries;
  {
    const HeldConsumer victim = HeldConsumer::tried(from, kTriesForLock);
    if (!victim || from.gone()) return 0;
    const std::size_t ready = victim.batch().ready();
    if (ready > 0) {
      keys_.revoke(victim, std::min(max, (ready + 1) / 2), entries, thief->credit);
    }
  }
  std::reverse(entries.begin(), entries.end());  // handed over in their order
  const std::size_t got = keys_.take_all(thief, entries.data(), entries.size(), max);
  thief->steals.add(got);
  return got;
}

// ---- what a busy thread does not begin --------------------------------------------------------

std::size_t Dispatcher::unbegun(Consumer& consumer) {
  if (consumer.batch().stealable() == 0) return 0;
  const HeldConsumer held(consumer);
  return consumer.gone() ? 0 : held.batch().ready();
}

/// To where they are merged with all others by age, because those who might come may have work of
/// their own all the time (rule D1). Not those whose keys the thread is in the middle of.
void Dispatcher::take_back(Consumer& stuck) {
  std::vector<ReadyKey> entries;
  std::int32_t credit = 0;
  {
    const HeldConsumer held(stuck);
    if (stuck.gone()) return;
    keys_.revoke(held, kBatchLimit, entries, credit);
  }
  if (entries.empty()) return;
  taken_back_.fetch_add(entries.size());
  room_.give_back(credit);
  std::reverse(entries.begin(), entries.end());
  shared_.push_front(entries);
  wake_if_idle();
}

// ---- age --------------------------------------------------------------------------------------

/// Each thread comes to its own queue first. So that nobody's waits without bound while its thread
/// is in a long handler and all others have enough to do, every one of them looks around now and
/// then for what is old (rule D1).
std::size_t Dispatcher::relieve_oldest(const HeldConsumer& consumer, std::size_t max) {
  if (members_.count() < 2) return 0;
  Consumer* oldest = nullptr;
  std::int64_t since = consumer->clock.now() - kTooOld;
  if (!consumer->run_queue().empty()) since = std::min(since, consumer->run_queue().oldest());
  first_of(members_, *consumer, [&](Consumer& other) -> std::size_t {
    expose_messages(other, *consumer);
    if (other.run_queue().empty() || other.run_queue().oldest() >= since) return 0;
    oldest = &other;
    since = other.run_queue().oldest();
    return 0;
  });
  return oldest == nullptr ? 0 : steal_ready(consumer, *oldest, max);
}

/// Messages in a ring have no age. Those of a thread that has not come to its ring since another
/// looked there last go into its run queue, where they have.
void Dispatcher::expose_messages(Consumer& other, Consumer& caller) {
  if (other.unread() == 0) return;
  const HeldConsumer held = HeldConsumer::tried(other, 1);
  if (held && held.posts().stood_still()) queue_messages(held, caller);
}

}  // namespace cp
