#include "stage/cargo.h"

#include <atomic>
#include <cstring>
#include <utility>

namespace cp::stage {
namespace {

/// Bytes of a buffer, as a part of it, that are always worth a copy; more than these are only while
/// buffers are scarce.
constexpr std::uint32_t kFewPart = 4;
/// A pool's buffers are scarce while fewer of them are free than one in this many.
constexpr std::uint32_t kScarcePart = 4;
/// Bytes of all copies of the process at one time.
constexpr std::uint64_t kMostCopied = 64u << 20;

std::atomic<std::uint64_t> copied{0};

bool buffers_are_scarce(const Chunk& chunk) {
  const BufferPool& pool = chunk.pool();
  return &chunk == &pool.receive_chunk() && pool.free_buffers() * kScarcePart < chunk.blocks();
}

}  // namespace

Received Received::copy_of(const std::uint8_t* bytes, std::uint32_t size) {
  Received out(Piece{{driver::kNoChunk, 0}, size});
  out.copy_ = std::make_unique<std::uint8_t[]>(size);
  std::memcpy(out.copy_.get(), bytes, size);
  copied.fetch_add(size, std::memory_order_relaxed);
  return out;
}

Received& Received::operator=(Received&& other) noexcept {
  Received taken(std::move(other));
  swap(taken);
  return *this;
}

Received::~Received() {
  if (copy_) copied.fetch_sub(end_, std::memory_order_relaxed);
  if (block_.chunk != driver::kNoChunk) BufferPool::release(block_);
}

void Received::swap(Received& other) noexcept {
  std::swap(block_, other.block_);
  std::swap(at_, other.at_);
  std::swap(end_, other.end_);
  std::swap(copy_, other.copy_);
}

const std::uint8_t* Received::bytes() const {
  if (copy_) return copy_.get() + at_;
  return address_of(block_) + at_;
}

Place Received::place() const { return copy_ ? Place{} : Place{block_.chunk, block_.offset + at_}; }

Place Received::let_go() {
  const Place place = this->place();
  block_ = {};
  return place;
}

void Received::set_aside() {
  if (copy_ || block_.chunk == driver::kNoChunk) return;
  BufferPool::assign(block_, 0);
  const Chunk& chunk = *Chunk::find(block_.chunk);
  const std::uint32_t size = this->size();
  if (size * kFewPart > chunk.block_size() && !buffers_are_scarce(chunk)) return;
  if (copied.fetch_add(size, std::memory_order_relaxed) + size > kMostCopied) {
    copied.fetch_sub(size, std::memory_order_relaxed);
    return;
  }
  auto copy = std::make_unique<std::uint8_t[]>(size);
  std::memcpy(copy.get(), bytes(), size);
  BufferPool::release(block_);
  block_ = {};
  copy_ = std::move(copy);
  at_ = 0;
  end_ = size;
}

void Cargo::drop_messages() {
  for (const Packet& message : messages) {
    if (message.shares()) BufferPool::let_go({message.chunk, message.offset});
  }
  messages.clear();
}

}  // namespace cp::stage
