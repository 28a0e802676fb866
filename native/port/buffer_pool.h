// The port's own memory: the only memory the kernel ever writes into (rule O2).
//
// A chunk is a range of pages cut into blocks of one size. One holds the receive buffers, the
// others what `allocate` gives out. A block is free when neither the program owns it nor an
// operation uses it; so a program that releases a block too early sees wrong bytes, never a kernel
// write into somebody else's memory (rule M2).
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "driver/driver.h"
#include "port/memory.h"
#include "system/mutex.h"
#include "system/spin_lock.h"

namespace cp {

class BufferPool;

/// Names a block, or a place in one. Chunks are numbered for the whole process and a number is
/// never used again: a received buffer keeps its name when its handle moves to another port.
struct Place {
  std::uint32_t chunk = driver::kNoChunk;
  std::uint32_t offset = 0;
};

/// Its memory goes when the pool is closed, no operation uses it and no view of it is left. From
/// then on its number names nothing. The description is never freed but serves another chunk, after
/// some others: whoever looked up a stale name just before finds that nobody owns what it names.
class Chunk {
 public:
  /// Null when the system refuses the memory or the numbers are used up.
  static Chunk* make(BufferPool& pool, std::size_t size, std::size_t block_size,
                     bool receives = false);
  static Chunk* find(std::uint32_t id);

  std::uint32_t id() const { return id_; }
  std::uint8_t* base() const { return base_; }
  std::size_t size() const { return size_; }
  std::size_t block_size() const { return block_size_; }
  std::size_t blocks() const { return words_.size(); }
  /// For whoever owns or uses a block of it.
  BufferPool& pool() const { return *pool_.load(std::memory_order_relaxed); }

  /// Keeps the memory mapped: one pin for the pool, one for every view. False when it is gone.
  bool pin();
  void unpin();

 private:
  friend class BufferPool;
  Chunk(std::size_t size, std::size_t block_size, bool receives);
  std::atomic<std::uint64_t>& word(std::uint32_t offset) { return words_[offset / block_size_]; }
  bool idle() const;

  /// There as long as it is `pooled_`.
  std::atomic<BufferPool*> pool_{nullptr};
  std::uint32_t id_ = 0;
  std::uint32_t live_index_ = 0;  ///< in the registry's list
  std::uint8_t* base_ = nullptr;
  const std::size_t size_;
  const std::size_t block_size_;
  const bool receives_;  ///< its blocks are receive buffers
  std::atomic<std::uint32_t> pins_{0};
  /// The pool's pin, given up once the pool is closed and no operation uses the chunk.
  std::atomic<bool> pooled_{false};
  /// A ring may hold on to its pages: to discard them would part the ring's from the program's.
  bool registered_ = false;
  /// Per block: who owns it, and how many operations use it. 0: free, and in a list of those. Who
  /// takes the last of both away keeps a use until it is in that list, so that a closed pool is
  /// there until then.
  std::vector<std::atomic<std::uint64_t>> words_;
  /// Per receive buffer: bytes of it that may not be zero. Whoever has the buffer has this, too.
  std::vector<std::uint32_t> filled_;
};

/// For whoever owns or uses its block.
inline std::uint8_t* address_of(Place place) {
  return Chunk::find(place.chunk)->base() + place.offset;
}

class BufferPool final : public driver::BufferSource {
 public:
  struct Options {
    std::uint32_t buffer_size = 32768;
    std::uint32_t buffer_count = 1024;
    std::uint64_t memory_limit = 1ull << 30;
    /// Blocks are overwritten when they become free, so that tests see who reads them too late.
    bool check = false;
    std::size_t page_size = cp::page_size();  ///< for tests: another system's
  };

  /// Null when the system refuses the memory.
  static BufferPool* make(const Options& options);

  // Receive buffers, for lanes (any thread).
  bool take(driver::Buffer& out) override;
  void give_back(const driver::Buffer& buffer) override;
  std::uint32_t allowance(std::uint32_t held) override;
  bool available() const override;
  std::uint32_t buffer_size() const override { return options_.buffer_size; }
  bool chunk(std::uint32_t index, driver::Slice& out) const override;

  /// A lane has come: with more than ever before there is one buffer more, so that every lane can
  /// hold one (rule M1).
  void add_lane();
  void remove_lane();

  // For programs (any thread).

