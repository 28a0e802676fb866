#include "stage/stash.h"

#include <cstring>
#include <utility>

#include "driver/errno.h"

namespace cp::stage {

bool holds(const Piece& piece) {
  if (BufferPool::use(piece.place, piece.length) == nullptr) return false;
  BufferPool::unuse(piece.place);
  return true;
}

bool stash(Cargo* cargo, const Piece& piece) {
  if (cargo == nullptr || !holds(piece)) {
    BufferPool::release(piece.place);
    return false;
  }
  Received bytes(piece);
  bytes.set_aside();
  cargo->stash.push_back(std::move(bytes));
  return true;
}

std::int64_t unread(Thread& thread, Cargo* cargo, const std::uint8_t* bytes, std::uint32_t length,
                    bool merges) {
  if (cargo == nullptr) return kErrorHandleClosed;
  merges = merges && !cargo->stash.empty();
  const std::uint32_t behind = merges ? cargo->stash.front().size() : 0;
  Place place;
  if (!thread.allocate(length + behind, place)) return -ENOMEM;
  std::uint8_t* out = address_of(place);
  std::memcpy(out, bytes, length);
  if (merges) {
    std::memcpy(out + length, cargo->stash.front().bytes(), behind);
    cargo->stash.pop_front();
  }
  Received piece(Piece{place, length + behind});
  piece.set_aside();
  cargo->stash.push_front(std::move(piece));
  return 0;
}

std::int64_t unstash(Thread& thread, Cargo* cargo, std::size_t count, Place& out) {
  if (cargo == nullptr || cargo->stash.size() < count) return 0;
  std::uint32_t length = 0;
  for (std::size_t i = 0; i < count; ++i) length += cargo->stash[i].size();
  out = cargo->stash.front().place();
  if (count > 1 || out.chunk == driver::kNoChunk) {
    if (!thread.allocate(length, out)) return -ENOMEM;
    const Chunk& chunk = *Chunk::find(out.chunk);
    std::uint8_t* to = chunk.base() + out.offset;
    for (std::size_t i = 0; i < count; ++i) {
      const Received& bytes = cargo->stash[i];
      std::memcpy(to, bytes.bytes(), bytes.size());
      to += bytes.size();
    }
    // The program is lent the block: nothing of who had it before.
    std::memset(to, 0, chunk.block_size() - length);
  } else {
    out = cargo->stash.front().let_go();
    BufferPool::assign(out, thread.number());
  }
  for (std::size_t i = 0; i < count; ++i) cargo->stash.pop_front();
  return length;
}

}  // namespace cp::stage
