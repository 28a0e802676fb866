#include "port/request.h"

#include <mutex>
#include <utility>
#include <vector>

#include "system/mutex.h"
#include "system/per_thread.h"

namespace cp {
namespace {

constexpr std::size_t kCacheLimit = 256;
/// Requests that a thread takes from the depot, and gives to it, at one time.
constexpr std::size_t kTogether = 64;

/// Some free requests, linked.
struct Bundle {
  Request* first = nullptr;
  std::size_t count = 0;
};

/// Leaked on purpose: threads may still run while the process's static objects are destroyed.
struct Depot {
  system::Mutex mutex;
  std::vector<Bundle> bundles;
};
Depot& depot() {
  static Depot* const instance = new Depot;
  return *instance;
}

/// A few free requests at hand for each thread, so that in steady state threads share no lock for
/// them, also where one submits what another finishes. Without a destructor: with MinGW-w64 that of
/// a thread's variable runs when its memory is gone already (GCC bug 80816).
struct Cache {
  Request* free = nullptr;
  std::size_t count = 0;

  Request* pop() {
    Request* request = free;
    free = request->next;
    --count;
    return request;
  }
  void push(Request* request) {
    request->next = free;
    free = request;
    ++count;
  }
  /// The last that came, which are in the processor's caches, stay.
  void give(std::size_t given) {
    Request* last = nullptr;
    for (std::size_t kept = count - given; kept > 0; --kept) {
      last = last == nullptr ? free : last->next;
    }
    Request*& first = last == nullptr ? free : last->next;
    {
      std::lock_guard lock(depot().mutex);
      depot().bundles.push_back({first, given});
    }
    first = nullptr;
    count -= given;
  }
  void fetch() {
    std::lock_guard lock(depot().mutex);
    if (depot().bundles.empty()) return;
    free = depot().bundles.back().first;
    count = depot().bundles.back().count;
    depot().bundles.pop_back();
  }
};
CP_PER_THREAD(Cache, cache)

}  // namespace

void Slices::add(const driver::Slice& slice, Place place) {
  if (count_++ == 0) {
    slice_ = slice;
    place_ = place;
    return;
  }
  if (!spread_) {
    if (!many_) many_ = std::make_unique<Many>();
    spread_ = true;
    many_->slices.push_back(slice_);
    many_->places.push_back(place_);
  }
  many_->slices.push_back(slice);
  many_->places.push_back(place);
}

void Slices::drop(std::size_t count) {
  count_ -= static_cast<std::uint32_t>(count);
  if (!spread_) return;
  const auto first = many_->slices.begin();
  many_->slices.erase(first, first + static_cast<std::ptrdiff_t>(count));
}

void Slices::replace(std::size_t i, const driver::Slice& slice, Place place) {
  data()[i] = slice;
  (spread_ ? many_->places[i] : place_) = place;
}

void Slices::clear() {
  count_ = 0;
  spread_ = false;
  place_ = {};
  if (!many_) return;
  many_->slices.clear();  // keeps their room for the next life
  many_->places.clear();
}

void return_spare_requests() {
  if (cache().count > 0) cache().give(cache().count);
}

Request* new_request() {
  if (cache().free == nullptr) cache().fetch();
  Request* request = cache().free != nullptr ? cache().pop() : new Request;
  request->next = nullptr;
  return request;
}

bool Parcel::take(Place taken, std::size_t size) {
  std::uint8_t* const base = BufferPool::use(taken, size);
  BufferPool::release(taken);
  if (base == nullptr) return false;
  place_ = taken;
  bytes = {base, size};
  return true;
}

void Parcel::give_back() {
  bytes = {};
  const Place taken = std::exchange(place_, Place());
  if (taken.chunk != driver::kNoChunk) BufferPool::unuse(taken);
}

Request* new_close() {
  Request* request = new_request();
  request->kind = PacketKind::kClose;
  request->code = driver::Opcode::kClose;
  return request;
}

void recycle(Request* request) {
  request->generation = request->generation + 1;
  const std::uint16_t lane_generation = request->lane_generation;
  static_cast<driver::Operation&>(*request) = driver::Operation{};
  request->lane_generation = lane_generation;  // counts across lives: see UringLane
  request->kind = PacketKind::kNone;
  request->state = Request::State::kFree;
  request->end = Request::End::kNatural;
  request->awaited = request->silent = request->quiet = false;
  request->moving = request->chained = request->keyed = false;
  request->pausing = request->told_full = request->stall = request->keeps = false;
  request->handle_id = 0;
  request->key = 0;
  request->token = request->tag = 0;
  request->handle = nullptr;
  request->owner = nullptr;
  request->runner = nullptr;
  request->runner_index = 0;
  request->done = request->total = request->queued = 0;
  request->feeder = 0;
  request->memory.clear();
  request->source = 0;
  request->shared = nullptr;
  request->details.reset();
  request->timeout = 0;
  request->timer = request->firing = nullptr;
  request->chain = request->previous = nullptr;
  request->handle_previous = request->handle_next = nullptr;
  cache().push(request);
  if (cache().count == kCacheLimit) cache().give(kTogether);
}

}  // namespace cp
