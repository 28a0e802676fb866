// What each thread of a simulation has its own of.
#pragma once

#include <cstddef>

#include "system/sim/scheduler.h"

namespace cp::sim {

/// How many such variables there are, whatever their types.
inline std::size_t& places_per_thread() {
  static std::size_t places = 0;
  return places;
}

template <typename T>
class PerThread {
 public:
  PerThread() : place_(places_per_thread()++) {}

  /// Before a simulation, too: that of the process then.
  T& get() {
    Scheduler* scheduler = Scheduler::current();
    if (scheduler == nullptr) return outside_;
    Fiber& fiber = *scheduler->self();
    if (fiber.own.size() <= place_) {
      fiber.own.resize(place_ + 1);
      fiber.deleters.resize(place_ + 1);
    }
    if (fiber.own[place_] == nullptr) {
      fiber.own[place_] = new T();
      fiber.deleters[place_] = [](void* own) { delete static_cast<T*>(own); };
    }
    return *static_cast<T*>(fiber.own[place_]);
  }

 private:
  const std::size_t place_;
  T outside_;
};

}  // namespace cp::sim

#define CP_PER_THREAD(Type, name)               \
  ::cp::sim::PerThread<Type> name##_of_threads; \
  inline Type& name() { return name##_of_threads.get(); }