  /// Memory of at least `size` bytes, aligned to 4,096, owned by the program in thread `owner`;
  /// false at the limit. `beyond`: the limit is no reason to refuse it, unless it is more than that
  /// by itself (rule M7).
  bool allocate(std::uint64_t size, std::uint32_t owner, Place& out, bool beyond = false) {
    return try_allocate(size, owner, out, beyond) == Allocation::kDone;
  }
  enum class Allocation : std::uint8_t {
    kDone,
    kLimit,    ///< the limit does not allow it now
    kRefused,  ///< by the system, or the pool is closed
  };
  /// The same, for who waits when there is none.
  Allocation try_allocate(std::uint64_t size, std::uint32_t owner, Place& out, bool beyond = false);
  /// `allocate` beyond the limit, for what is kept as long as the port lives and has to be there
  /// when the limit is reached; back with `release_fixed`.
  bool allocate_fixed(std::uint64_t size, Place& out);
  void release_fixed(Place place);
  /// An allocated block does not count for the limit, until `count` or `release_fixed`: it is kept
  /// by somebody who always has one.
  void uncount(Place place);
  void count(Place place);
  /// Whether `allocate` could ever succeed for one who keeps `besides` bytes.
  bool could_allocate(std::uint64_t size, std::uint64_t besides) const;
  /// What a block of `size` bytes counts for the limit.
  std::uint64_t block_bytes(std::uint64_t size) const { return 1ull << size_class(size); }
  /// Whether the limit allows one now, or when so many bytes are `allocated`.
  bool within_limit(std::uint64_t size) const { return within_limit(size, allocated_bytes()); }
  bool within_limit(std::uint64_t size, std::uint64_t allocated) const {
    return allocated + block_bytes(size) <= limit_for(block_bytes(size));
  }
  /// What of the limit is for blocks of at most kSmallBlock bytes alone: whoever holds much can't
  /// keep those out that need little. None of a limit below kLeastShared.
  static constexpr std::uint64_t kSmallBlock = 16384;
  static constexpr std::uint64_t kLeastShared = 32u << 20;
  std::uint64_t small_share() const {
    return options_.memory_limit < kLeastShared ? 0 : options_.memory_limit / 16;
  }
  /// The program gives a block back. False when it does not own it (a second release).
  static bool release(Place place);
  /// A received buffer with `length` bytes in it becomes the program's. What it held before behind
  /// them is cleared: a program that clones the whole of it sees no bytes of other connections.
  static void own(Place place, std::uint64_t length);
  /// From now on thread `owner` is the one to release it.
  static void assign(Place place, std::uint32_t owner);
  /// Releases whatever thread `owner` has not: it has died (rule T1).
  static void release_all_of(std::uint32_t owner);

  // For messages (any thread): a block that several have. It is as a program's until the last of
  // them lets it go, so operations can use it, but belongs to no thread: none releases it with what
  // it has, or alone. Each packet of a message has one hold of its block, wherever the packet lies;
  // so a message for many keys is there once.

  /// A block that thread `owner` owns is shared from now on, and the caller has its one hold. False
  /// when it is not that thread's.
  static bool share(Place place, std::uint32_t owner);
  /// So many holds more of a shared block. False, and none, when it is not shared, or `length`
  /// bytes are not all in it.
  static bool hold(Place place, std::uint64_t length, std::uint32_t times = 1);
  /// So many holds are over. With the last one it is free when no operation uses it.
  static void let_go(Place place, std::uint32_t times = 1);
  /// Whether the caller's hold is the only one, and no operation uses the block: then nobody but
  /// the caller can change that.
  static bool held_once(Place place);
  static bool same_block(Place a, Place b);

  // For operations (any thread).

  /// The memory at `place`, kept until `unuse`; null when it is not all inside one block that the
  /// program owns.
  static std::uint8_t* use(Place place, std::uint64_t length);
  static void unuse(Place place);
  /// Whether it lies in one of the buffers that a pool's receives share.
  static bool received(Place place);
  /// Whether an operation uses the block at `place`, now.
  static bool in_use(Place place);

  /// Whenever a receive buffer became free `wanted` is asked, with a lock of the pool held and the
  /// pool open, whether somebody is to be told; then `tell` is called, without. Set once, before
  /// any lane exists.
  void set_on_free(bool (*wanted)(void*), void (*tell)(void*), void* context);

  bool checked() const { return options_.check; }
  std::uint32_t free_buffers() const;
  const std::shared_ptr<std::atomic<std::uint64_t>>& allocated_keeper() const {
    return allocated_keeper_;
  }
  std::uint64_t limit() const { return options_.memory_limit; }
  /// What a handle may have to send before it has enough: its mark, or what is free of the limit,
  /// so that each leaves as much as it takes; but that much at least. lib/thread/outgoing.ts has
  /// the same.
  static constexpr std::uint64_t kLeastEnough = 64 * 1024;
  std::uint64_t enough(std::uint64_t mark) const {
    const std::uint64_t allocated = allocated_bytes();
    const std::uint64_t free = limit() - std::min(limit(), allocated);
    return std::min(mark, std::max(kLeastEnough, free));
  }
  std::uint64_t allocated_bytes() const { return allocated_.load(std::memory_order_relaxed); }
  /// The same; and whoever gives memory back later sees what this thread wrote before.
  std::uint64_t allocated_in_order() { return allocated_.fetch_add(0); }
  /// Of the blocks for programs: what of them takes up memory, given out or kept for the next.
  std::uint64_t resident_bytes() const;

