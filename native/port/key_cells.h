// Who holds which key, and what waits for it (rule D8), in a table of many locks: two threads meet
// at one only when their keys share a stripe.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "port/packet_queue.h"
#include "port/spin_lock.h"

namespace cp {

/// What is known of one key. It exists while the key is held, pinned, or has packets nobody has
/// taken, and no longer: a quiet connection costs nothing here.
///
/// Every member belongs to the lock of its stripe. Packets wait in `queue`, in order; entries of
/// run queues point here, one for each packet where that is possible, so that one thread alone
/// takes them in the order of all keys. An entry is a licence to look, no more: whoever comes to it
/// takes what it may, and finds perhaps that another was faster. What must hold is: where packets
/// wait and nobody holds the key, there is an entry, or one on its way into or out of a queue.
struct Cell {
  std::uint32_t key = 0;
  std::uint32_t held = 0;     ///< packets of it in batches of the holder, and one if `kept`
  std::uint32_t entries = 0;  ///< in run queues, and on the way there or from there
  bool used = false;
  bool kept = false;  ///< held beyond a batch: further packets wait, also for the holder
  Consumer* holder = nullptr;
  Consumer* pinned = nullptr;  ///< the only thread that may take its packets
  HandleId pinned_handle = 0;
  KeyQueue queue;
  Cell* next = nullptr;

  bool superfluous() const {
    return held == 0 && entries == 0 && pinned == nullptr && queue.empty();
  }
};

class KeyCells {
 public:
  /// Locked by whoever looks into it. The first of its cells lies in it, so that lock and cell are
  /// neighbours in memory; further ones hang in buckets that grow with them.
  struct alignas(64) Stripe {
    SpinLock lock;
    std::atomic<std::uint32_t> queued{0};  ///< packets in the queue of its cells; stored locked
    Cell first;
    std::unique_ptr<Cell*[]> buckets;
    std::uint32_t bucket_count = 0;
    std::uint32_t cell_count = 0;  ///< in the buckets
    Cell* spare = nullptr;
    std::uint32_t spare_count = 0;
  };

  /// `threads`: that may run at one time.
  explicit KeyCells(std::uint32_t threads)
      : count_(std::bit_ceil(std::clamp(threads * kStripesForThread, kFewest, kMost))),
        shift_(32 - static_cast<unsigned>(std::countr_zero(count_))),
        stripes_(new Stripe[count_]) {}
  ~KeyCells() {
    for (std::uint32_t i = 0; i < count_; ++i) clear(stripes_[i]);
  }
  KeyCells(const KeyCells&) = delete;
  KeyCells& operator=(const KeyCells&) = delete;

  Stripe& stripe(std::uint32_t key) { return stripes_[hash(key) >> shift_]; }

  // The stripe is locked. A cell stays where it is until it is given up.

  /// Null when nobody holds the key, it is not pinned, and nothing waits.
  Cell* find(Stripe& stripe, std::uint32_t key) const {
    if (stripe.first.used && stripe.first.key == key) return &stripe.first;
    if (stripe.cell_count == 0) return nullptr;
    for (Cell* cell = bucket(stripe, key); cell != nullptr; cell = cell->next) {
      if (cell->key == key) return cell;
    }
    return nullptr;
  }

  Cell& find_or_make(Stripe& stripe, std::uint32_t key) const {
    if (Cell* found = find(stripe, key)) return *found;
    Cell& made = stripe.first.used ? hang(stripe, key) : stripe.first;
    made.key = key;
    made.used = true;
    return made;
  }

  /// Where nothing is left to be known of its key.
  void give_up_if_superfluous(Stripe& stripe, Cell& cell) const {
    if (!cell.superfluous()) return;
    cell.used = false;
    cell.holder = nullptr;
    cell.queue.shrink();
    if (&cell != &stripe.first) take_down(stripe, cell);
  }

