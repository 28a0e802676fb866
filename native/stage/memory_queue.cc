#include "stage/memory_queue.h"

#include <algorithm>
#include <tuple>

#include "stage/admission.h"

namespace cp::stage {

bool MemoryQueue::admits(std::uint64_t size, bool small) const {
  if (large_.load() == 0) return true;
  return small && small_.load() + port_.pool().block_bytes(size) <= port_.pool().small_share();
}

/// Some may have come since it asked. Who waits is counted before this looks at what is given out,
/// and memory is given back before `memory_returned` looks at the count: one of both sees the
/// other, since what is given out is read and written by read-modify-writes of one word.
void MemoryQueue::wait(std::uint32_t key, std::uint64_t size, bool small, bool told, bool refused) {
  std::unique_lock lock(mutex_);
  waiters_.insert(told ? waiters_.begin() : waiters_.end(), {key, size, small, refused});
  count_.store(waiters_.size());
  if (!small) large_.fetch_add(1);
  set_waits(key, true);
  port_.pool().allocated_in_order();
  const std::optional<Message> message = look();
  lock.unlock();
  tell(message);
}

/// Those behind it may have waited for it alone.
void MemoryQueue::leave(std::uint32_t key) {
  std::unique_lock lock(mutex_);
  const auto of_key = [key](const Waiter& waiter) { return waiter.key == key; };
  const auto waiter = std::find_if(waiters_.begin(), waiters_.end(), of_key);
  if (waiter == waiters_.end()) return;
  take_out(waiter);
  const std::optional<Message> message = look();
  lock.unlock();
  tell(message);
}

void MemoryQueue::grows(std::uint32_t key, std::uint64_t room) {
  std::lock_guard lock(mutex_);
  const auto [document, added] = documents_.try_emplace(key, Document{0, begun_, false});
  if (added) ++begun_;
  held_ -= document->second.held;
  document->second.held = port_.pool().block_bytes(room);
  held_ += document->second.held;
}

void MemoryQueue::settles(std::uint32_t key) {
  std::lock_guard lock(mutex_);
  const auto document = documents_.find(key);
  if (document == documents_.end()) return;
  held_ -= document->second.held;
  documents_.erase(document);
}

/// See `wait`.
void MemoryQueue::memory_returned() {
  if (count_.load() == 0) return;
  std::unique_lock lock(mutex_);
  for (Waiter& waiter : waiters_) waiter.refused = false;
  const std::optional<Message> message = look();
  lock.unlock();
  tell(message);
}

void MemoryQueue::notice_done() {
  std::unique_lock lock(mutex_);
  --told_;
  if (waiters_.empty()) return;
  const std::optional<Message> message = look();
  lock.unlock();
  tell(message);
}

/// Whom there is something for: another may be faster, then it comes back to wait. Not one that the
/// system has refused what the limit allows, since memory came: it would be told again and again.
/// Nor a large one behind another that does not fit yet.
std::deque<MemoryQueue::Waiter>::iterator MemoryQueue::fitting(std::uint64_t allocated) {
  bool large_waits = false;
  const auto fits = [&](const Waiter& waiter) {
    if (waiter.small ? !admits(waiter.size, true) : large_waits) return false;
    const bool within = port_.pool().within_limit(waiter.size, allocated);
    large_waits = large_waits || (!waiter.small && !within);
    return within && !waiter.refused;
  };
  return std::find_if(waiters_.begin(), waiters_.end(), fits);
}

/// What is given out is read once: some that comes back in between would be neither for one that
/// waits nor on its way.
std::optional<MemoryQueue::Message> MemoryQueue::look() {
  const std::uint64_t allocated = port_.pool().allocated_bytes();
  if (const auto first = fitting(allocated); first != waiters_.end()) {
    const Message message{first->key, Notice::kMemory};
    take_out(first);
    ++told_;
    return message;
  }
  if (told_ > 0 || !nothing_comes(allocated)) return std::nullopt;
  ++told_;
  return Message{least(), Notice::kGiveUp};
}

bool MemoryQueue::must_give_up() {
  std::lock_guard lock(mutex_);
  const std::uint64_t allocated = port_.pool().allocated_bytes();
  const bool others_told = told_ > 1;
  return !others_told && nothing_comes(allocated) && fitting(allocated) == waiters_.end();
}

bool MemoryQueue::nothing_comes(std::uint64_t allocated) const {
  return !waiters_.empty() && allocated <= held_;
}

/// Where no document has any memory the system has refused it: the latest gives up.
std::uint32_t MemoryQueue::least() const {
  const auto rank = [](const auto& entry) {
    const Document& document = entry.second;
    return std::tuple(document.held, document.waits, ~document.order);
  };
  const auto before = [&](const auto& a, const auto& b) { return rank(a) < rank(b); };
  const auto least = std::min_element(documents_.begin(), documents_.end(), before);
  return least != documents_.end() ? least->first : waiters_.back().key;
}

void MemoryQueue::tell(const std::optional<Message>& message) const {
  if (message) Admission::tell(port_, message->key, message->notice);
}

void MemoryQueue::take_out(std::deque<Waiter>::iterator waiter) {
  set_waits(waiter->key, false);
  if (!waiter->small) large_.fetch_sub(1);
  waiters_.erase(waiter);
  count_.store(waiters_.size());
}

void MemoryQueue::set_waits(std::uint32_t key, bool waits) {
  const auto document = documents_.find(key);
  if (document != documents_.end()) document->second.waits = waits;
}

}  // namespace cp::stage
