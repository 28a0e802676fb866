// A bounded queue of values between the threads of a process: what SharedChannel of
// completion-port/micro is made of.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "port/buffer_pool.h"
#include "system/mutex.h"

namespace cp {

/// A value: a number, or so many bytes in a block of a pool that the item uses.
struct SharedItem {
  std::uint32_t form = 0;  ///< what it means is known to whoever puts and takes
  double number = 0;
  Place place;  ///< without a chunk: it is all in `number`
  std::uint32_t length = 0;
};

/// One thread, with the puts and takes that it waits for.
class QueueUser {
 public:
  virtual ~QueueUser() = default;

 private:
  friend class SharedQueue;
  /// What `ticket` waits for is over, and is to be asked for. Called in any thread, with the
  /// queue's lock held: it neither waits nor calls back. False: the thread can't be told any more.
  virtual bool tell(std::uint32_t ticket) = 0;
};

/// What becomes of a put or a take.
enum class QueueOutcome : std::uint32_t {
  kDone = 0,
  kWaits = 1,   ///< `tell` comes
  kNotNow = 2,  ///< it is full, or empty
  kClosed = 3,
  kFailed = 4,  ///< `failure` says why
  kGone = 5,    ///< there is no such ticket, or the memory is not the caller's
};

/// All of it happens under one lock, in calls that no `worker.terminate()` interrupts; so no thread
/// ever dies in the middle of a step, and each of these holds between any two of them:
///
/// - An item is in one place: `items_`, a put that waits, or a take that was told of it. It leaves
///   by one door, `take` or `hear` of a thread that runs, so it is never delivered twice.
/// - A take that was told and does not hear, since it was given up or its thread has ended, is
///   removed by `leave`, which puts its item back where it was among the others (`number`).
/// - `size` counts those that takes were told of, too: what comes back has a place, and `capacity`
///   holds.
/// - Nobody waits who need not: no put while there is room, no take while `items_` has one; hence
///   `settle` after each change.
///
/// A thread leaves before it goes, its environment's cleanup hook at the latest; what it was told
/// and has not heard goes on then, and what waits never waits for a thread that is gone.
class SharedQueue {
 public:
  /// What everybody sees without a call: a snapshot, for whoever may be told otherwise by one.
  struct alignas(64) Shown {
    std::atomic<std::uint32_t> size{0};
    std::atomic<std::uint32_t> closed{0};
  };

  /// Nobody else knows it; `find` finds it by its number as long as somebody has it.
  static std::shared_ptr<SharedQueue> make(std::uint32_t capacity);
  static std::shared_ptr<SharedQueue> find(std::uint32_t id);
  /// Those whose memory has not been freed.
  static std::size_t count();
  /// What is in it goes back to its pool. Nobody waits.
  ~SharedQueue();
  SharedQueue(const SharedQueue&) = delete;
  SharedQueue& operator=(const SharedQueue&) = delete;

  std::uint32_t id() const { return id_; }
  const std::shared_ptr<Shown>& shown() const { return shown_; }

  /// kDone and kWaits: the item's use of its memory is the queue's. `waits`: kWaits instead of
  /// kNotNow. Tickets are unlike those of the same user that are in use.
  QueueOutcome put(QueueUser& user, std::uint32_t ticket, const SharedItem& item, bool waits);
  /// kDone: the item, with its use, is the caller's. kClosed: nothing is left, and nothing comes.
  QueueOutcome take(QueueUser& user, std::uint32_t ticket, bool waits, SharedItem& out);
  /// After `tell`. kDone: of a take, the item is the caller's. kWaits: it was not told yet.
  QueueOutcome hear(QueueUser& user, std::uint32_t ticket, SharedItem& out);
  /// Nobody waits any more. kDone: it was a put, and is in the queue, or was; else kGone.
  QueueOutcome leave(QueueUser& user, std::uint32_t ticket);
  /// All of a thread's. `tell` is not called any more when this returns.
  void leave(QueueUser& user);

  /// What is in it, and what waits to be, is still taken.
  void close();
  /// What is in it is dropped. Without effect when it is closed.
  void fail(std::string why);
  std::string failure() const;

 private:
  using Numbered = std::pair<std::uint64_t, SharedItem>;
  enum class State { kPuts, kTakes, kTold };
  struct Waiter {
    QueueUser* user;
    std::uint32_t ticket;
    bool takes;
    State state;
    std::optional<Numbered> item;  ///< of a put that waits, and of a take that was told
  };
  using Line = std::list<Waiter>;
  using Key = std::pair<QueueUser*, std::uint32_t>;
  using Freed = std::vector<SharedItem>;

  SharedQueue(std::uint32_t id, std::uint32_t capacity) : id_(id), capacity_(capacity) {}
  void add(Line& line, QueueUser& user, std::uint32_t ticket, bool takes,
           std::optional<Numbered> item);
  bool tell(Line& line, std::optional<Numbered> item);
  void settle();
  void put_back(Numbered item);
  bool remove(Line::iterator waiter, Freed& freed);
  QueueOutcome ended() const { return failed_ ? QueueOutcome::kFailed : QueueOutcome::kClosed; }
  bool empty() const { return size_ == 0 && puts_.empty(); }
  void show();
  static void free(const Freed& freed);

  const std::uint32_t id_;
  const std::uint32_t capacity_;
  const std::shared_ptr<Shown> shown_ = std::make_shared<Shown>();

  mutable system::Mutex mutex_;  ///< guards what follows
  std::deque<Numbered> items_;   ///< by number, which are those of the order in which they came
  std::uint64_t next_ = 0;
  std::size_t size_ = 0;  ///< with those that takes were told of
  Line puts_, takes_, told_;
  std::map<Key, Line::iterator> waiters_;
  bool closed_ = false;
  bool failed_ = false;
  std::string failure_;
};

}  // namespace cp
