// What bounds a native stage: places for documents in the queue of the next stage, and memory. A
// connection that gets none waits, and is told by a packet of its key.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <utility>

#include "port/port.h"
#include "stage/cargo.h"
#include "stage/memory_queue.h"
#include "system/mutex.h"

namespace cp::stage {

/// What a connection is told: the result of a kNotice packet of its key.
enum class Notice : int {
  kPlace,         ///< a place in the next stage is its own
  kMemory,        ///< some memory was given back: try again
  kGiveUp,        ///< others wait for its memory, and it would wait for theirs
  kListen,        ///< of a listener: accept connections
  kEndListening,  ///< of a listener: close it
  kBegin,         ///< it was accepted
  kEnd,           ///< no new documents are taken
};
inline Notice notice_of(const PacketSlot& packet) {
  return static_cast<Notice>(static_cast<int>(packet.result));
}

/// The queue of the next stage is in the order of arrival, and a thread there is busy with a
/// document for as long as that has bytes. So a long document, one whose bytes in memory are more
/// than kShort, also needs a *turn*: it is handed over only when it and those that were, and that
/// no thread of the next stage has begun, have no more than kAhead bytes for each thread that may
/// run there (or kAheadAlone in all while none but long ones come), or when there is none of those.
/// A short one that comes thus waits behind a few long ones at most, and never behind those of all
/// other connections. The rest waits here, where a connection can be chosen:
///
/// - By the bytes that each connection has had (fair queueing): a document is *due* its bytes after
///   the connection's last one was, or after now, whichever is later. `clock_` is that now; while n
///   connections wait, it moves on by an nth of what is handed over. One of few bytes is due before
///   one of many, and a connection that sends one after another is due later each time; whoever
///   waits is overtaken no longer than until its bytes would have been its share.
/// - A turn comes back as soon as the document is begun, so how many of them handlers keep while
///   they await something is bounded by places alone.
class Admission : public std::enable_shared_from_this<Admission> {
 public:
  static constexpr std::uint64_t kShort = BufferPool::kSmallBlock;
  static constexpr std::uint64_t kAhead = 512 * 1024;
  /// While none come that are shorter than kMiddling they have this much, all together. Whoever
  /// waits for a turn is told by a packet, which waits for the threads of this stage like all
  /// others: with a small window those, busy with receiving, keep the next stage idle, and whole
  /// documents fill the memory.
  static constexpr std::uint64_t kAheadAlone = 16 * 1024 * 1024;
  static constexpr std::uint64_t kMiddling = kAhead / 2;
  /// None has come for a while when so many bytes of long ones were handed over since the last.
  static constexpr std::uint64_t kWithoutShort = 64 * 1024 * 1024;

  /// `running`: threads of the next stage that may run at one time.
  Admission(Port& port, std::uint32_t places, std::uint32_t running, std::uint64_t file_limit)
      : port_(port), places_(places), running_(running), file_limit_(file_limit), memory_(port) {}

  /// What a connection keeps for this.
  struct Turn {
    std::uint64_t due = 0;    ///< when its last long document was
    std::uint64_t order = 0;  ///< in which it came to wait last, if it did
  };

  /// A place for a document, given back when the lease ends, and the turn of one of `bytes`; null:
  /// `key` waits for them.
  std::unique_ptr<Lease> take_place(std::uint32_t key, std::uint64_t bytes, Turn& turn);
  /// After Notice::kPlace: they are taken for the connection already.
  std::unique_ptr<Lease> granted(std::uint32_t key);
  /// Whoever waits with this turn waits no more. It may have been told already.
  void leave(const Turn& turn);

  MemoryQueue& memory() { return memory_; }

  /// Bytes for documents in files. False: the limit is reached.
  bool take_files(std::uint64_t bytes);
  void give_files(std::uint64_t bytes) { in_files_ -= bytes; }
  std::uint64_t in_files() const { return in_files_; }

  /// Documents in the next stage; connections that wait for a place.
  std::uint32_t taken() const;
  std::size_t waiting() const;

  /// `from`: the thread that calls and will come for packets by itself.
  static void tell(Port& port, std::uint32_t key, Notice notice, Consumer* from = nullptr);

 private:
  class Place;
  struct Waiter {
    std::uint32_t key;
    std::uint64_t order;  ///< in which they came
    std::uint64_t bytes;  ///< 0: a short document
  };
  using Due = std::pair<std::uint64_t, std::uint64_t>;  ///< and the order, which no other has

  void give_back(std::uint32_t places, std::uint64_t ahead);
  bool has_turn(std::uint64_t bytes) const;
  void take(std::uint64_t bytes);
  std::optional<std::uint32_t> next();

  Port& port_;
  const PortHold hold_{port_};  ///< documents in the next stage may outlive this one's port
  const std::uint32_t places_;
  const std::uint64_t running_;
  const std::uint64_t file_limit_;
  std::atomic<std::uint64_t> in_files_{0};
  mutable system::Mutex mutex_;  ///< a leaf
  std::uint32_t taken_ = 0;
  std::uint64_t ahead_ = 0;  ///< bytes of long documents that the next stage has not begun
  std::uint64_t since_short_ =
      0;  ///< bytes handed over since one came that is no longer than kMiddling
  std::uint64_t clock_ = 0;
  std::uint64_t arrivals_ = 0;
  std::deque<Waiter> short_;
  std::map<Due, Waiter> long_;
  std::unordered_map<std::uint32_t, std::uint64_t> told_;  ///< bytes of long ones, by key
  MemoryQueue memory_;
};

}  // namespace cp::stage
