// The records of a pipeline's connections: native memory that every thread of every stage sees.
//
// A record's name is the key of its connection on every port. The memory behind it is JavaScript's
// to write, so nothing that matters for memory safety is read from it: that is in the cargo.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "port/deadlines.h"
#include "port/port.h"
#include "stage/cargo.h"
#include "stage/trace.h"
#include "system/condition.h"
#include "system/mutex.h"
#include "system/spin_lock.h"
#include "system/thread.h"

namespace cp::stage {

/// The beginning of each record (lib/stage/record/record.ts: Header).
struct RecordHeader {
  std::atomic<std::uint32_t> name;  ///< the key; 0: free
  std::atomic<std::uint32_t> port;
  std::atomic<HandleId> handle;  ///< 0: a task
  std::uint8_t stage;            ///< index in the pipeline; kNoStage: not begun
  std::uint8_t state;            ///< index in the stage's machine
  std::uint8_t flags;
  std::uint8_t from;     ///< the stage it came from
  std::uint32_t number;  ///< documents so far
  /// Milliseconds on the monotonic clock; 0: none; kExpired. Whoever stores one looks at `watched`
  /// afterwards.
  std::atomic<double> deadline;
  double since;
  /// Where its document is: see RecordFlag.
  union {
    struct {
      std::uint32_t chunk;
      std::uint32_t start;  ///< without a chunk: the error that lost it, a positive number
    } memory;
    HandleId file;
  } document;
  double document_length;
  double received;        ///< bytes
  std::uint32_t stashed;  ///< bytes
  /// When the clock looks at the deadline next, in ticks, as `tick_of` counts them; 0: never.
  std::atomic<std::uint32_t> watched;
  std::uint32_t held;       ///< bytes of `stashed`, in front, that wait for what follows them
  std::uint8_t takes_turn;  ///< its document's turn ends when it is begun: see Admission
};
static_assert(sizeof(RecordHeader) == 80 && std::atomic<double>::is_always_lock_free);
static_assert(offsetof(RecordHeader, port) == 4 && offsetof(RecordHeader, handle) == 8);
static_assert(offsetof(RecordHeader, stage) == 16 && offsetof(RecordHeader, number) == 20);
static_assert(offsetof(RecordHeader, deadline) == 24 && offsetof(RecordHeader, since) == 32);
static_assert(offsetof(RecordHeader, document) == 40);
static_assert(offsetof(RecordHeader, document_length) == 48);
static_assert(offsetof(RecordHeader, received) == 56 && offsetof(RecordHeader, stashed) == 64);
static_assert(offsetof(RecordHeader, watched) == 68 && offsetof(RecordHeader, held) == 72);
static_assert(offsetof(RecordHeader, takes_turn) == 76);

inline constexpr std::uint8_t kNoStage = 0xff;
/// Its time has passed, and a packet of kind kTimer is on the way to its stage.
inline constexpr double kExpired = -1;

enum RecordFlag : std::uint8_t {
  kRecordReceiving = 2,
  kRecordHasDocument = 8,
  kRecordDocumentInFile = 16,
};

class RecordTable final : public KeySource {
 public:
  static constexpr std::size_t kMostRecords = 1u << 20;

  /// `stride`: bytes of a record, a multiple of 64. `traced`: places in the ring of each one's
  /// events, a power of two; 0: none are kept. Null when the system refuses the memory.
  static std::shared_ptr<RecordTable> make(std::size_t limit, std::size_t stride,
                                           std::uint32_t traced = 0);
  RecordTable(std::uint8_t* memory, std::size_t limit, std::size_t stride,
              std::unique_ptr<Trace> trace);
  ~RecordTable() override;

  std::uint8_t* memory() const { return memory_; }
  std::size_t size() const { return limit_ * stride_; }
  std::size_t limit() const { return limit_; }
  /// Null where no events are kept.
  Trace* trace() const { return trace_.get(); }
  /// Records in use. Any thread.
  std::size_t live() const;

  /// The name of a new record of a connection of `port`; 0 when all are in use. Any thread.
  std::uint32_t create(std::uint32_t port, HandleId handle);
  std::uint32_t key_for(HandleId handle, std::uint32_t port) override {
    return create(port, handle);
  }

