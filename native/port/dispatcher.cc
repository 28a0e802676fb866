// What a thread takes, how its batch ends, and what becomes of it when it leaves.
#include "port/dispatcher.h"

#include <algorithm>
#include <atomic>

namespace cp {

// ---- taking -----------------------------------------------------------------------------------

std::size_t Dispatcher::take(Consumer& consumer, std::size_t max) {
  std::size_t open = 0;
  if (!closed()) {
    const HeldConsumer held(consumer);
    consumer.clock.go_on();
    // Awaited answers are outside of the limit D3: no other thread could run them in its place.
    held.take_awaited(max == 0 ? kBatchLimit : kBatchLimit / 2);
    max = std::min(max, kBatchLimit - consumer.batch().size());  // what else it has room for
    if (max > 0 && take_place(consumer)) open = fill(held, max);
  }
  queue_strays(consumer);
  settle_credit(consumer, open == 0);
  if (open == 0) give_back_place(consumer);
  const std::size_t size = consumer.batch().size();
  if (size > 0) consumer.batches.add();
  if (consumer.state() == Consumer::State::kSearching) {
    end_search(consumer);
  }
  // Rule D5: what it has left, and what it has taken and cannot begin at once. Its share was
  // reckoned by entries, some of which may have led nowhere.
  const bool left = !consumer.run_queue().empty() || !shared_.empty() || consumer.unread() > 0;
  if (left || consumer.batch().has_several_keys()) wake_if_idle();
  return size;
}

/// How many keys, of those any thread may take, this one takes, so that threads which wait get
/// some.
std::size_t Dispatcher::share(const Consumer& consumer, std::size_t max) const {
  const std::size_t ready = consumer.run_queue().size() + shared_.size() + consumer.unread();
  const std::size_t others = waiters_.helpers(consumer);
  return std::min(max, std::max<std::size_t>(1, (ready + others) / (1 + others)));
}

/// Packets for this thread alone and those any thread may take, as they were queued (rule D1); the
/// thread's own messages come last, because what it reaps is queued behind what it had posted
/// (`begin_reap`). The consumer has its place.
std::size_t Dispatcher::fill(const HeldConsumer& consumer, std::size_t max) {
  std::size_t got = 0;
  if (++consumer->takes % kTakesToLookAround == 0) got = relieve_oldest(consumer, max);
  std::size_t left = share(*consumer, max - got);
  while (got < max) {
    const Source source = next_source(*consumer, left);
    if (source == Source::kNone) break;
    const std::size_t taken = take_ready(consumer, source, max - got);
    got += taken;
    if (source != Source::kOwn && taken > 0) --left;
  }
  if (got < max && left > 0) {
    got += keys_.take_messages(consumer, consumer, std::min(left, max - got));
  }
  return got > 0 ? got : steal(consumer, max);
}

/// The one whose first packet has waited longest. Once the thread has its share of what any may
/// take, it leaves its own newer packets, too.
Dispatcher::Source Dispatcher::next_source(const Consumer& consumer, std::size_t left) const {
  Source open = consumer.run_queue().empty() ? Source::kNone : Source::kRun;
  std::int64_t oldest = consumer.run_queue().oldest();
  if (!shared_.empty() && (open == Source::kNone || shared_.oldest() < oldest)) {
    open = Source::kShared;
    oldest = shared_.oldest();
  }
  const bool own = !consumer.own_queue().empty();
  if (own && (open == Source::kNone || consumer.own_queue().oldest() <= oldest))
    return Source::kOwn;
  return left > 0 ? open : Source::kNone;
}

std::size_t Dispatcher::take_ready(const HeldConsumer& consumer, Source source, std::size_t room) {
  ReadyKey entry;
  if (source == Source::kShared) {
    if (!shared_.pop_front(entry)) return 0;
  } else {
    entry = (source == Source::kOwn ? consumer.own_queue() : consumer.run_queue()).pop_front();
  }
  return keys_.take(consumer, *entry.cell, room);
}

// ---- the limit --------------------------------------------------------------------------------

bool Dispatcher::take_place(Consumer& consumer) {
  const RunningThreads::Place place = running_.take_place(consumer);
  if (place == RunningThreads::Place::kLast) waiters_.no_place_is_free();
  return place != RunningThreads::Place::kNone;
}

void Dispatcher::give_back_place(Consumer& consumer) {
  if (running_.give_back_place(consumer)) wake_for_place();
}

void Dispatcher::begin_blocking(Consumer& consumer) {
  if (!consumer.has_place || consumer.blocking) return;
  consumer.blocking = true;
  std::vector<ReadyKey> back;
  {
    const HeldConsumer held(consumer);
    keys_.give_back_unclaimed(held, back);
    while (!held.run_queue().empty()) back.push_back(held.run_queue().pop_front());
  }
  shared_.push_front(back);
  queue_strays(consumer);
  settle_credit(consumer, true);
  give_back_place(consumer);
  wake_if_ready();
}

void Dispatcher::end_blocking(Consumer& consumer) {
  if (!consumer.blocking) return;
  consumer.blocking = false;
  running_.run_on(consumer);
}

// ---- ending a batch ---------------------------------------------------------------------------

void Dispatcher::release(Consumer& consumer) {
  if (consumer.batch().size() == 0) return;
  {
    const HeldConsumer held(consumer);
    consumer.clock.go_on();
    keys_.release_batch(held);
  }
  consumer.free_let_go();
  queue_strays(consumer);
}

bool Dispatcher::release_key(Consumer& consumer, std::uint32_t key) {
  // The batch it came in has not ended yet, perhaps; its end releases the key then.
  if (consumer.kept.erase(key) == 0) return consumer.batch().end_keep(key);
  {
    const HeldConsumer held(consumer);
    keys_.release_kept(held, key);
  }
  queue_strays(consumer);
  if (!consumer.run_queue().empty()) wake_if_idle();
  return true;
}

// ---- leaving ----------------------------------------------------------------------------------

void Dispatcher::remove(Consumer& consumer, bool died, std::vector<Packet>& orphans) {
  members_.remove(consumer);
  unpark(consumer);
  Keys::Left left;
  std::vector<ReadyKey> rest;  // what stood in its queues
  {
    const HeldConsumer held(consumer);
    queue_messages(held, consumer);  // what it had posted is delivered (rule T1)
    consumer.credit += static_cast<std::int32_t>(held.posts().end());
    left = keys_.leave(held, died, orphans);
    held.leave(rest, orphans);
  }
  consumer.free_let_go();
  settle_credit(consumer, true);
  shared_.push_front(rest);
  shared_.push_front(left.back);
  shared_.push_front(left.notices);
  room_.forget(consumer);
  consumer.blocking = false;
  give_back_place(consumer);
  end_search(consumer);
  members_.take_over_waits(consumer);
}

}  // namespace cp