  /// Each cell in use, its stripe locked meanwhile.
  template <typename Visit>
  void for_each(Visit visit) {
    std::vector<Cell*> cells;
    for (std::uint32_t i = 0; i < count_; ++i) {
      Stripe& stripe = stripes_[i];
      std::lock_guard lock(stripe.lock);
      cells.clear();
      if (stripe.first.used) cells.push_back(&stripe.first);
      for (std::uint32_t b = 0; b < stripe.bucket_count; ++b) {
        for (Cell* cell = stripe.buckets[b]; cell != nullptr; cell = cell->next) {
          cells.push_back(cell);
        }
      }
      for (Cell* cell : cells) visit(stripe, *cell);
    }
  }

  /// Packets that wait, of all keys; while others queue and take, about.
  std::size_t queued() const {
    std::size_t sum = 0;
    for (std::uint32_t i = 0; i < count_; ++i) {
      sum += stripes_[i].queued.load(std::memory_order_relaxed);
    }
    return sum;
  }

 private:
  static constexpr std::uint32_t kStripesForThread = 256;
  static constexpr std::uint32_t kFewest = 512;
  static constexpr std::uint32_t kMost = 4096;
  static constexpr std::uint32_t kFirstBuckets = 8;
  static constexpr std::uint32_t kMostSpare = 8;

  static std::uint32_t hash(std::uint32_t key) {
    return key * 0x9e3779b1u;  // Fibonacci hashing: unique keys are consecutive
  }
  /// By other bits than those which chose the stripe.
  Cell*& bucket(Stripe& stripe, std::uint32_t key) const {
    const std::uint32_t rest = (hash(key) << (32 - shift_)) ^ (key >> 16);
    return stripe.buckets[(rest * 0x85ebca6bu >> 8) & (stripe.bucket_count - 1)];
  }

  Cell& hang(Stripe& stripe, std::uint32_t key) const {
    if (stripe.cell_count >= stripe.bucket_count) grow(stripe);
    Cell* cell = stripe.spare;
    if (cell != nullptr) {
      stripe.spare = cell->next;
      --stripe.spare_count;
    } else {
      cell = new Cell;
    }
    cell->key = key;
    Cell*& head = bucket(stripe, key);
    cell->next = head;
    head = cell;
    ++stripe.cell_count;
    return *cell;
  }

  void take_down(Stripe& stripe, Cell& cell) const {
    Cell** link = &bucket(stripe, cell.key);
    while (*link != &cell) link = &(*link)->next;
    *link = cell.next;
    --stripe.cell_count;
    if (stripe.spare_count == kMostSpare) {
      delete &cell;
      return;
    }
    cell.next = stripe.spare;
    stripe.spare = &cell;
    ++stripe.spare_count;
  }

  void grow(Stripe& stripe) const {
    const std::unique_ptr<Cell*[]> old = std::move(stripe.buckets);
    const std::uint32_t count = stripe.bucket_count;
    stripe.bucket_count = count == 0 ? kFirstBuckets : count * 2;
    stripe.buckets = std::make_unique<Cell*[]>(stripe.bucket_count);
    for (std::uint32_t b = 0; b < count; ++b) {
      for (Cell* cell = old[b]; cell != nullptr;) {
        Cell* next = cell->next;
        Cell*& head = bucket(stripe, cell->key);
        cell->next = head;
        head = cell;
        cell = next;
      }
    }
  }

  static void clear(Stripe& stripe) {
    for (std::uint32_t b = 0; b < stripe.bucket_count; ++b) delete_all(stripe.buckets[b]);
    delete_all(stripe.spare);
  }
  static void delete_all(Cell* cell) {
    while (cell != nullptr) {
      Cell* next = cell->next;
      delete cell;
      cell = next;
    }
  }

  const std::uint32_t count_;
  const unsigned shift_;
  const std::unique_ptr<Stripe[]> stripes_;
};

}  // namespace cp