  // What follows is for the thread that holds the key.

  /// Frees the record and what it has; false when `key` names none. The descriptor of a document in
  /// a file is `closer`'s to close.
  bool release(std::uint32_t key, Thread& closer);
  /// Calls `visit` with each record in use: its header may be another connection's a moment later.
  template <typename Visit>
  void for_each(Visit visit) const {
    const std::size_t used = used_.load(std::memory_order_acquire);
    for (std::size_t i = 0; i < used; ++i) {
      if (at(i)->name.load(std::memory_order_acquire) != 0) visit(*at(i));
    }
  }
  /// Null when `key` names no record, or no longer.
  RecordHeader* header(std::uint32_t key) const;
  Cargo* cargo(std::uint32_t key) const;
  /// The same, but null when it has none yet: most connections that idle never get any.
  Cargo* find_cargo(std::uint32_t key) const;
  static std::uint32_t index_of(std::uint32_t key) { return key & (kMostRecords - 1); }

  /// A packet of kind kTimer comes at `deadline`, a few milliseconds late, if it has not been set
  /// anew by then; 0: none does. What lib/stage/record/deadline.ts does.
  void set_deadline(std::uint32_t key, RecordHeader& header, double deadline);
  /// Has the clock look at the deadline of `key` in time.
  void watch(std::uint32_t key);
  /// How often the clock has looked at deadlines. Any thread.
  std::uint64_t looks() const { return looks_.load(std::memory_order_relaxed); }

  /// What belongs to the document is given back.
  static void release_document(Cargo& cargo, Thread& closer);
  static void release_reply(Cargo& cargo);

  /// Ends the clock. Idempotent.
  void close();

 private:
  RecordHeader* at(std::size_t index) const {
    return reinterpret_cast<RecordHeader*>(memory_ + index * stride_);
  }
  void clear(RecordHeader* header) const;
  struct Part;
  Part& own_part();
  bool take_index(std::uint32_t& index);
  bool fetch_indices(Part& own, std::uint32_t& index);
  void give_index(std::uint32_t index);
  void enter_deadline(std::uint32_t index, double deadline);
  void run_clock();
  double look_at_due();
  void look_at(std::uint32_t index, double now);
  void expire(RecordHeader& header);

  std::uint8_t* const memory_;
  const std::size_t limit_;
  const std::size_t stride_;
  const std::unique_ptr<Trace> trace_;
  /// Made when first needed, kept for the next connection of that index.
  std::unique_ptr<std::atomic<Cargo*>[]> cargos_;

  /// Free indices that one thread takes from and gives back to: in steady state records come and go
  /// without a lock that threads share. They belong to nobody: who finds no more elsewhere takes
  /// from the parts of others.
  struct alignas(64) Part {
    SpinLock lock;
    std::vector<std::uint32_t> fetched;  ///< taken from the end
    std::vector<std::uint32_t> freed;    ///< the first was freed first
    std::atomic<std::int64_t> live{0};   ///< records made here, less those released here
  };
  static constexpr std::size_t kParts = 16;
  static constexpr std::size_t kTogether =
      32;  ///< indices that are fetched, and given, at one time
  Part parts_[kParts];

  system::Mutex mutex_;  ///< guards what follows; outside of the parts' locks
  /// Reused in the order freed, so that the same name comes back as late as possible.
  std::deque<std::uint32_t> free_;
  /// Records below were in use, or are at hand in a part; stored locked.
  std::atomic<std::size_t> used_{0};

  /// Of each index, how often it was used; whoever has it in hand may touch it.
  const std::unique_ptr<std::uint16_t[]> generations_;
  std::atomic<bool> closed_{false};

  Deadlines deadlines_;
  /// Until when the clock sleeps; before all times while it is awake, and looks once more before it
  /// sleeps.
  std::atomic<double> sleeps_until_{0};
  std::atomic<std::uint64_t> looks_{0};
  system::Mutex clock_mutex_;  ///< guards what follows; a leaf
  system::Condition woken_changed_;
  bool woken_ = false;
  system::Thread clock_;
};

/// Closes a handle without anyone being told.
void close_quietly(Thread& thread, HandleId handle);

}  // namespace cp::stage
