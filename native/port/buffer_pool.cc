#include "port/buffer_pool.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>
#include <deque>
#include <iterator>
#include <map>
#include <tuple>

#include "port/memory.h"
#include "system/mutex.h"
#include "system/per_thread.h"

namespace cp {
namespace {

// A block's word: the thread that is to release it, whether the program owns it, and how many
// operations use it; of a shared one how many hold it, in place of the thread. One word, so that
// each of them changes together with the others.
constexpr std::uint64_t kUses = (1ull << 30) - 1;
constexpr std::uint64_t kShared = 1ull << 30;  ///< only where kOwned is, too
constexpr std::uint64_t kOwned = 1ull << 31;
constexpr unsigned kOwnerShift = 32;
constexpr std::uint64_t kOneHold = 1ull << kOwnerShift;

std::uint64_t owned_by(std::uint32_t owner) {
  return static_cast<std::uint64_t>(owner) << kOwnerShift | kOwned;
}
/// Small blocks are cut from chunks of this size, which is also what registering with the kernel
/// pins at one time.
constexpr std::size_t kChunkSize = 4u << 20;
/// Blocks from this size on give their pages back when they are freed.
constexpr std::size_t kDiscardSize = 32u << 20;
static_assert(kDiscardSize > driver::kLargestRegistered);
constexpr std::uint64_t kLargestBlock = 1ull << 31;
/// What a free block holds when that is checked.
constexpr int kFreed = 0xdb;
/// Buffers beyond the configured count, one for every lane.
constexpr std::uint32_t kReserve = 1024;
/// Free buffers that a thread fetches at one time for later; and small blocks.
constexpr std::size_t kFetched = 31;
/// Free small blocks of one size that a part keeps.
constexpr std::size_t kMostCached = 64;
/// Descriptions of chunks of one kind that have to be given up before the first serves another.
constexpr std::size_t kResting = 16;

/// Tells in which part a thread looks first: the same one in every pool.
struct PartNumber {
  static inline std::atomic<std::uint32_t> next{0};
  const std::uint32_t value = next.fetch_add(1, std::memory_order_relaxed);
};
CP_PER_THREAD(PartNumber, part_number)

/// Chunks by number, in blocks that are never moved or freed: lookups need no lock. Null: gone.
struct Registry {
  static constexpr std::uint32_t kBlock = 1024;
  static constexpr std::uint32_t kBlocks = 4096;
  system::Mutex mutex;
  std::atomic<std::atomic<Chunk*>*> blocks[kBlocks] = {};
  std::atomic<std::uint32_t> count{0};
  std::vector<Chunk*> live;
  /// By size, size of their blocks and whether those are receive buffers; in the order in which
  /// they were given up.
  using Kind = std::tuple<std::size_t, std::size_t, bool>;
  std::map<Kind, std::deque<Chunk*>> resting;
  std::atomic<std::size_t> pools{0};

