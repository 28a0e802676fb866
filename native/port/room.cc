#include "port/room.h"

namespace cp {

std::uint32_t Room::set_aside(std::uint32_t wanted, std::int32_t& credit) {
  std::uint32_t granted = 0;
  if (credit > 0) {
    granted = std::min(wanted, static_cast<std::uint32_t>(credit));
    credit -= static_cast<std::int32_t>(granted);
  }
  std::int64_t free = free_.load();
  while (granted == 0 && free > 0) {
    const auto share = static_cast<std::uint32_t>(
        std::min<std::int64_t>(wanted, std::max<std::int64_t>(1, free / 8)));
    if (free_.compare_exchange_weak(free, free - share)) granted = share;
  }
  return granted;
}

bool Room::ask(const Packet& request) {
  std::lock_guard lock(mutex_);
  // Either this sees what is given back, or whoever gives it back sees that room is wanted.
  wanted_.store(true);
  const bool now = free_.load() > 0;
  if (!now) requests_.push_back(request);
  wanted_.store(!requests_.empty());
  return now;
}

std::vector<Packet> Room::answered() {
  const std::int64_t enough = std::max<std::int64_t>(1, limit_ / 4);
  std::vector<Packet> requests;
  std::lock_guard lock(mutex_);
  if (free_.load() < enough) return requests;
  requests.swap(requests_);
  wanted_.store(false);
  return requests;
}

void Room::forget(const Consumer& consumer) {
  std::lock_guard lock(mutex_);
  std::erase_if(requests_, [&](const Packet& p) { return p.target == &consumer; });
}

}  // namespace cp
