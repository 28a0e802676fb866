#include "port/handle.h"

#include <algorithm>
#include <new>
#include <utility>

#include "port/idle_clock.h"
#include "port/memory.h"
#include "port/port.h"
#include "system/per_thread.h"

namespace cp {

void StreamQueue::push(Request* request) {
  request->next = nullptr;
  request->previous = last;
  (last == nullptr ? first : last->next) = request;
  last = request;
}

void StreamQueue::push_front(Request* request) {
  request->next = first;
  request->previous = nullptr;
  (first == nullptr ? last : first->previous) = request;
  first = request;
}

Request* StreamQueue::pop() {
  Request* request = first;
  if (request != nullptr) remove(request);
  return request;
}

/// Without a search: a close ends all that wait, however many they are.
bool StreamQueue::remove(Request* request) {
  if (request != first && request->previous == nullptr) return false;
  (request == first ? first : request->previous->next) = request->next;
  (request == last ? last : request->next->previous) = request->previous;
  request->next = request->previous = nullptr;
  return true;
}

void Handle::count_received(std::uint64_t bytes) {
  received += bytes;
  if (idle_timeout > 0) moved_at = driver::now();
}

void Handle::count_sent(std::uint64_t bytes) {
  sent += bytes;
  if (idle_timeout > 0) moved_at = driver::now();
}

void Handle::end_idling() {
  if (std::exchange(idle_timeout, 0) == 0) return;
  IdleClock::instance().forget(place);
  IdleClock::instance().let_go();
}

/// A receive that is held, because what it feeds has enough to send, is not active.
bool Handle::waits_for_peer() const {
  const bool receives = in.active != nullptr && in.active->state != Request::State::kStarved;
  return receives || out.active != nullptr;
}

void Handle::count_among(const std::shared_ptr<Connections>& accepted) {
  connections = accepted;
  connections->open.fetch_add(1);
}

void Handle::leave_listener() {
  if (connections == nullptr) return;
  if (kind != HandleKind::kListener) connections->open.fetch_sub(1);
  connections.reset();
}

void Handle::link(Request* request) {
  request->handle = this;
  request->handle_previous = nullptr;
  request->handle_next = requests;
  if (requests != nullptr) requests->handle_previous = request;
  requests = request;
  if (idle_timeout > 0 && in_flight == 0) moved_at = driver::now();
  ++in_flight;
  if (!request->sends()) return;
  const bool of_file = request->kind == PacketKind::kSendFile;
  request->queued = of_file ? std::min(request->total, Outgoing::kOfFile) : request->total;
  outgoing->begin_send(request->queued);
}

void Handle::unlink(Request* request) {
  if (request->handle_previous != nullptr) {
    request->handle_previous->handle_next = request->handle_next;
  } else {
    requests = request->handle_next;
  }
  if (request->handle_next != nullptr) {
    request->handle_next->handle_previous = request->handle_previous;
  }
  request->handle_previous = request->handle_next = nullptr;
  --in_flight;
  if (!request->sends()) return;
  outgoing->end_send(request->queued);
}

driver::Descriptor SharedFile::let_go(SharedFile* file) {
  if (file == nullptr || file->holders.fetch_sub(1, std::memory_order_acq_rel) > 1) {
    return driver::kNoDescriptor;
  }
  const driver::Descriptor descriptor = file->descriptor;
  delete file;
  return descriptor;
}

SharedFile& Handle::share() {
  if (shared == nullptr) shared = new SharedFile(descriptor);
  shared->hold();
  return *shared;
}

void Handle::end_sharing() {
  if (shared != nullptr) descriptor = SharedFile::let_go(std::exchange(shared, nullptr));
}

void Handle::begin_closing() {
  port.load()->handle_list().begin_closing(*this);
  closing = true;
  end_idling();
}

void Handle::close_unasked() {
  begin_closing();
  close = new_close();
  close->silent = true;
  close->handle = this;
}

StreamQueue* Handle::queue_of(const Request& request) {
  switch (traits(request.kind).flow) {
    case Flow::kNone:
      return nullptr;
    case Flow::kIn:
      return &in;
    case Flow::kOut:
      return &out;
    case Flow::kInOfStream:
      return request.stream ? &in : nullptr;
    case Flow::kOutOfStream:
      return request.stream ? &out : nullptr;
  }
  return nullptr;
}

// ---- the handles of a port --------------------------------------------------------------------

void HandleList::add(Handle& handle) {
  Part& part = part_of(handle);
  std::lock_guard lock(part.mutex);
  handle.list_previous = nullptr;
  handle.list_next = part.first;
  if (part.first != nullptr) part.first->list_previous = &handle;
  part.first = &handle;
  ++part.open;
  ++part.all;
  if (part.ended) port_.hold();
}

void HandleList::remove(Handle& handle) {
  Part& part = part_of(handle);
  bool held = false;
  {
    std::lock_guard lock(part.mutex);
    Handle*& before =
        handle.list_previous == nullptr ? part.first : handle.list_previous->list_next;
    before = handle.list_next;
    if (handle.list_next != nullptr) handle.list_next->list_previous = handle.list_previous;
    if (!handle.closing) --part.open;
    --part.all;
    held = part.ended;
  }
  if (held) port_.let_go();
}

void HandleList::end() {
  for (Part& part : parts_) {
    std::lock_guard lock(part.mutex);
    part.ended = true;
    port_.hold(part.all);
  }
}

void HandleList::begin_closing(Handle& handle) {
  Part& part = part_of(handle);
  std::lock_guard lock(part.mutex);
  --part.open;
}

std::size_t HandleList::open() const {
  std::size_t open = 0;
  for (const Part& part : parts_) {
    std::lock_guard lock(part.mutex);
    open += part.open;
  }
  return open;
}

std::vector<Handle*> HandleList::all() const {
  std::vector<Handle*> all;
  for (const Part& part : parts_) {
    std::lock_guard lock(part.mutex);
    for (Handle* handle = part.first; handle != nullptr; handle = handle->list_next) {
      all.push_back(handle);
    }
  }
  return all;
}

// ---- the handles of the process ---------------------------------------------------------------

namespace {

constexpr std::size_t kMostGivenBack = 2 * std::size_t{kPlacesTogether};

/// The calling thread's places: those it takes next, and those that came free. Two lists, so that a
/// place which came free goes through the hands of the process before it is used again. Without a
/// destructor: see the cache of requests.
struct Places {
  std::uint32_t fetched[kPlacesTogether];
  std::size_t fetched_count = 0;
  std::uint32_t freed[kMostGivenBack];
  std::size_t freed_count = 0;
};
CP_PER_THREAD(Places, places)

}  // namespace

HandleTable& HandleTable::instance() {
  static HandleTable* const table = new HandleTable;  // leaked: threads may outlive static objects
  return *table;
}

/// Address space that costs nothing until a place is used.
HandleTable::HandleTable() : outgoing_(static_cast<Outgoing*>(reserve_memory(outgoing_size()))) {
  if (outgoing_ == nullptr) throw std::bad_alloc();
}

/// The lowest comes first. With the mutex.
void HandleTable::take_fresh() {
  const std::uint32_t first = used_.load(std::memory_order_relaxed);
  if (first == kMostPlaces) return;
  if (first % kBlock == 0) {
    auto* block = new Handle[kBlock];
    for (std::uint32_t i = 0; i < kBlock; ++i) block[i].place = first + i;
    blocks_[first / kBlock].store(block, std::memory_order_release);
  }
  for (std::uint32_t i = kPlacesTogether; i-- > 0;) {
    if (first + i != 0) places().fetched[places().fetched_count++] = first + i;
  }
  used_.store(first + kPlacesTogether, std::memory_order_release);
}

/// False when all places of the process are in use, but for a few that other threads have at hand.
bool HandleTable::fetch_places() {
  std::lock_guard lock(mutex_);
  if (free_.size() < kPlacesTogether) take_fresh();
  while (places().fetched_count < kPlacesTogether && !free_.empty()) {
    places().fetched[places().fetched_count++] = free_.front();
    free_.pop_front();
  }
  if (places().fetched_count == 0 && places().freed_count > 0) {
    places().fetched[places().fetched_count++] = places().freed[--places().freed_count];
  }
  return places().fetched_count > 0;
}

/// Those that came free first.
void HandleTable::give_back(std::size_t count) {
  {
    std::lock_guard lock(mutex_);
    free_.insert(free_.end(), places().freed, places().freed + count);
  }
  std::copy(places().freed + count, places().freed + places().freed_count, places().freed);
  places().freed_count -= count;
}

void HandleTable::return_spares() {
  give_back(places().freed_count);
  std::lock_guard lock(mutex_);
  free_.insert(free_.end(), places().fetched, places().fetched + places().fetched_count);
  places().fetched_count = 0;
}

Handle* HandleTable::create(HandleId& name) {
  name = 0;
  if (places().fetched_count == 0 && !fetch_places()) return nullptr;
  Handle* handle = at(places().fetched[--places().fetched_count]);
  name = static_cast<HandleId>(++handle->uses) << kPlaceBits | handle->place;
  handle->file_kind = driver::FileKind::kRegular;
  handle->pollable = handle->direct = handle->append = handle->keyed = handle->accept_keyed = false;
  handle->messages = false;
  handle->closing = handle->likely_empty = handle->reset = handle->timed_out = false;
  handle->long_in_a_row = 0;
  handle->descriptor = driver::kNoDescriptor;
  handle->descriptor_id = 0;
  handle->key = 0;
  handle->received = handle->sent = 0;
  handle->idle_timeout = 0;
  handle->port.store(nullptr);
  handle->owner = 0;
  handle->in_flight = 0;
  handle->requests = handle->close = nullptr;
  handle->in = handle->out = StreamQueue{};
  handle->shared = nullptr;
  handle->outgoing = new (&outgoing_[handle->place]) Outgoing;
  handle->wants_drain = false;
  handle->feeders.clear();
  return handle;
}

void HandleTable::free(Handle* handle) {
  handle->id = 0;
  handle->path.reset();
  take_back(handle);
}

void HandleTable::take_back(Handle* handle) {
  handle->leave_listener();
  handle->end_idling();
  if (Port* port = handle->port.exchange(nullptr)) port->handle_list().remove(*handle);
  if (handle->uses == UINT32_MAX) return;  // its names are used up
  if (places().freed_count == kMostGivenBack) give_back(kPlacesTogether);
  places().freed[places().freed_count++] = handle->place;
}

Handle* HandleTable::find(HandleId id) const {
  const auto place = static_cast<std::uint32_t>(id & (kMostPlaces - 1));
  if (place == 0 || place >= used_.load(std::memory_order_acquire)) return nullptr;
  return at(place);
}

}  // namespace cp