  std::vector<Chunk*> all() {
    std::lock_guard lock(mutex);
    return live;
  }
  Chunk* rested(const Kind& kind) {
    const auto found = resting.find(kind);
    if (found == resting.end() || found->second.size() < kResting) return nullptr;
    Chunk* chunk = found->second.front();
    found->second.pop_front();
    return chunk;
  }
};
Registry& registry() {
  static Registry* const instance = new Registry;
  return *instance;
}

}  // namespace

Chunk::Chunk(std::size_t size, std::size_t block_size, bool receives)
    : size_(size), block_size_(block_size), receives_(receives), words_(size / block_size) {}

Chunk* Chunk::make(BufferPool& pool, std::size_t size, std::size_t block_size, bool receives) {
  void* base = reserve_memory(size);
  if (base == nullptr) return nullptr;
  Registry& all = registry();
  std::lock_guard lock(all.mutex);
  const std::uint32_t id = all.count.load(std::memory_order_relaxed);
  if (id == Registry::kBlock * Registry::kBlocks) {
    free_memory(base, size);
    return nullptr;
  }
  auto& block = all.blocks[id / Registry::kBlock];
  if (id % Registry::kBlock == 0) {
    block.store(new std::atomic<Chunk*>[Registry::kBlock](), std::memory_order_release);
  }
  Chunk* chunk = all.rested({size, block_size, receives});
  if (chunk == nullptr) chunk = new Chunk(size, block_size, receives);
  chunk->id_ = id;
  chunk->base_ = static_cast<std::uint8_t*>(base);
  chunk->registered_ = false;
  chunk->pool_.store(&pool, std::memory_order_relaxed);
  chunk->pooled_.store(true);
  chunk->pins_.store(1);
  chunk->live_index_ = static_cast<std::uint32_t>(all.live.size());
  all.live.push_back(chunk);
  block.load(std::memory_order_relaxed)[id % Registry::kBlock].store(chunk);
  all.count.store(id + 1, std::memory_order_release);
  return chunk;
}

Chunk* Chunk::find(std::uint32_t id) {
  Registry& all = registry();
  if (id >= all.count.load(std::memory_order_acquire)) return nullptr;
  return all.blocks[id / Registry::kBlock].load(std::memory_order_acquire)[id % Registry::kBlock];
}

bool Chunk::pin() {
  std::uint32_t pins = pins_.load();
  while (pins > 0) {
    if (pins_.compare_exchange_weak(pins, pins + 1)) return true;
  }
  return false;
}

void Chunk::unpin() {
  if (pins_.fetch_sub(1) > 1) return;
  free_memory(base_, size_);
  Registry& all = registry();
  std::lock_guard lock(all.mutex);
  all.blocks[id_ / Registry::kBlock].load()[id_ % Registry::kBlock].store(nullptr);
  all.live[live_index_] = all.live.back();
  all.live[live_index_]->live_index_ = live_index_;
  all.live.pop_back();
  all.resting[{size_, block_size_, receives_}].push_back(this);
}

bool Chunk::idle() const {
  return std::all_of(words_.begin(), words_.end(), [](const auto& word) { return word == 0; });
}

BufferPool::BufferPool(const Options& options) : options_(options) {
  registry().pools.fetch_add(1);
}
BufferPool::~BufferPool() { registry().pools.fetch_sub(1); }

std::size_t BufferPool::count() { return registry().pools.load(); }

BufferPool* BufferPool::make(const Options& options) {
  auto* pool = new BufferPool(options);
  const std::size_t count = static_cast<std::size_t>(options.buffer_count) + kReserve;
  pool->receive_ = Chunk::make(*pool, count * options.buffer_size, options.buffer_size, true);
  if (pool->receive_ == nullptr) {
    delete pool;
    return nullptr;
  }
  pool->receive_->filled_.assign(count, 0);
  pool->chunks_.push_back(pool->receive_);
  ++pool->holders_;
  // Popped from the end: low addresses first, so that a quiet port touches few pages.
  bool told = false;
  for (std::uint32_t i = options.buffer_count; i-- > 0;) {
    pool->put_buffer(i * options.buffer_size, told);
  }
  pool->reserve_next_ = options.buffer_count * options.buffer_size;
  return pool;
}

bool BufferPool::chunk(std::uint32_t index, driver::Slice& out) const {
  Chunk* found = Chunk::find(index);
  const bool mine = found != nullptr && found->pool_.load(std::memory_order_relaxed) == this;
  if (!mine || found->receives_) return false;
  std::lock_guard lock(mutex_);
  if (found->size() <= driver::kLargestRegistered) found->registered_ = true;
  out = {found->base(), found->size()};
  return true;
}

// ---- receive buffers --------------------------------------------------------------------------

BufferPool::Part& BufferPool::own_part() {
  Part& part = parts_[part_number().value % kParts];
  if (!part.used.load(std::memory_order_relaxed)) part.used.store(true);
  return part;
}

/// The part is locked, so that `close` either finds the buffer in it or finds it in use.
bool BufferPool::take_offset(Part& part, std::uint32_t& offset) {
  if (part.buffers.empty() || closed_.load(std::memory_order_relaxed)) return false;
  offset = part.buffers.back();
  part.buffers.pop_back();
  part.count.store(static_cast<std::uint32_t>(part.buffers.size()), std::memory_order_relaxed);
  receive_->word(offset).store(1, std::memory_order_relaxed);
  return true;
}

bool BufferPool::take(driver::Buffer& out) {
  Part& own = own_part();
  std::uint32_t offset = 0;
  bool taken = false;
  {
    std::lock_guard lock(own.lock);
    taken = take_offset(own, offset);
  }
  if (!taken && !fetch_buffers(own, offset)) return false;
  out = {receive_->id(), offset, receive_->base() + offset, options_.buffer_size};
  return true;
}

/// From the other parts, each with its lock, never two at a time: one to use, and up to half of
/// what is there, and 31, for the next. Those are in no part for a moment, and one who starves may
/// have found none because of that: it is told as if they had come free (`on_free`).
bool BufferPool::fetch_buffers(Part& own, std::uint32_t& offset) {
  std::uint32_t more[kFetched];
  for (Part& part : parts_) {
    if (&part == &own) continue;
    std::size_t count = 0;
    {
      std::lock_guard lock(part.lock);
      if (!take_offset(part, offset)) continue;
      const std::size_t wanted = std::min(kFetched, part.buffers.size() / 2);
      for (; count < wanted; ++count) {
        more[count] = part.buffers.back();
        part.buffers.pop_back();
      }
      part.count.store(static_cast<std::uint32_t>(part.buffers.size()), std::memory_order_relaxed);
    }
    if (count == 0) return true;
    bool tells = false;
    {
      std::lock_guard lock(own.lock);
      const bool kept = !closed_.load(std::memory_order_relaxed);
      if (kept)
        own.buffers.insert(own.buffers.end(), std::reverse_iterator(more + count),
                           std::reverse_iterator(more));
      own.count.store(static_cast<std::uint32_t>(own.buffers.size()), std::memory_order_relaxed);
      tells = kept && asks_to_be_told();
    }
    if (tells) tell_(on_free_context_);
    return true;
  }
  return false;
}

/// False when the pool is closed. What is true after it stays so until the lock is released, and no
/// longer: whoever closes the pool takes the lock of each part. `tells`: `tell_` is to be called.
bool BufferPool::put_buffer(std::uint32_t offset, bool& tells) {
  Part& own = own_part();
  std::lock_guard lock(own.lock);
  if (closed_.load(std::memory_order_relaxed)) return false;
  receive_->word(offset).store(0, std::memory_order_relaxed);
  own.buffers.push_back(offset);
  tells = asks_to_be_told();
  own.count.store(static_cast<std::uint32_t>(own.buffers.size()), std::memory_order_relaxed);
  return true;
}

void BufferPool::give_back(const driver::Buffer& buffer) { unuse({buffer.chunk, buffer.offset}); }

/// A lane may fill up to its share of what is free, and at least to one. The share leaves as much
/// for each other lane and for one yet to come.
std::uint32_t BufferPool::allowance(std::uint32_t held) {
  const std::uint32_t fair = (free_buffers() + held) / (lanes_.load(std::memory_order_relaxed) + 1);
  return std::max(1u, fair);
}

void BufferPool::add_lane() {
  bool tells = false;
  {
    std::lock_guard lock(mutex_);
    if (++lanes_ <= most_lanes_) return;
    most_lanes_ = lanes_;
    if (reserve_next_ + options_.buffer_size > receive_->size()) return;
    put_buffer(reserve_next_, tells);
    reserve_next_ += options_.buffer_size;
  }
  if (tells) tell_(on_free_context_);
}

void BufferPool::remove_lane() {
  std::lock_guard lock(mutex_);
  --lanes_;
}

/// Not by the counts: one who starves must not miss a buffer that came free before it was known
/// that he starves, and the lock of the part that the buffer lies in is what tells (see
/// Port::wake_starving).
bool BufferPool::available() const {
  return std::any_of(std::begin(parts_), std::end(parts_), [](const Part& part) {
    std::lock_guard lock(part.lock);
    return !part.buffers.empty();
  });
}

/// As they are found one after another: exact while nobody takes or gives.
std::uint32_t BufferPool::free_buffers() const {
  std::uint32_t free = 0;
  for (const Part& part : parts_) {
    if (part.used.load(std::memory_order_relaxed))
      free += part.count.load(std::memory_order_relaxed);
  }
  return free;
}

void BufferPool::set_on_free(bool (*wanted)(void*), void (*tell)(void*), void* context) {
  wanted_ = wanted;
  tell_ = tell;
  on_free_context_ = context;
}

// ---- allocated blocks -------------------------------------------------------------------------

std::size_t BufferPool::size_class(std::uint64_t size) const {
  return std::bit_width(std::max<std::uint64_t>(size, 1ull << kSmallestLog) - 1);
}

bool BufferPool::grow(std::size_t block_size) {
  Chunk* made = Chunk::make(*this, std::max(kChunkSize, block_size), block_size);
  if (made == nullptr) return false;
  auto& free = free_without_pages_[std::bit_width(block_size) - 1];
  for (std::size_t i = made->blocks(); i-- > 0;) {
    free.push_back({made->id(), static_cast<std::uint32_t>(i * block_size)});
  }
  chunks_.push_back(made);
  ++holders_;
  return true;
}

/// A block that has its pages rather than one that does not.
bool BufferPool::take_free(std::size_t log, Place& out) {
  std::vector<Place>* from = &free_blocks_[log];
  if (from->empty()) {
    const std::uint64_t block_size = 1ull << log;
    from = &free_without_pages_[log];
    if (from->empty() && !grow(block_size)) return false;
    if (resident_ + block_size > options_.memory_limit) make_room(block_size);
    resident_ += block_size;
  }
  out = from->back();
  from->pop_back();
  return true;
}

/// Free blocks of other sizes give their pages back, the largest first, until `size` bytes more are
/// within the limit: otherwise each size would come to keep as much as the limit allows. What rings
/// may hold on to is left, and blocks that share a page with others.
void BufferPool::make_room(std::uint64_t size) {
  for (std::size_t log = kSizeClasses; log-- > 0;) {
    const std::uint64_t block_size = 1ull << log;
    if (block_size < options_.page_size) return;
    if (log >= kSmallestLog && log < kSmallestLog + kCachedClasses) {
      for (Part& part : parts_) {
        std::vector<Place>& cached = part.blocks[log - kSmallestLog];
        std::lock_guard lock(part.lock);
        free_blocks_[log].insert(free_blocks_[log].end(), cached.begin(), cached.end());
        cached.clear();
      }
    }
    const auto discarded = [&](const Place& place) {
      Chunk& chunk = *Chunk::find(place.chunk);
      if (resident_ + size <= options_.memory_limit || chunk.registered_) return false;
      discard_memory(chunk.base() + place.offset, block_size);
      resident_ -= block_size;
      free_without_pages_[log].push_back(place);
      return true;
    };
    std::erase_if(free_blocks_[log], discarded);
  }
}

std::uint64_t BufferPool::resident_bytes() const {
  std::lock_guard lock(mutex_);
  return resident_;
}

bool BufferPool::could_allocate(std::uint64_t size, std::uint64_t besides) const {
  if (size > kLargestBlock) return false;
  const std::uint64_t kept = besides == 0 ? 0 : block_bytes(besides);
  return kept + block_bytes(size) <= options_.memory_limit;
}

/// Counts `size` bytes as allocated; false when the limit is reached.
bool BufferPool::count_in(std::uint64_t size, bool beyond) {
  const std::uint64_t limit = limit_for(size);
  std::uint64_t before = allocated_.load(std::memory_order_relaxed);
  do {
    if (beyond ? size > options_.memory_limit : before + size > limit) return false;
  } while (!allocated_.compare_exchange_weak(before, before + size, std::memory_order_relaxed));
  return true;
}

BufferPool::Allocation BufferPool::try_allocate(std::uint64_t size, std::uint32_t owner, Place& out,
                                                bool beyond) {
  if (size > kLargestBlock) return Allocation::kLimit;
  const std::size_t log = size_class(size);
  if (!count_in(1ull << log, beyond)) return Allocation::kLimit;
  bool taken = take_cached(log, owner, out) || (fetch_blocks(log) && take_cached(log, owner, out));
  if (!taken) {
    std::lock_guard lock(mutex_);
    taken = !closed_ && take_owned(log, owner, out);
  }
  if (taken) return Allocation::kDone;
  allocated_.fetch_sub(1ull << log, std::memory_order_relaxed);
  return Allocation::kRefused;
}

/// Of this thread's part.
bool BufferPool::take_cached(std::size_t log, std::uint32_t owner, Place& out) {
  if (log >= kSmallestLog + kCachedClasses) return false;
  Part& own = own_part();
  std::vector<Place>& cached = own.blocks[log - kSmallestLog];
  std::lock_guard lock(own.lock);
  if (cached.empty() || closed_.load(std::memory_order_relaxed)) return false;
  out = cached.back();
  cached.pop_back();
  Chunk::find(out.chunk)->word(out.offset).store(owned_by(owner), std::memory_order_release);
  return true;
}

/// Blocks that have their pages, from the common list. Locks in the order mutex, part.
bool BufferPool::fetch_blocks(std::size_t log) {
  if (log >= kSmallestLog + kCachedClasses) return false;
  Part& own = own_part();
  std::lock_guard lock(mutex_);
  std::vector<Place>& free = free_blocks_[log];
  if (free.empty() || closed_) return false;
  const std::size_t count = std::min(free.size(), kFetched + 1);
  std::lock_guard part_lock(own.lock);
  std::vector<Place>& cached = own.blocks[log - kSmallestLog];
  cached.insert(cached.end(), free.end() - static_cast<std::ptrdiff_t>(count), free.end());
  free.resize(free.size() - count);
  return true;
}

/// False when it is for the common list: the part has enough, or the pool is closed.
bool BufferPool::put_cached(Chunk& chunk, std::uint32_t start) {
  const auto log = static_cast<std::size_t>(std::bit_width(chunk.block_size()) - 1);
  if (log >= kSmallestLog + kCachedClasses) return false;
  Part& own = own_part();
  std::vector<Place>& cached = own.blocks[log - kSmallestLog];
  std::lock_guard lock(own.lock);
  if (cached.size() >= kMostCached || closed_.load(std::memory_order_relaxed)) return false;
  chunk.word(start).store(0, std::memory_order_relaxed);
  cached.push_back({chunk.id(), start});
  allocated_.fetch_sub(chunk.block_size());
  return true;
}

bool BufferPool::take_owned(std::size_t log, std::uint32_t owner, Place& out) {
  if (!take_free(log, out)) return false;
  Chunk::find(out.chunk)->word(out.offset).store(owned_by(owner), std::memory_order_release);
  return true;
}

bool BufferPool::allocate_fixed(std::uint64_t size, Place& out) {
  if (size > kLargestBlock) return false;
  std::lock_guard lock(mutex_);
  return !closed_ && take_owned(size_class(size), 0, out);
}

/// From here on it counts, until no operation uses it any more.
void BufferPool::release_fixed(Place place) {
  count(place);
  release(place);
}

void BufferPool::uncount(Place place) {
  const Chunk* chunk = Chunk::find(place.chunk);
  if (chunk != nullptr) allocated_.fetch_sub(chunk->block_size(), std::memory_order_relaxed);
}

void BufferPool::count(Place place) {
  const Chunk* chunk = Chunk::find(place.chunk);
  if (chunk != nullptr) allocated_.fetch_add(chunk->block_size(), std::memory_order_relaxed);
}

// ---- ownership --------------------------------------------------------------------------------

/// Ends the ownership where `agrees` says so of the word as it is at that very moment.
template <typename Agrees>
bool BufferPool::disown(Chunk& chunk, std::uint32_t offset, Agrees agrees) {
  std::atomic<std::uint64_t>& word = chunk.word(offset);
  std::uint64_t before = word.load();
  do {
    if ((before & kOwned) == 0 || !agrees(before)) return false;
  } while (!word.compare_exchange_weak(before, std::max<std::uint64_t>(1, before & kUses)));
  if ((before & kUses) == 0) chunk.pool().freed(chunk, offset);
  return true;
}

bool BufferPool::release(Place place) {
  Chunk* found = Chunk::find(place.chunk);
  if (found == nullptr || place.offset >= found->size()) return false;
  return disown(*found, place.offset, [](std::uint64_t word) { return (word & kShared) == 0; });
}

/// The lane's use of it becomes the program's ownership, of nobody until it is taken.
void BufferPool::own(Place place, std::uint64_t length) {
  Chunk& chunk = *Chunk::find(place.chunk);
  std::uint32_t& filled = chunk.filled_[place.offset / chunk.block_size()];
  if (filled > length) std::memset(chunk.base() + place.offset + length, 0, filled - length);
  filled = static_cast<std::uint32_t>(length);
  chunk.word(place.offset).store(kOwned, std::memory_order_release);
}

void BufferPool::assign(Place place, std::uint32_t owner) {
  Chunk* chunk = Chunk::find(place.chunk);
  if (chunk == nullptr) return;
  std::atomic<std::uint64_t>& word = chunk->word(place.offset);
  std::uint64_t before = word.load();
  do {
    if ((before & kOwned) == 0 || (before & kShared) != 0) return;
  } while (!word.compare_exchange_weak(before, owned_by(owner) | (before & kUses)));
}

void BufferPool::release_all_of(std::uint32_t owner) {
  const auto agrees = [owner](std::uint64_t word) {
    return (word & kShared) == 0 && word >> kOwnerShift == owner;
  };
  for (Chunk* chunk : registry().all()) {
    for (std::size_t block = 0; block < chunk->blocks(); ++block) {
      disown(*chunk, static_cast<std::uint32_t>(block * chunk->block_size()), agrees);
    }
  }
}

bool BufferPool::share(Place place, std::uint32_t owner) {
  Chunk* found = Chunk::find(place.chunk);
  if (found == nullptr || place.offset >= found->size() || found->receives_) return false;
  std::atomic<std::uint64_t>& word = found->word(place.offset);
  std::uint64_t before = word.load();
  do {
    const bool theirs = (before & ~kUses) == owned_by(owner);
    if (!theirs) return false;
  } while (!word.compare_exchange_weak(before, kOneHold | kOwned | kShared | (before & kUses)));
  return true;
}

/// Whoever calls holds it already, so it can't be freed meanwhile; or the place comes from a
/// program's array, and may name anything.
bool BufferPool::hold(Place place, std::uint64_t length, std::uint32_t times) {
  Chunk* found = Chunk::find(place.chunk);
  if (found == nullptr || place.offset >= found->size()) return false;
  if (place.offset % found->block_size() + length > found->block_size()) return false;
  std::atomic<std::uint64_t>& word = found->word(place.offset);
  std::uint64_t before = word.load();
  do {
    if ((before & kShared) == 0) return false;
  } while (!word.compare_exchange_weak(before, before + times * kOneHold));
  return true;
}

void BufferPool::let_go(Place place, std::uint32_t times) {
  Chunk* found = Chunk::find(place.chunk);
  std::atomic<std::uint64_t>& word = found->word(place.offset);
  std::uint64_t before = word.load();
  std::uint64_t after = 0;
  do {
    assert((before & kShared) != 0 && before >> kOwnerShift >= times);
    const bool last = before >> kOwnerShift == times;
    after = last ? std::max<std::uint64_t>(1, before & kUses) : before - times * kOneHold;
  } while (!word.compare_exchange_weak(before, after));
  const bool last = (after & kOwned) == 0;
  if (last && (before & kUses) == 0) found->pool().freed(*found, place.offset);
}

bool BufferPool::held_once(Place place) {
  return Chunk::find(place.chunk)->word(place.offset).load() == (kOneHold | kOwned | kShared);
}

bool BufferPool::same_block(Place a, Place b) {
  const Chunk* found = a.chunk == b.chunk ? Chunk::find(a.chunk) : nullptr;
  if (found == nullptr) return false;
  return a.offset / found->block_size() == b.offset / found->block_size();
}

std::uint8_t* BufferPool::use(Place place, std::uint64_t length) {
  Chunk* found = Chunk::find(place.chunk);
  if (found == nullptr || place.offset >= found->size()) return nullptr;
  const std::size_t within = place.offset % found->block_size();
  if (within + length > found->block_size()) return nullptr;
  std::atomic<std::uint64_t>& word = found->word(place.offset);
  std::uint64_t before = word.load();
  do {
    if ((before & kOwned) == 0) return nullptr;
  } while (!word.compare_exchange_weak(before, before + 1));
  return found->base() + place.offset;
}

bool BufferPool::received(Place place) {
  const Chunk* found = Chunk::find(place.chunk);
  return found != nullptr && found->receives_;
}

void BufferPool::unuse(Place place) {
  Chunk* found = Chunk::find(place.chunk);
  std::atomic<std::uint64_t>& word = found->word(place.offset);
  std::uint64_t before = word.load();
  while ((before & (kOwned | kUses)) != 1) {
    if (word.compare_exchange_weak(before, before - 1)) return;
  }
  found->pool().freed(*found, place.offset);
}

bool BufferPool::in_use(Place place) {
  Chunk* found = Chunk::find(place.chunk);
  return found != nullptr && (found->word(place.offset).load() & kUses) != 0;
}

/// Half of what this thread's part keeps becomes common, for threads that take more than they give.
/// The mutex is held.
void BufferPool::give_cached(std::size_t log) {
  if (log >= kSmallestLog + kCachedClasses) return;
  Part& own = own_part();
  std::vector<Place>& cached = own.blocks[log - kSmallestLog];
  std::lock_guard lock(own.lock);
  const std::size_t count = std::min(cached.size(), kFetched + 1);
  const auto first = cached.end() - static_cast<std::ptrdiff_t>(count);
  free_blocks_[log].insert(free_blocks_[log].end(), first, cached.end());
  cached.erase(first, cached.end());
}

/// Nobody owns it, and the one use is the caller's, who took the last of both away: nobody can use
/// or own it until it is in a list. It has the pool until then, and not a moment longer.
void BufferPool::freed(Chunk& chunk, std::uint32_t offset) {
  const std::size_t size = chunk.block_size();
  const auto start = static_cast<std::uint32_t>(offset - offset % size);
  if (options_.check) {
    std::memset(chunk.base() + start, kFreed, size);
    if (chunk.receives_) chunk.filled_[start / size] = static_cast<std::uint32_t>(size);
  }
  if (chunk.receives_) {
    bool tells = false;
    void (*const tell)(void*) = tell_;
    void* const context = on_free_context_;
    if (!put_buffer(start, tells)) return freed_in_closed(chunk, start);
    if (tells) tell(context);
    return;
  }
  const bool discard = size >= kDiscardSize;
  if (discard) discard_memory(chunk.base() + start, size);
  if (put_cached(chunk, start) || put_common(chunk, start, discard)) return;
  freed_in_closed(chunk, start);
}

/// False when the pool is closed.
bool BufferPool::put_common(Chunk& chunk, std::uint32_t start, bool discarded) {
  const std::size_t size = chunk.block_size();
  const auto log = static_cast<std::size_t>(std::bit_width(size) - 1);
  std::lock_guard lock(mutex_);
  if (closed_) return false;
  give_cached(log);
  chunk.word(start).store(0, std::memory_order_relaxed);
  (discarded ? free_without_pages_ : free_blocks_)[log].push_back({chunk.id(), start});
  if (discarded) resident_ -= size;
  allocated_.fetch_sub(size);
  return true;
}

/// The last of its blocks lets the chunk go, and the last chunk the pool.
void BufferPool::freed_in_closed(Chunk& chunk, std::uint32_t start) {
  bool last = false;
  {
    std::lock_guard lock(mutex_);
    if (!chunk.receives_) allocated_.fetch_sub(chunk.block_size());
    chunk.word(start).store(0);
    if (chunk.idle() && chunk.pooled_.exchange(false)) {
      chunk.unpin();
      last = --holders_ == 0;
    }
  }
  if (last) delete this;
}

void BufferPool::let_go() {
  bool last = false;
  {
    std::lock_guard lock(mutex_);
    last = --holders_ == 0;
  }
  if (last) delete this;
}

/// The port's threads have released what was theirs. A block that is still owned or used belongs to
/// a packet or an operation that went to another port with its handle: the last one lets its chunk
/// go.
void BufferPool::close() {
  std::lock_guard lock(mutex_);
  if (closed_) return;
  closed_ = true;
  // Whoever takes a lock of a part from now on sees that the pool is closed; what was put there
  // before is free, and what was taken is in use.
  for (Part& part : parts_) {
    std::lock_guard part_lock(part.lock);
    part.buffers.clear();
    part.count = 0;
    for (std::vector<Place>& cached : part.blocks) cached.clear();
  }
  for (Chunk* chunk : chunks_) {
    if (!chunk->idle()) continue;
    discard_memory(chunk->base(), chunk->size());
    if (!chunk->pooled_.exchange(false)) continue;
    chunk->unpin();
    --holders_;
  }
}

}  // namespace cp
