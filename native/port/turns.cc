#include "port/turns.h"

namespace cp {

/// Leaked on purpose: environments may end after the process's static objects.
Turns& Turns::instance() {
  static Turns* const turns = new Turns;
  return *turns;
}

bool Turns::ask(TurnTaker& taker, std::uint32_t ticket) {
  std::lock_guard lock(mutex_);
  const bool first = line_.empty();
  taker.places_[ticket] = line_.insert(line_.end(), {&taker, ticket});
  return first;
}

void Turns::leave(TurnTaker& taker, std::uint32_t ticket) {
  std::lock_guard lock(mutex_);
  const auto found = taker.places_.find(ticket);
  if (found == taker.places_.end()) return;
  const bool had_turn = found->second == line_.begin();
  line_.erase(found->second);
  taker.places_.erase(found);
  if (had_turn) tell_first();
}

void Turns::leave(TurnTaker& taker) {
  std::lock_guard lock(mutex_);
  if (taker.places_.empty()) return;
  const bool had_turn = line_.front().taker == &taker;
  for (const auto& [ticket, place] : taker.places_) line_.erase(place);
  taker.places_.clear();
  if (had_turn) tell_first();
}

/// Places that can't be told are dropped on the way.
void Turns::tell_first() {
  while (!line_.empty()) {
    const TurnTaker::Place first = line_.front();
    if (first.taker->grant(first.ticket)) return;
    first.taker->places_.erase(first.ticket);
    line_.pop_front();
  }
}

}  // namespace cp
