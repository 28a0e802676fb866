// Connections that wait for the memory of a native stage, and documents that hold some and will
// want more. Nobody waits for ever for memory that nobody will give back.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <unordered_map>

#include "port/port.h"
#include "system/mutex.h"

namespace cp::stage {

enum class Notice : int;

/// A document grows by moving into a larger room, so one that has some memory may wait for more,
/// and several of them for each other. All memory that is given out is of two kinds:
///
/// - That of documents which *grow*: they will want more before they give back what they have.
/// - The rest, whose holders want nothing from here: documents that have all the room they were
///   announced to need, or are in the next stage, and blocks of answers, of writes, of farewells.
///   It comes back, at the latest when their clients' timeouts end them, and `memory_returned` is
///   called then; or soon after, by who waits, where another port's operation had it in use.
///
/// So nothing is on its way exactly when what is given out is what documents hold that grow, no
/// matter whether they wait for memory or for their clients. When then somebody waits whom nothing
/// that is free would do, one document that grows is told to give up. Each time there is one less;
/// the last one left fits, because a document that could not fit beside itself never waits. It is
/// looked at whenever that could have become true: when one begins to wait or to grow, when memory
/// came, and when who was told of some has taken it or not. A deadlock therefore can't last.
///
/// The one with the smallest room goes first, which has brought the least; of equals one whose
/// client is silent, then the latest. Clients that announce much and send little thus don't keep
/// the others out, and the document that has come furthest is never the one to go.
///
/// Any thread; holders of a key call for their own key.
class MemoryQueue {
 public:
  explicit MemoryQueue(Port& port) : port_(port) {}

  /// Whether a document may ask the pool for `size` bytes now. `small`: it will not want more than
  /// kSmallBlock in all. Large ones come in turn; and while one waits, small ones get no more than
  /// their share, so that a steady flow of them doesn't take whatever it waits for.
  bool admits(std::uint64_t size, bool small) const;
  /// `key` waits for `size` bytes. `told`: before all others, since it was told of some, and they
  /// were not there. `refused`: the limit would have allowed it, and the system did not.
  void wait(std::uint32_t key, std::uint64_t size, bool small, bool told, bool refused);
  /// It does not wait any more. It may have been told already.
  void leave(std::uint32_t key);

  /// The document of `key` has `room` bytes and will want more.
  void grows(std::uint32_t key, std::uint64_t room);
  /// Or it will not: it is whole, has all the room it needs, or is given up.
  void settles(std::uint32_t key);

  /// A small document has `bytes`, or has given them back.
  void small_took(std::uint64_t bytes) { small_ += bytes; }
  void small_gave(std::uint64_t bytes) { small_ -= bytes; }

  /// Whether anybody waits.
  bool waits() const { return count_.load(std::memory_order_relaxed) > 0; }

  /// Memory was given back, or some was left over: the first it would do for is told.
  void memory_returned();
  /// Whoever is told to give up asks whether it is still so: some may have come back since.
  bool must_give_up();
  /// What a notice of this queue asked for is done: memory was taken, or is waited for again, or
  /// was given up. Until then nothing is said to wait for ever.
  void notice_done();

 private:
  struct Waiter {
    std::uint32_t key;
    std::uint64_t size;
    bool small;
    bool refused;  ///< by the system, since memory came last
  };
  struct Document {
    std::uint64_t held;
    std::uint64_t order;
    bool waits;
  };
  struct Message {
    std::uint32_t key;
    Notice notice;
  };
  /// Found under the mutex, told without.
  std::optional<Message> look();
  /// The first whom something is for, when so much is given out.
  std::deque<Waiter>::iterator fitting(std::uint64_t allocated);
  /// Somebody waits, and all that is given out is what documents hold that grow.
  bool nothing_comes(std::uint64_t allocated) const;
  std::uint32_t least() const;
  void tell(const std::optional<Message>& message) const;
  void take_out(std::deque<Waiter>::iterator waiter);
  void set_waits(std::uint32_t key, bool waits);

  Port& port_;
  system::Mutex mutex_;  ///< a leaf
  std::deque<Waiter> waiters_;
  std::atomic<std::size_t> count_{0};    ///< of them
  std::atomic<std::size_t> large_{0};    ///< of those, not small
  std::atomic<std::uint64_t> small_{0};  ///< bytes that small documents have
  std::unordered_map<std::uint32_t, Document> documents_;
  std::uint64_t held_ = 0;   ///< by them
  std::uint64_t begun_ = 0;  ///< documents there ever were
  std::size_t told_ = 0;     ///< notices not done
};

}  // namespace cp::stage
