#include "port/shared_queue.h"

#include <algorithm>
#include <unordered_map>

#include "system/relax.h"

namespace cp {
namespace {

/// How often a thread looks for the lock before it sleeps for it: some microseconds.
constexpr int kLooks = 60;

/// Who puts and who takes meet at the lock all the time, and it is held for less time than it takes
/// to put a thread to sleep and wake it.
std::unique_lock<system::Mutex> hold(system::Mutex& mutex) {
  std::unique_lock<system::Mutex> lock(mutex, std::try_to_lock);
  for (int looks = 0; !lock && looks < kLooks; ++looks) {
    relax();
    (void)lock.try_lock();
  }
  if (!lock) lock.lock();
  return lock;
}

/// Those that somebody has, by number; a number is not used again.
struct Registry {
  system::Mutex mutex;
  std::unordered_map<std::uint32_t, std::weak_ptr<SharedQueue>> queues;
  std::uint32_t last = 0;
  std::atomic<std::size_t> count{0};
};

/// Leaked on purpose: environments may end after the process's static objects.
Registry& registry() {
  static Registry* const all = new Registry;
  return *all;
}

}  // namespace

std::shared_ptr<SharedQueue> SharedQueue::make(std::uint32_t capacity) {
  Registry& all = registry();
  std::lock_guard lock(all.mutex);
  const std::shared_ptr<SharedQueue> made(new SharedQueue(++all.last, capacity));
  all.queues.emplace(made->id_, made);
  all.count.fetch_add(1);
  return made;
}

std::shared_ptr<SharedQueue> SharedQueue::find(std::uint32_t id) {
  Registry& all = registry();
  std::lock_guard lock(all.mutex);
  const auto found = all.queues.find(id);
  return found == all.queues.end() ? nullptr : found->second.lock();
}

std::size_t SharedQueue::count() { return registry().count.load(); }

SharedQueue::~SharedQueue() {
  for (const auto& [number, item] : items_) free({item});
  Registry& all = registry();
  std::lock_guard lock(all.mutex);
  all.queues.erase(id_);
  all.count.fetch_sub(1);
}

QueueOutcome SharedQueue::put(QueueUser& user, std::uint32_t ticket, const SharedItem& item,
                              bool waits) {
  const auto lock = hold(mutex_);
  if (closed_) return ended();
  if (size_ == capacity_ && !waits) return QueueOutcome::kNotNow;
  const bool room = size_ < capacity_;
  if (room) {
    items_.emplace_back(next_++, item);
    ++size_;
  } else {
    add(puts_, user, ticket, false, Numbered{next_++, item});
  }
  settle();
  return room ? QueueOutcome::kDone : QueueOutcome::kWaits;
}

QueueOutcome SharedQueue::take(QueueUser& user, std::uint32_t ticket, bool waits, SharedItem& out) {
  const auto lock = hold(mutex_);
  if (!items_.empty()) {
    out = items_.front().second;
    items_.pop_front();
    --size_;
    settle();
    return QueueOutcome::kDone;
  }
  if (closed_ && empty()) return ended();
  if (!waits) return QueueOutcome::kNotNow;
  add(takes_, user, ticket, true, std::nullopt);
  return QueueOutcome::kWaits;
}

QueueOutcome SharedQueue::hear(QueueUser& user, std::uint32_t ticket, SharedItem& out) {
  const auto lock = hold(mutex_);
  const auto found = waiters_.find({&user, ticket});
  if (found == waiters_.end()) return QueueOutcome::kGone;
  const Line::iterator waiter = found->second;
  if (waiter->state != State::kTold) return QueueOutcome::kWaits;
  const bool takes = waiter->takes;
  const std::optional<Numbered> item = waiter->item;
  waiters_.erase(found);
  told_.erase(waiter);
  if (takes && item) {
    out = item->second;
    --size_;
    settle();
    return QueueOutcome::kDone;
  }
  // A put that was told is in the queue, unless that has failed.
  return takes || failed_ ? ended() : QueueOutcome::kDone;
}

QueueOutcome SharedQueue::leave(QueueUser& user, std::uint32_t ticket) {
  Freed freed;
  bool put = false;
  {
    const auto lock = hold(mutex_);
    const auto found = waiters_.find({&user, ticket});
    if (found == waiters_.end()) return QueueOutcome::kGone;
    const Line::iterator waiter = found->second;
    waiters_.erase(found);
    put = remove(waiter, freed);
    settle();
  }
  free(freed);
  return put ? QueueOutcome::kDone : QueueOutcome::kGone;
}

void SharedQueue::leave(QueueUser& user) {
  Freed freed;
  {
    const auto lock = hold(mutex_);
    const auto first = waiters_.lower_bound({&user, 0});
    auto last = first;
    for (; last != waiters_.end() && last->first.first == &user; ++last) {
      remove(last->second, freed);
    }
    waiters_.erase(first, last);
    settle();
  }
  free(freed);
}

void SharedQueue::close() {
  const auto lock = hold(mutex_);
  closed_ = true;
  settle();
}

void SharedQueue::fail(std::string why) {
  Freed freed;
  {
    const auto lock = hold(mutex_);
    if (closed_) return;
    closed_ = failed_ = true;
    failure_ = std::move(why);
    for (const auto& [number, item] : items_) freed.push_back(item);
    items_.clear();
    size_ = 0;
    for (Line* const line : {&puts_, &told_}) {
      for (Waiter& waiter : *line) {
        if (waiter.item) freed.push_back(waiter.item->second);
        waiter.item.reset();
      }
    }
    while (!puts_.empty()) tell(puts_, std::nullopt);
    settle();
  }
  free(freed);
}

std::string SharedQueue::failure() const {
  const auto lock = hold(mutex_);
  return failure_;
}

void SharedQueue::add(Line& line, QueueUser& user, std::uint32_t ticket, bool takes,
                      std::optional<Numbered> item) {
  const State state = takes ? State::kTakes : State::kPuts;
  waiters_[{&user, ticket}] = line.insert(line.end(), {&user, ticket, takes, state, item});
}

/// The first of `line` has what it waits for; `item`, of a take. False: its thread can't be told,
/// and it waits no more.
bool SharedQueue::tell(Line& line, std::optional<Numbered> item) {
  const Line::iterator first = line.begin();
  if (!first->user->tell(first->ticket)) {
    waiters_.erase({first->user, first->ticket});
    line.erase(first);
    return false;
  }
  first->state = State::kTold;
  first->item = item;
  told_.splice(told_.end(), line, first);
  return true;
}

/// Whoever waits and need not is told; once more where that made room.
void SharedQueue::settle() {
  while (!puts_.empty() && size_ < capacity_) {
    put_back(*puts_.front().item);
    ++size_;
    tell(puts_, std::nullopt);
  }
  while (!items_.empty() && !takes_.empty()) {
    const Numbered item = items_.front();
    if (tell(takes_, item)) items_.pop_front();
  }
  while (closed_ && empty() && !takes_.empty()) tell(takes_, std::nullopt);
  show();
}

/// To where it was among the others: those that overtook it are few, and at the front.
void SharedQueue::put_back(Numbered item) {
  if (items_.empty() || items_.back().first < item.first) {
    items_.push_back(item);
    return;
  }
  const auto behind = std::find_if(items_.begin(), items_.end(),
                                   [&](const Numbered& one) { return one.first > item.first; });
  items_.insert(behind, item);
}

/// Whether it was a put that is in the queue.
bool SharedQueue::remove(Line::iterator waiter, Freed& freed) {
  const bool told = waiter->state == State::kTold;
  const bool accepted = told && !waiter->takes && !failed_;
  if (waiter->item) {
    if (waiter->takes)
      put_back(*waiter->item);
    else
      freed.push_back(waiter->item->second);
  }
  Line& line = told ? told_ : waiter->takes ? takes_ : puts_;
  line.erase(waiter);
  return accepted;
}

void SharedQueue::show() {
  shown_->size.store(static_cast<std::uint32_t>(size_), std::memory_order_relaxed);
  shown_->closed.store(closed_ ? 1 : 0, std::memory_order_relaxed);
}

/// Without the lock: a pool has some of its own, and may wake threads that starve for memory.
void SharedQueue::free(const Freed& freed) {
  for (const SharedItem& item : freed) {
    if (item.place.chunk != driver::kNoChunk) BufferPool::unuse(item.place);
  }
}

}  // namespace cp