  /// Nothing is given out any more; memory that nobody uses goes back to the system.
  void close();
  /// Whoever made the pool does not look at it any more, and has closed it. It goes with the last
  /// of its chunks.
  void let_go();
  /// Pools whose memory has not been freed.
  static std::size_t count();
  Chunk& receive_chunk() const { return *receive_; }

 private:
  static constexpr std::size_t kSizeClasses = 32;
  static constexpr std::size_t kSmallestLog = 12;
  /// Blocks of 4, 8, 16 and 32 KiB are kept in parts.
  static constexpr std::size_t kCachedClasses = 4;
  static constexpr std::size_t kParts = 16;

  /// Free memory that one thread takes from and gives back to, so that in steady state threads
  /// share no lock for it: the first place each looks, and no more than that. It belongs to nobody:
  /// who finds nothing in his part looks in all others, so no part can hoard what somebody starves
  /// for, and a thread that sleeps or dies has nothing to give back.
  struct alignas(64) Part {
    mutable SpinLock lock;
    std::vector<std::uint32_t> buffers;  ///< offsets in the receive chunk
    std::vector<Place> blocks[kCachedClasses];
    /// Sizes of `buffers`, for those who count without the lock.
    std::atomic<std::uint32_t> count{0};
    /// Whether any thread has used it: nobody counts those that none has.
    std::atomic<bool> used{false};
  };

  explicit BufferPool(const Options& options);
  ~BufferPool();
  std::size_t size_class(std::uint64_t size) const;
  /// What may be given out once a block of that size is. The whole of it for one that would not fit
  /// beside the share of the small ones.
  std::uint64_t limit_for(std::uint64_t block_size) const {
    const std::uint64_t limit = options_.memory_limit;
    if (block_size <= kSmallBlock || block_size > limit - small_share()) return limit;
    return limit - small_share();
  }
  bool grow(std::size_t block_size);
  bool take_free(std::size_t log, Place& out);
  bool take_owned(std::size_t log, std::uint32_t owner, Place& out);
  void make_room(std::uint64_t size);
  template <typename Agrees>
  static bool disown(Chunk& chunk, std::uint32_t offset, Agrees agrees);
  void freed(Chunk& chunk, std::uint32_t offset);
  Part& own_part();
  bool take_offset(Part& part, std::uint32_t& offset);
  bool fetch_buffers(Part& own, std::uint32_t& offset);
  bool put_buffer(std::uint32_t offset, bool& told);
  bool take_cached(std::size_t log, std::uint32_t owner, Place& out);
  bool fetch_blocks(std::size_t log);
  bool put_cached(Chunk& chunk, std::uint32_t start);
  void give_cached(std::size_t log);
  bool put_common(Chunk& chunk, std::uint32_t start, bool discarded);
  bool count_in(std::uint64_t size, bool beyond);
  void freed_in_closed(Chunk& chunk, std::uint32_t offset);
  bool asks_to_be_told() const { return wanted_ != nullptr && wanted_(on_free_context_); }

  const Options options_;
  Part parts_[kParts];
  mutable system::Mutex mutex_;
  Chunk* receive_ = nullptr;
  std::vector<Chunk*> chunks_;
  std::uint32_t reserve_next_ = 0;  ///< its first offset never used yet
  /// By logarithm of the block size. Those without pages have not been used since they were mapped
  /// or discarded.
  std::vector<Place> free_blocks_[kSizeClasses];
  std::vector<Place> free_without_pages_[kSizeClasses];
  std::uint64_t resident_ = 0;  ///< bytes of blocks with pages, given out or free
  /// Set with the mutex; after that every part's lock is taken once: see `close`.
  std::atomic<bool> closed_{false};
  /// JavaScript reads it, which may outlive the port.
  const std::shared_ptr<std::atomic<std::uint64_t>> allocated_keeper_ =
      std::make_shared<std::atomic<std::uint64_t>>(0);
  std::atomic<std::uint64_t>& allocated_ = *allocated_keeper_;
  std::atomic<std::uint32_t> lanes_{0};
  std::uint32_t most_lanes_ = 0;  ///< there ever were at one time
  std::uint32_t holders_ = 1;     ///< its chunks, and whoever made it; with the mutex
  bool (*wanted_)(void*) = nullptr;
  void (*tell_)(void*) = nullptr;
  void* on_free_context_ = nullptr;
};

}  // namespace cp
