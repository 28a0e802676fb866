// Turns of the process: one thread at a time has the turn, first come first served.
#pragma once

#include <cstdint>
#include <list>
#include <mutex>
#include <unordered_map>

#include "system/mutex.h"

namespace cp {

class Turns;

/// One thread, with the places it has in the line.
class TurnTaker {
 public:
  virtual ~TurnTaker() = default;

 private:
  friend class Turns;
  struct Place {
    TurnTaker* taker;
    std::uint32_t ticket;
  };

  /// The turn is at `ticket`. Called in any thread, with the lock held: it neither waits nor calls
  /// back. False: the thread can't be told any more, and the turn goes on to the next.
  virtual bool grant(std::uint32_t ticket) = 0;

  std::unordered_map<std::uint32_t, std::list<Place>::iterator> places_;
};

/// The line. Its first place has the turn; the others wait, and nothing looks at them meanwhile.
///
/// Who asks when the line is empty has the turn by the answer. Any other place is told once, by
/// whoever removes the one before it while that is the first; all of this under one lock. So
/// exactly one place at a time has been told and not removed, nobody is passed over, and no turn is
/// lost: whatever becomes of a place, given back, cancelled while it waits, cancelled between being
/// told and hearing of it, or removed with its thread, it is removed, and removing the first is
/// what tells the next. A thread that hears of a ticket that it has given back ignores it.
class Turns {
 public:
  /// That of the process.
  static Turns& instance();

  /// True: the turn is the caller's. Else `grant` tells of it. `ticket`: unlike those it has.
  bool ask(TurnTaker& taker, std::uint32_t ticket);
  /// The turn, or the place, is given back. Without effect for a ticket that has none.
  void leave(TurnTaker& taker, std::uint32_t ticket);
  /// All of a thread's. `grant` is not called any more when this returns.
  void leave(TurnTaker& taker);

 private:
  void tell_first();

  system::Mutex mutex_;
  std::list<TurnTaker::Place> line_;
};

}  // namespace cp
