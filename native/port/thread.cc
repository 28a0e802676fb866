#include "port/thread.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "driver/errno.h"
#include "system/switch_point.h"

namespace cp {

namespace {
constexpr std::size_t kReapLimit = 256;
/// Rounds of reaping before packets are given out: a stream of completions must not keep them back.
constexpr int kReapRounds = 4;

std::uint32_t next_number() {
  static std::atomic<std::uint32_t> next{1};
  return next.fetch_add(1);
}
}  // namespace

Thread::Thread(Port& port) : port_(port) {}

Thread::~Thread() = default;

/// Others may look at it meanwhile, as at one that has gone. An errand that comes late finds a
/// thread in its program, whose lane it may look after as well as any other's.
void Thread::begin(PacketSlot* packet_slots, PostRing* post_ring,
                   std::unique_ptr<driver::Lane> lane) {
  std::lock_guard held(lane_lock_);
  number_ = next_number();
  detaching_ = false;
  spin_history_ = {};
  timers_.clear();
  reaped_.resize(kReapLimit);
  errand_.store(nullptr);
  parked_.store(false);
  blocking_.store(0);
  heard_.store(false);
  vain_.store(0);
  {
    std::lock_guard lock(inbox_mutex_);
    lane_ = std::move(lane);
  }
  turn.store(1);
  HeldConsumer(*this).arrive(packet_slots, post_ring, number_);
}

void Thread::wake() {
  if (end_spin()) return;
  std::lock_guard lock(inbox_mutex_);
  if (lane_) lane_->wake();
}

std::uint64_t Thread::system_calls() {
  std::lock_guard lock(inbox_mutex_);
  return lane_ ? lane_->system_calls() : 0;
}

// ---- descriptors that go along with bytes -----------------------------------------------------

std::uint32_t Thread::keep(std::unique_ptr<Parcel> parcel, bool promised) {
  parcel->promised = promised;
  std::lock_guard lock(parcels_mutex_);
  parcels_[++last_parcel_] = std::move(parcel);
  return last_parcel_;
}

std::unique_ptr<Parcel> Thread::take_parcel(std::uint32_t number) {
  std::lock_guard lock(parcels_mutex_);
  const auto found = parcels_.find(number);
  if (found == parcels_.end()) return nullptr;
  std::unique_ptr<Parcel> parcel = std::move(found->second);
  parcels_.erase(found);
  return parcel;
}

std::unique_ptr<Parcel> Thread::take_received(std::uint32_t token) {
  std::lock_guard lock(parcels_mutex_);
  const auto found = received_.find(token);
  if (found == received_.end()) return nullptr;
  std::unique_ptr<Parcel> parcel = std::move(found->second);
  received_.erase(found);
  return parcel;
}

/// Before the packet is queued which tells of it. What comes for a thread that has gone is closed
/// with its request; one that is about to go finds it, since it is gone before it looks.
void Thread::hand_over(Request& request) {
  Thread* owner = request.owner;
  if (owner == nullptr || !request.awaited) return;
  std::lock_guard lock(owner->parcels_mutex_);
  if (owner->gone()) return;
  owner->received_[request.token] = std::move(request.details->parcel);
}

// ---- messages ---------------------------------------------------------------------------------

/// False when the thread has left: nobody reads it.
bool Thread::send(const Message& message, bool wakes) {
  std::lock_guard lock(inbox_mutex_);
  if (!lane_) return false;
  inbox_.push_back(message);
  has_mail_.store(true);  // before the wake-up, in the one order that wake and reap agree on
  if (wakes && message.kind != Message::Kind::kForgetTimer && !end_spin()) {
    if (!CP_PLANTED("a message that wakes nobody")) lane_->wake();
  }
  return true;
}

/// A generation that still matches together with `runner` being this thread means that only this
/// thread can end the request, so it may be looked at without the handle's mutex.
void Thread::read_inbox() {
  std::vector<Message> messages;
  {
    std::lock_guard lock(inbox_mutex_);
    messages.swap(inbox_);
    has_mail_.store(false, std::memory_order_relaxed);
  }
  for (const Message& message : messages) {
    if (message.kind == Message::Kind::kEndIdle) {
      idle_.push_back(message.handle);
      continue;
    }
    Request* request = message.request;
    if (message.kind == Message::Kind::kForgetTimer) {
      TimerNode* node = message.timer;
      const bool same = node->request == request && node->generation == message.generation;
      if (same) timers_.remove(node);
      continue;
    }
    if (request->generation != message.generation) continue;
    if (request->runner != this) continue;
    if (message.kind == Message::Kind::kStart) {
      start_sent(request);
    } else if (message.kind == Message::Kind::kPause) {
      pause(request);
    } else {
      end_started(request);
    }
  }
}

// ---- taking -----------------------------------------------------------------------------------

/// Everything but the dispatcher's part: what others ask, what has expired, what has completed.
void Thread::pump() {
  assert(carrier_ == this || !detaching_);
  if (has_mail_.load(std::memory_order_acquire)) read_inbox();
  fire_timers();
  if (!paused_.empty()) retry_paused();
  reap();
  if (!idle_.empty()) end_idle_handles();
  if (!starved_.empty()) retry_starved();
  lane_->flush();  // the thread may be away for long
}

/// What this thread does each time it comes, and before it waits: its own part, and then that of a
/// thread that does not come to it.
void Thread::work() {
  {
    std::lock_guard lock(lane_lock_);
    pump();
  }
  Thread* busy = errand_.exchange(nullptr, std::memory_order_acquire);
  if (busy == nullptr) return;
  errand(*busy);
  std::lock_guard lock(lane_lock_);
  if (has_mail_.load(std::memory_order_acquire)) pump();  // what the errand has brought to begin
}

bool Thread::sleep_on_notifier() {
  std::lock_guard lock(lane_lock_);
  return !has_mail_.load() && lane_->sleep_on_notifier(next_deadline());
}

void Thread::clear_notifier() {
  std::lock_guard lock(lane_lock_);
  lane_->clear_notifier();
}

void Thread::reap() {
  for (int round = 0; round < kReapRounds; ++round) {
    const std::size_t count = lane_->reap(reaped_);
    settle_all(reaped_.data(), count);
    while (!synthetic_.empty()) {
      std::vector<driver::Completion> synthetic;
      synthetic.swap(synthetic_);
      settle_all(synthetic.data(), synthetic.size());
    }
    // What followed from these completions is given to the kernel now, not after the next batch.
    if (count < kReapLimit && to_start_.empty() && again_.empty()) break;
    // More would lie behind what there is to do for now, and others' packets behind it.
    if (carrier_->run_queue().size() >= kBatchLimit) break;
    after_settling();
  }
  after_settling();
}

driver::Deadline Thread::next_deadline() const {
  const driver::Deadline timer = timers_.empty() ? driver::kNever : timers_.top()->deadline;
  return std::min(timer, retry_paused_at_);
}

std::int64_t Thread::poll(std::size_t max) {
  if (!attached()) return kErrorPortClosed;
  const Inside inside(*this);
  Dispatcher& dispatcher = port_.dispatcher();
  work();
  dispatcher.give_back_room(*this);
  dispatcher.release(*this);
  for (;;) {
    dispatcher.unpark(*this);
    if (dispatcher.closed()) return kErrorPortClosed;
    const std::size_t count = dispatcher.take(*this, max);
    if (count > 0) return static_cast<std::int64_t>(count);
    if (dispatcher.park(*this, true, max > 0) && sleep_on_notifier()) {
      parked_.store(true);
      if (watched_.load()) be_heard();
      return 0;
    }
    work();
  }
}

/// Looks for packets before the thread sleeps. Any news ends it: a message for any thread (`told`),
/// a wake-up, what the lane can see without a system call. True when there was a wake-up, which may
/// stand for anything `pump` looks after.
bool Thread::spin_until(driver::Deadline end) {
  constexpr int kLooksPerClock = 16;
  Dispatcher& dispatcher = port_.dispatcher();
  bool over = false;
  while (!over && driver::now() < end) {
    for (int i = 0; i < kLooksPerClock && !over; ++i) {
      relax();
      over = dispatcher.told() || spin.load() != kSpinGoesOn || lane_->has_news();
    }
  }
  return spin.exchange(kSpinNot) == kSpinEnded;
}

std::int64_t Thread::get(std::size_t max, driver::Deadline deadline, bool (*interrupted)(void*),
                         void* context) {
  if (!attached()) return kErrorPortClosed;
  const Inside inside(*this);
  Dispatcher& dispatcher = port_.dispatcher();
  work();
  dispatcher.unpark(*this);
  dispatcher.give_back_room(*this);
  dispatcher.release(*this);
  const driver::Deadline began = driver::now();
  const driver::Deadline spin_end =
      std::min(deadline, began + std::int64_t{1000} * port_.options().spin);
  driver::Deadline check = began + kCheckInterval;
  enum { kNotYet, kNow, kOver } spinning = kNotYet;
  bool woken = false;
  for (;;) {
    if (spinning == kNow) dispatcher.stop_spinning(*this);
    if (dispatcher.worth_taking(*this)) {
      dispatcher.unpark(*this);
      if (dispatcher.closed()) return kErrorPortClosed;
      const std::size_t count = dispatcher.take(*this, max);
      if (spinning == kNow) spin_history_.tell(count > 0);
      if (count > 0) return static_cast<std::int64_t>(count);
      const bool spins = spinning == kNotYet && spin_end > began && spin_history_.worth_it();
      spinning = spins ? kNow : kOver;
      if (!dispatcher.park(*this, false, max > 0, spins)) {
        spin.store(kSpinNot);
        spinning = kOver;
        woken = true;
      }
    } else if (spinning == kNow) {
      spin_history_.tell(false);
      spinning = kOver;
    }
    if (spinning == kNow) {
      woken = spin_until(std::min(spin_end, next_deadline()));
      continue;  // to the dispatcher once more: from there on this thread has to be woken
    }
    const driver::Deadline now = driver::now();
    const bool asked_to_stop = now >= check && interrupted != nullptr && interrupted(context);
    if (now >= deadline || asked_to_stop) break;
    if (now >= check) check = now + kCheckInterval;
    const driver::Deadline slice = interrupted != nullptr ? check : driver::kNever;
    // The last reap may have taken the wake-up of a message that came after the inbox was read.
    const bool stay = woken || has_mail_.load();
    if (!stay) lane_->wait(std::min({deadline, slice, next_deadline()}));
    woken = false;
    work();
  }
  dispatcher.leave_waiting(*this);
  return 0;
}

std::uint32_t Thread::reserve(std::uint32_t wanted) {
  return port_.dispatcher().reserve(*this, wanted);
}

void Thread::accept_posts() { port_.dispatcher().accept_posts(); }

Packet Thread::notice(std::uint32_t token) {
  Packet packet;
  packet.kind = PacketKind::kRoom;
  packet.flags = kPacketAwaited;
  packet.token = token;
  packet.target = this;
  packet.tag = number_;
  return packet;
}

void Thread::notify_when_drained(std::uint32_t token) {
  port_.dispatcher().notify_when_drained(notice(token));
}

void Thread::notify_when_refused(std::uint32_t token, std::uint64_t known) {
  port_.notify_when_refused(notice(token), known);
}

/// Nested ones are one to the port.
void Thread::begin_blocking() {
  if (blocking_.fetch_add(1) > 0) return;
  if (watched_.load(std::memory_order_relaxed)) Watchman::instance().notice();
  port_.dispatcher().begin_blocking(*this);
}

void Thread::end_blocking() {
  if (blocking_.fetch_sub(1) > 1) return;
  port_.dispatcher().end_blocking(*this);
}

bool Thread::release_key(std::uint32_t key) { return port_.dispatcher().release_key(*this, key); }

void Thread::pin_key(std::uint32_t key, HandleId handle, bool pinned) {
  if (pinned) {
    port_.dispatcher().pin(*this, key, handle);
  } else {
    port_.dispatcher().unpin(*this, key);
  }
}

// ---- errands ----------------------------------------------------------------------------------

Thread::Inside::Inside(Thread& thread) : thread_(thread) {
  thread.parked_.store(false, std::memory_order_relaxed);
  const std::uint64_t turn = thread.turn.load(std::memory_order_relaxed);
  thread.turn.store(turn + 1, std::memory_order_release);
}

/// Sequentially consistent where somebody watches: either the watchman, before it sleeps, sees that
/// this thread has gone, or this thread sees that it sleeps (Watchman::main).
Thread::Inside::~Inside() {
  const std::uint64_t turn = thread_.turn.load(std::memory_order_relaxed) + 1;
  if (!thread_.watched_.load(std::memory_order_relaxed)) {
    thread_.turn.store(turn, std::memory_order_release);
    return;
  }
  thread_.turn.store(turn);
  if (!thread_.parked()) Watchman::instance().notice();
}

void Thread::be_watched() {
  watched_.store(true);
  if (parked_.load()) be_heard();
}

/// By the thread itself when it goes to its event loop, or by the one that comes to its port
/// second: each of them stores first and then looks what the other has stored.
void Thread::be_heard() {
  if (heard_.exchange(true)) return;
  std::lock_guard lock(inbox_mutex_);
  if (lane_ && lane_->notifier() >= 0) Watchman::instance().hear(lane_->notifier());
}

/// Asked with the lock and while `turn` is odd, as in `errand`: a thread that waits uses its lane
/// without the lock.
bool Thread::needs_errand(driver::Deadline now) {
  const std::unique_lock lock(lane_lock_, std::try_to_lock);
  if (!lock || !lane_ || turn.load(std::memory_order_acquire) % 2 == 0) return false;
  return has_mail_.load(std::memory_order_acquire) || !synthetic_.empty() ||
         next_deadline() <= now || (outbox_ != nullptr && outbox_->pending()) || lane_->pending();
}

/// In `busy`'s place, which is in its program: begins what it has submitted, reads its messages,
/// fires its timers, takes what has completed in its lane. An owner that comes back meanwhile waits
/// for the lock. One in its event loop is told to look for itself when it gets round to it, because
/// its deadlines may be others now and the notifier's edges are used up.
void Thread::errand(Thread& busy) {
  const std::unique_lock lock(busy.lane_lock_, std::try_to_lock);
  if (!lock || !busy.lane_ || busy.turn.load(std::memory_order_acquire) % 2 == 0) return;
  busy.carrier_ = this;
  busy.fruitful_ = false;
  busy.lane_->begin_errand();
  if (busy.outbox_ != nullptr) busy.outbox_->submit();
  busy.pump();
  busy.lane_->end_errand();
  busy.carrier_ = &busy;
  if (busy.parked()) busy.lane_->wake();
  busy.vain_.store(busy.fruitful_ ? 0 : busy.vain_.load(std::memory_order_relaxed) + 1,
                   std::memory_order_relaxed);
  busy.errands_.fetch_add(1, std::memory_order_release);
}

// ---- leaving ----------------------------------------------------------------------------------

/// Null while there are messages to be read; afterwards nobody can send one.
std::unique_ptr<driver::Lane> Thread::give_up_lane() {
  std::lock_guard lock(inbox_mutex_);
  if (!inbox_.empty()) return nullptr;
  return std::move(lane_);
}

bool Thread::next_copy_block(bool pending, bool beyond, Place& out) {
  BufferPool& pool = port_.pool();
  const bool first = copies_.chunk == driver::kNoChunk;
  if (first || pending || BufferPool::in_use(copies_)) {
    Place next;
    if (!allocate(kCopyBlock, next, beyond)) return false;
    pool.uncount(next);
    if (!first) pool.count(copies_);
    copies_ = next;
  }
  out = copies_;
  return true;
}

/// What the ring's messages have of the block before they hold themselves before this thread lets
/// go of it. Nobody but this thread writes into a block that it alone holds, or makes a hold of it.
bool Thread::next_message_block(Place& out) {
  BufferPool& pool = port_.pool();
  port_.dispatcher().secure_posts(*this);
  const bool first = messages_.chunk == driver::kNoChunk;
  if (first || !BufferPool::held_once(messages_)) {
    Place next;
    if (!allocate(kMessageBlock, next) || !BufferPool::share(next, number_)) return false;
    pool.uncount(next);
    if (!first) let_message_block_go();
    messages_ = next;
  }
  std::memset(address_of(messages_), 0, kMessageBlock);
  out = messages_;
  return true;
}

void Thread::let_message_block_go() {
  if (messages_.chunk == driver::kNoChunk) return;
  port_.pool().count(messages_);
  BufferPool::let_go(std::exchange(messages_, Place()));
}

/// One hold more than messages meanwhile: what was queued may be taken, and let go of, at once.
bool Thread::publish(const Packet& message, bool own_block, const std::uint32_t* keys,
                     std::uint32_t count, Port* target) {
  const Place place{message.chunk, message.offset};
  const bool shares = message.shares();
  if (own_block && !BufferPool::share(place, number_)) return false;
  const bool held = !shares || BufferPool::hold(place, static_cast<std::uint64_t>(message.result),
                                                own_block ? count : count + 1);
  if (!held) return false;
  Dispatcher& here = port_.dispatcher();
  here.give_back_room(*this, true);
  Consumer* from = target == &port_ ? this : nullptr;
  const bool published =
      target != nullptr && target->dispatcher().publish(message, keys, count, from);
  if (shares) BufferPool::let_go(place, published ? 1 : count + 1);
  return published;
}

bool Thread::retain(Place place) {
  if (!BufferPool::hold(place, 1)) return false;
  retain_held(place);
  return true;
}

void Thread::retain_held(Place place) {
  std::lock_guard lock(retained_mutex_);
  retained_.push_back(place);
}

bool Thread::let_go(Place place) {
  {
    std::lock_guard lock(retained_mutex_);
    const auto found = std::find_if(retained_.begin(), retained_.end(), [&](const Place& one) {
      return one.chunk == place.chunk && one.offset == place.offset;
    });
    if (found == retained_.end()) return false;
    *found = retained_.back();
    retained_.pop_back();
  }
  BufferPool::let_go(place);
  return true;
}

void Thread::let_all_go() {
  std::vector<Place> retained;
  {
    std::lock_guard lock(retained_mutex_);
    retained.swap(retained_);
  }
  for (const Place& place : retained) BufferPool::let_go(place);
  let_message_block_go();
}

void Thread::detach(bool died) {
  if (!attached()) return;
  if (std::exchange(announces_close_, false)) port_.take_back_close();
  turn.store(turn.load(std::memory_order_relaxed) + 1);
  std::unique_lock lock(lane_lock_);  // so that no thread comes on an errand any more
  detaching_ = true;
  std::vector<Packet> orphans;
  port_.dispatcher().remove(*this, died, orphans);
  Port::dispose(orphans, port_.driver());
  close_own_handles();
  // Reaped before anything is freed: the kernel must not write into memory that is no longer ours,
  // and a buffered read whose thread has gone may end in EFAULT.
  std::unique_ptr<driver::Lane> lane;
  for (;;) {
    pump();
    if (running_.empty() && synthetic_.empty()) lane = give_up_lane();
    if (lane) break;
    // Right before it waits: a message that was under way may have brought an operation, which
    // could last for ever if nobody asked it to end.
    cancel_everything();
    if (!has_mail_.load() && synthetic_.empty()) lane_->wait(next_deadline());
  }
  const std::uint64_t calls = lane->system_calls();
  lane.reset();
  port_.remove_starving(*this);
  if (copies_.chunk != driver::kNoChunk) port_.pool().count(std::exchange(copies_, Place()));
  let_all_go();
  BufferPool::release_all_of(number_);
  port_.pool().remove_lane();
  // The object itself stays for those who still point at it.
  HeldConsumer(*this).leave_arrays();
  // Without a lock: to close what is in them may wait for a disk.
  std::unordered_map<std::uint32_t, std::unique_ptr<Parcel>> parcels, received;
  {
    std::lock_guard parcels_lock(parcels_mutex_);
    parcels.swap(parcels_);
    received.swap(received_);
  }
  for (auto& [number, parcel] : parcels) {
    if (parcel->promised && !died) parcel->passed.numbers.clear();
  }
  reaped_ = {};
  by_token_ = {};
  port_.detached(calls);
  return_spare_requests();
  HandleTable::instance().return_spares();
  const std::int64_t owned = std::exchange(owned_, 0);
  lock.unlock();
  parcels.clear();
  received.clear();
  if (disowned_.fetch_sub(owned) == owned) retire();
}

/// Requests point at the thread that has submitted them, also when they go on without it. They are
/// counted where that costs nothing: in plain numbers of the lane they begin and, mostly, end in.
/// The lane of `this` is held.
void Thread::own(Request* request) {
  if (request->owner != this) ++owned_;
  request->owner = this;
}

/// A request is over, and the lane of `this` held.
void Thread::end_life(Request* request) {
  if (request->owner != this) return end_life_elsewhere(request);
  recycle(request);
  --owned_;
}

void Thread::end_life_elsewhere(Request* request) {
  Thread* owner = request->owner;
  recycle(request);
  if (owner != nullptr) owner->disowned();
}

/// While the thread is there this only counts up. Whoever takes the count to 0 is the last one.
void Thread::disowned() {
  if (disowned_.fetch_add(1) + 1 == 0) retire();
}

/// Nobody outside of the port points at it any more.
void Thread::retire() {
  Port& port = port_;
  retired_.store(true);
  port.let_go();
}

}  // namespace cp
