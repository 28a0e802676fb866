// What a lane knows of its descriptors' readiness, and the epoll set it knows it from.
#pragma once

#include <cstdint>
#include <vector>

#include "driver/driver.h"
#include "system/published.h"

namespace cp::driver::epoll {

enum class Direction : std::uint8_t { kIn, kOut };

/// The epoll set and a table indexed by descriptor.
///
/// A descriptor enters the set once, for both directions and edge-triggered, when an operation
/// first has to wait here; from then on waiting costs no system call. In exchange the table has to
/// remember what the edges said. Descriptors belong to the process, though, and their operations
/// roam: another lane may empty a socket, fill it, or close it and have its number reused. So what
/// is remembered is no more than a hint that spares an attempt:
/// - "Ready" is believed wrongly at the price of an EAGAIN.
/// - "Not ready" is only believed while the descriptor is in this set, where the next change leaves
///   an event (it does so whoever else reads or writes).
class Readiness {
 public:
  Readiness(int epoll, Count& calls) : epoll_(epoll), calls_(calls) {}

  /// Whether an attempt is pointless because an event is sure to come first.
  bool must_wait(int fd, std::uint64_t id, Direction direction);
  bool in_set(int fd, std::uint64_t id) { return entry(fd, id).in_set; }

  /// After EAGAIN.
  void exhausted(int fd, std::uint64_t id, Direction direction);
  /// When the descriptor was last said to be exhausted it was not, or is no longer.
  void replenished(int fd, std::uint64_t id, Direction direction);
  /// After a receive that did not fill its buffer, which in edge-triggered mode means that the
  /// socket is empty (epoll(7)). Answers whether it does mean that here.
  bool read_short(int fd, std::uint64_t id);

  /// Hands the operation back from `event` when `fd` is ready. Below 0: can't be waited for; -EPERM
  /// for what epoll does not support, such as regular files.
  Result await(Operation* operation, int fd, Direction direction);
  /// Takes a waiting operation back.
  void abandon(Operation* operation, int fd, Direction direction);

  /// The descriptor is about to be closed, or is new.
  void forget(int fd);

  struct Woken {
    Operation* in = nullptr;
    Operation* out = nullptr;
  };
  /// Takes note of what epoll_wait returned.
  Woken event(std::uint32_t events, std::uint64_t data);

  /// What an event carries: the number, and enough of the id to tell its bearers apart. Needed
  /// because a file that was closed, but lives on in a duplicate, still sends events.
  static std::uint64_t event_data(int fd, std::uint64_t id) {
    return id << 32 | static_cast<std::uint32_t>(fd);
  }
  static int event_fd(std::uint64_t data) { return static_cast<int>(data & 0xffffffff); }

 private:
  struct Entry {
    std::uint64_t id = 0;
    Operation* waiting[2] = {nullptr, nullptr};
    bool ready[2] = {true, true};
    bool in_set = false;
    /// The peer hung up or there is urgent data: a short read is no proof of emptiness, since the
    /// end, or what follows the urgent byte, makes no new edge.
    bool short_reads_lie = false;
    std::uint8_t orphans = 0;
  };

  Entry& entry(int fd, std::uint64_t id);
  Result add(int fd, Entry& entry);
  void remove(int fd, Entry& entry);

  const int epoll_;
  Count& calls_;
  std::vector<Entry> entries_;
};

}  // namespace cp::driver::epoll
