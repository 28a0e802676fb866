// What is known of each key, in a table of many locks: two threads meet at one only when their keys
// share a stripe. What is done with it is in keys.h.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "port/packet_queue.h"
#include "system/published.h"
#include "system/spin_lock.h"

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

  /// Whether whoever holds one of them holds the other's lock, too.
  bool share_lock(std::uint32_t a, std::uint32_t b) const {
    return hash(a) >> shift_ == hash(b) >> shift_;
  }

  /// Each cell in use, its stripe held meanwhile: `visit(HeldStripe&, Cell&)`.
  template <typename Visit>
  void for_each(Visit visit);

  /// Packets that wait, of all keys; while others queue and take, about.
  std::size_t queued() const {
    std::size_t sum = 0;
    for (std::uint32_t i = 0; i < count_; ++i) {
      sum += stripes_[i].queued.value();
    }
    return sum;
  }

 private:
  friend class HeldStripe;

  /// Locked by whoever looks into it. The first of its cells lies in it, so that lock and cell are
  /// neighbours in memory; further ones hang in buckets that grow with them.
  struct alignas(64) Stripe {
    SpinLock lock;
    Count queued;  ///< packets in the queues of its cells
    Cell first;
    std::unique_ptr<Cell*[]> buckets;
    std::uint32_t bucket_count = 0;
    std::uint32_t cell_count = 0;  ///< in the buckets
    Cell* spare = nullptr;
    std::uint32_t spare_count = 0;
  };

  Stripe& stripe(std::uint32_t key) { return stripes_[hash(key) >> shift_]; }

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

  void give_up_if_superfluous(Stripe& stripe, Cell& cell) const {
    if (!cell.superfluous()) return;
    cell.used = false;
    cell.holder = nullptr;
    cell.queue.shrink();
    if (&cell != &stripe.first) take_down(stripe, cell);
  }

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

/// The stripe of a key, its lock held, and so the cells there. A cell stays where it is until it is
/// given up.
class HeldStripe {
 public:
  HeldStripe(KeyCells& cells, std::uint32_t key) : HeldStripe(cells, cells.stripe(key)) {}
  HeldStripe(const HeldStripe&) = delete;
  HeldStripe& operator=(const HeldStripe&) = delete;

  /// Null when nobody holds the key, it is not pinned, and nothing waits.
  Cell* find(std::uint32_t key) const { return cells_.find(stripe_, key); }
  Cell& find_or_make(std::uint32_t key) const { return cells_.find_or_make(stripe_, key); }
  /// Where nothing is left to be known of its key.
  void give_up_if_superfluous(Cell& cell) const { cells_.give_up_if_superfluous(stripe_, cell); }

  /// Has a packet wait for its key; in front of what is newer.
  void queue(Cell& cell, const Packet& packet, bool in_front = false) const {
    in_front ? cell.queue.push_front(packet) : cell.queue.push_back(packet);
    stripe_.queued.add();
  }
  /// So many packets do not wait any more.
  void taken(std::size_t count) const { stripe_.queued.subtract(count); }

 private:
  friend class KeyCells;
  HeldStripe(KeyCells& cells, KeyCells::Stripe& stripe)
      : cells_(cells), stripe_(stripe), lock_(stripe.lock) {}

  KeyCells& cells_;
  KeyCells::Stripe& stripe_;
  const std::lock_guard<SpinLock> lock_;
};

template <typename Visit>
void KeyCells::for_each(Visit visit) {
  std::vector<Cell*> cells;
  for (std::uint32_t i = 0; i < count_; ++i) {
    const HeldStripe stripe(*this, stripes_[i]);
    cells.clear();
    if (stripes_[i].first.used) cells.push_back(&stripes_[i].first);
    for (std::uint32_t b = 0; b < stripes_[i].bucket_count; ++b) {
      for (Cell* cell = stripes_[i].buckets[b]; cell != nullptr; cell = cell->next) {
        cells.push_back(cell);
      }
    }
    for (Cell* cell : cells) visit(stripe, *cell);
  }
}

}  // namespace cp
