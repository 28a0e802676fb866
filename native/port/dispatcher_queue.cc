// How packets come into the queue, and how those of a handle are taken out again.
#include <algorithm>
#include <atomic>

#include "driver/driver.h"
#include "port/dispatcher.h"

namespace cp {

// ---- completions ------------------------------------------------------------------------------

bool Dispatcher::push(const Packet& arrived, Consumer* from, Tell tell) {
  Packet packet = arrived;
  packet.queued_at = from == nullptr ? driver::now() : from->clock.now();
  if (packet.awaited()) return push_awaited(packet, from);
  const Keys::Queued queued = keys_.queue(packet, from);
  if (queued.refused) return false;
  if (!queued.ready) return true;
  queue_ready(queued.entry, queued.target, from);
  if (queued.target == nullptr && from == nullptr && tell == Tell::kNow) wake_if_idle();
  return true;
}

/// A request holds the thread that awaits it.
bool Dispatcher::push_awaited(const Packet& packet, Consumer* from) {
  Consumer& target = *packet.target;
  if (!HeldConsumer(target).queue_awaited(packet)) return false;
  wake_owner(target, from);
  return true;
}

/// No lock of a consumer is held. Whom the entry was meant for may have left: then it is anybody's.
void Dispatcher::queue_ready(const ReadyKey& entry, Consumer* target, Consumer* from) {
  if (target != nullptr) {
    bool queued = false;
    {
      const HeldConsumer held(*target);
      queued = !target->gone();
      if (queued) held.own_queue().push_back(entry);
    }
    if (queued) return wake_owner(*target, from);
  }
  if (from != nullptr) return HeldConsumer(*from).run_queue().push_back(entry);
  shared_.push_back(entry);
  if (target != nullptr) wake_if_idle();
}

/// No lock of a consumer is held.
void Dispatcher::queue_ready_anew(const ReadyKey& entry) {
  Consumer* target = keys_.target(entry);
  queue_ready(entry, target, nullptr);
  if (target == nullptr) wake_if_idle();
}

/// What could not be queued while the consumer's lock was held, because it is for another one.
void Dispatcher::queue_strays(Consumer& consumer) {
  while (!consumer.strays.empty()) {
    std::vector<ReadyKey> strays;
    strays.swap(consumer.strays);
    for (const ReadyKey& entry : strays) queue_ready_anew(entry);
  }
}

// ---- messages ---------------------------------------------------------------------------------

bool Dispatcher::post(const Packet& packet, Consumer* from, bool bounded) {
  if (closed()) return false;
  if (!room_.take_one(bounded)) return false;
  if (push(packet, from)) return true;
  room_.give_back(1);
  return false;
}

void Dispatcher::begin_reap(Consumer& consumer) {
  consumer.clock.go_on();
  if (consumer.unread() == 0) return;
  queue_messages(HeldConsumer(consumer), consumer);
  queue_strays(consumer);
}

/// Out of its ring into its run queue, in order (rule D7). `caller` runs this.
void Dispatcher::queue_messages(const HeldConsumer& of, Consumer& caller) {
  while (const std::uint32_t count = of.posts().acceptable()) {
    of.posts().secure(count);
    for (std::uint32_t i = 0; i < count; ++i) {
      const bool queued = !closed() && queue_message(of.posts().packet(i), of, caller);
      if (!queued) of.posts().drop(i);
    }
    of.posts().advance(count);
  }
}

/// False when nothing is queued any more.
bool Dispatcher::queue_message(Packet packet, const HeldConsumer& of, Consumer& caller) {
  packet.queued_at = caller.clock.now();
  const Keys::Queued queued = keys_.queue(packet, &*of);
  if (queued.refused) return false;
  if (!queued.ready) return true;
  const bool for_any = queued.target == nullptr;
  for_any ? of.run_queue().push_back(queued.entry) : caller.strays.push_back(queued.entry);
  return true;
}

bool Dispatcher::publish(Packet packet, const std::uint32_t* keys, std::uint32_t count,
                         Consumer* from) {
  if (closed() || !room_.take(count)) return false;
  std::uint32_t queued = 0;
  if (from != nullptr) {
    queued = queue_all(packet, keys, count, *from);
  } else {
    for (std::uint32_t i = 0; i < count; ++i) {
      packet.key = keys[i];
      queued += push(packet, nullptr, Tell::kLater) ? 1 : 0;
    }
  }
  const std::uint32_t refused = count - queued;  // by a port that has ended meanwhile
  if (refused > 0) {
    room_.give_back(refused);
    if (packet.shares()) BufferPool::let_go({packet.chunk, packet.offset}, refused);
  }
  wake_if_idle();
  return true;
}

/// Behind what the thread has posted, which is older (rule D7). How many.
std::uint32_t Dispatcher::queue_all(Packet packet, const std::uint32_t* keys, std::uint32_t count,
                                    Consumer& from) {
  std::uint32_t queued = 0;
  {
    const HeldConsumer held(from);
    from.clock.go_on();
    queue_messages(held, from);
    for (std::uint32_t i = 0; i < count; ++i) {
      packet.key = keys[i];
      queued += queue_message(packet, held, from) ? 1 : 0;
    }
  }
  queue_strays(from);
  return queued;
}

void Dispatcher::secure_posts(Consumer& consumer) {
  const HeldConsumer held(consumer);
  held.posts().secure(held.posts().acceptable());
}

std::uint32_t Dispatcher::reserve(Consumer& consumer, std::uint32_t wanted) {
  if (closed()) return 0;
  std::uint32_t granted = 0;
  wanted = std::min(wanted, Room::kAtOnce);
  {
    const HeldConsumer held(consumer);
    // Both lie in the ring, or will: what was written, and what is still to be written into it.
    if (held.posts().places() < wanted) queue_messages(held, consumer);
    granted = room_.set_aside(std::min(wanted, held.posts().places()), consumer.credit);
    held.posts().add_room(granted);
  }
  queue_strays(consumer);
  return granted;
}

void Dispatcher::give_back_room(Consumer& consumer, bool all) {
  consumer.credit += static_cast<std::int32_t>(HeldConsumer(consumer).posts().take_unused_room());
  settle_credit(consumer, all);
}

void Dispatcher::settle_credit(Consumer& consumer, bool all) {
  if (!room_.settle(consumer.credit, all)) return;
  for (const Packet& request : room_.answered()) push_awaited(request, nullptr);
}

void Dispatcher::notify_when_drained(const Packet& packet) {
  if (room_.ask(packet)) push_awaited(packet, nullptr);
}

// ---- hand-off, the end ------------------------------------------------------------------------

void Dispatcher::extract_handle(HandleId handle, std::uint32_t key, std::vector<Packet>& out) {
  const ReadyKey left = keys_.extract(handle, key, members_, out);
  if (left.cell != nullptr) queue_ready_anew(left);
}

void Dispatcher::close() {
  closed_.store(true);
  members_.for_each([](Consumer& consumer) { consumer.wake(); });
}

std::size_t Dispatcher::ready() {
  std::size_t sum = keys_.ready();
  members_.for_each([&](const Consumer& consumer) { sum += consumer.unread(); });
  return sum;
}

std::size_t Dispatcher::queued() const {
  std::size_t sum = keys_.queued();
  members_.for_each([&](Consumer& consumer) { sum += HeldConsumer(consumer).posts().accepted(); });
  return sum;
}

}  // namespace cp
