#include "port/handle.h"

#include <utility>

namespace cp {

void Direction::push(Request* request) {
  request->next = nullptr;
  (last == nullptr ? first : last->next) = request;
  last = request;
}

void Direction::push_front(Request* request) {
  request->next = first;
  first = request;
  if (last == nullptr) last = request;
}

Request* Direction::pop() {
  Request* request = first;
  if (request == nullptr) return nullptr;
  first = request->next;
  if (first == nullptr) last = nullptr;
  request->next = nullptr;
  return request;
}

bool Direction::remove(Request* request) {
  Request* previous = nullptr;
  for (Request* r = first; r != nullptr; previous = r, r = r->next) {
    if (r != request) continue;
    (previous == nullptr ? first : previous->next) = r->next;
    if (last == r) last = previous;
    r->next = nullptr;
    return true;
  }
  return false;
}

void Handle::link(Request* request) {
  request->handle = this;
  request->handle_previous = nullptr;
  request->handle_next = requests;
  if (requests != nullptr) requests->handle_previous = request;
  requests = request;
  ++in_flight;
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

void Handle::close_unasked() {
  closing = true;
  close = new_close();
  close->silent = true;
  close->handle = this;
}

Direction* Handle::direction(const Request& request) {
  switch (request.code) {
    case driver::Opcode::kReceive:
    case driver::Opcode::kAccept:
      return &in;
    case driver::Opcode::kSend:
    case driver::Opcode::kSendFile:
    case driver::Opcode::kShutdown:
      return &out;
    case driver::Opcode::kRead:
      return request.stream ? &in : nullptr;
    case driver::Opcode::kWrite:
      return request.stream ? &out : nullptr;
    default:
      return nullptr;
  }
}

HandleTable& HandleTable::instance() {
  static HandleTable* const table = new HandleTable;  // leaked: threads may outlive static objects
  return *table;
}

/// A free index and the generation of its next use; 0 when there is none.
std::uint32_t HandleTable::next_name() {
  std::lock_guard lock(mutex_);
  std::uint32_t index = 0;
  if (free_head_ < free_.size()) {
    index = free_[free_head_++];
    if (free_head_ > 4096 && free_head_ * 2 > free_.size()) {
      free_.erase(free_.begin(), free_.begin() + static_cast<std::ptrdiff_t>(free_head_));
      free_head_ = 0;
    }
  } else {
    index = used_.load(std::memory_order_relaxed);
    if (index == kMaxIndex) return 0;
    if (index % kBlock == 0 || index == 1) {
      blocks_[index / kBlock].store(new Handle[kBlock], std::memory_order_release);
    }
    if (generations_.size() <= index) generations_.resize(index + 1);
    used_.store(index + 1, std::memory_order_release);
  }
  std::uint16_t& generation = generations_[index];
  generation = static_cast<std::uint16_t>((generation + 1) & 0xfff);
  return index | (static_cast<std::uint32_t>(generation) << kIndexBits);
}

Handle* HandleTable::create(std::uint32_t& name_out) {
  const std::uint32_t name = next_name();
  name_out = name;
  if (name == 0) return nullptr;
  Handle* handle = at(name & (kMaxIndex - 1));
  handle->file_kind = driver::FileKind::kRegular;
  handle->pollable = handle->direct = handle->keyed = handle->accept_keyed = false;
  handle->closing = handle->likely_empty = handle->reset = false;
  handle->descriptor = driver::kNoDescriptor;
  handle->descriptor_id = 0;
  handle->key = 0;
  handle->received = 0;
  handle->port.store(nullptr);
  handle->owner = nullptr;
  handle->in_flight = 0;
  handle->requests = handle->close = nullptr;
  handle->in = handle->out = Direction{};
  handle->shared = nullptr;
  return handle;
}

void HandleTable::free(Handle* handle) {
  const std::uint32_t name = handle->id;
  handle->id = 0;
  take_back(handle, name);
}

void HandleTable::take_back(Handle* handle, std::uint32_t name) {
  handle->port.store(nullptr);
  std::lock_guard lock(mutex_);
  free_.push_back(name & (kMaxIndex - 1));
}

Handle* HandleTable::find(std::uint32_t id) const {
  const std::uint32_t index = id & (kMaxIndex - 1);
  if (index == 0 || index >= used_.load(std::memory_order_acquire)) return nullptr;
  return at(index);
}

}  // namespace cp
