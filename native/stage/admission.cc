#include "stage/admission.h"

#include <algorithm>
#include <utility>

namespace cp::stage {

/// The memory of a document goes back just before its place does.
class Admission::Place final : public Lease {
 public:
  Place(std::shared_ptr<Admission> admission, std::uint64_t ahead)
      : admission_(std::move(admission)), ahead_(ahead) {}
  ~Place() override {
    admission_->memory().small_gave(small);
    admission_->give_files(in_files);
    admission_->give_back(1, ahead_);
    admission_->memory().memory_returned();
  }
  void begun() override {
    if (ahead_ > 0) admission_->give_back(0, std::exchange(ahead_, 0));
  }

 private:
  const std::shared_ptr<Admission> admission_;
  std::uint64_t ahead_;  ///< whoever holds the connection's key has it
};

/// Nobody waits for whom there is a place, and a turn, but while `give_back` is telling them, and
/// but for a long document that others wait before: it goes on when one of those is given back
/// next, which is sure to come, since the first of them has no turn.
std::unique_ptr<Lease> Admission::take_place(std::uint32_t key, std::uint64_t bytes, Turn& turn) {
  if (bytes <= kShort) bytes = 0;
  {
    std::lock_guard lock(mutex_);
    if (bytes > 0) turn.due = std::max(turn.due, clock_) + bytes;
    if (bytes <= kMiddling) since_short_ = 0;
    const bool others_first = bytes > 0 ? !has_turn(bytes) || !long_.empty() : !short_.empty();
    if (taken_ == places_ || others_first) {
      turn.order = arrivals_++;
      const Waiter waiter{key, turn.order, bytes};
      if (bytes > 0) {
        long_.emplace(Due{turn.due, turn.order}, waiter);
      } else {
        short_.push_back(waiter);
      }
      return nullptr;
    }
    take(bytes);
  }
  return std::make_unique<Place>(shared_from_this(), bytes);
}

std::unique_ptr<Lease> Admission::granted(std::uint32_t key) {
  std::uint64_t bytes = 0;
  {
    std::lock_guard lock(mutex_);
    if (const auto told = told_.find(key); told != told_.end()) {
      bytes = told->second;
      told_.erase(told);
    }
  }
  return std::make_unique<Place>(shared_from_this(), bytes);
}

/// Those behind it may have waited for it alone.
void Admission::leave(const Turn& turn) {
  {
    std::lock_guard lock(mutex_);
    const auto is_before = [](const Waiter& waiter, std::uint64_t order) {
      return waiter.order < order;
    };
    const auto it = std::lower_bound(short_.begin(), short_.end(), turn.order, is_before);
    if (it != short_.end() && it->order == turn.order) {
      short_.erase(it);
    } else if (long_.erase({turn.due, turn.order}) == 0) {
      return;
    }
  }
  give_back(0, 0);
}

bool Admission::has_turn(std::uint64_t bytes) const {
  const bool alone = since_short_ >= kWithoutShort;
  const std::uint64_t most = running_ * kAhead;
  return ahead_ == 0 || ahead_ + bytes <= (alone ? std::max(most, kAheadAlone) : most);
}

void Admission::take(std::uint64_t bytes) {
  ++taken_;
  ahead_ += bytes;
  since_short_ += bytes;
  // Never by nothing: whoever waits would wait for ever then.
  if (bytes > 0)
    clock_ += std::max<std::uint64_t>(1, bytes / std::max<std::size_t>(1, long_.size()));
}

/// Those who wait for what came back are told, and it is theirs. Should one of them be gone,
/// whoever finds out ends its lease, and the next one gets it.
void Admission::give_back(std::uint32_t places, std::uint64_t ahead) {
  std::unique_lock lock(mutex_);
  taken_ -= places;
  ahead_ -= ahead;
  while (const std::optional<std::uint32_t> key = next()) {
    lock.unlock();
    tell(port_, *key, Notice::kPlace);
    lock.lock();
  }
}

/// Of the first short document and the first long one the one that came first, unless the long one
/// has no turn: then it waits for those before it alone, and places are none of its business.
std::optional<std::uint32_t> Admission::next() {
  if (taken_ == places_) return std::nullopt;
  const auto first = long_.begin();
  const bool has_long = first != long_.end() && has_turn(first->second.bytes);
  if (has_long && (short_.empty() || first->second.order < short_.front().order)) {
    const Waiter waiter = first->second;
    take(waiter.bytes);  // it is still among those that wait
    long_.erase(first);
    told_[waiter.key] = waiter.bytes;
    return waiter.key;
  }
  if (short_.empty()) return std::nullopt;
  const Waiter waiter = short_.front();
  take(0);
  short_.pop_front();
  return waiter.key;
}

bool Admission::take_files(std::uint64_t bytes) {
  std::uint64_t before = in_files_;
  do {
    if (before > file_limit_ || bytes > file_limit_ - before) return false;
  } while (!in_files_.compare_exchange_weak(before, before + bytes));
  return true;
}

std::uint32_t Admission::taken() const {
  std::lock_guard lock(mutex_);
  return taken_;
}

std::size_t Admission::waiting() const {
  std::lock_guard lock(mutex_);
  return short_.size() + long_.size();
}

/// Not posted, so the queue's limit does not count it: there is one at most for each connection.
void Admission::tell(Port& port, std::uint32_t key, Notice notice, Consumer* from) {
  Packet packet;
  packet.kind = PacketKind::kNotice;
  packet.key = key;
  packet.result = static_cast<double>(notice);
  port.dispatcher().push(packet, from);
}

}  // namespace cp::stage
