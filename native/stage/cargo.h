// What travels with a connection from stage to stage, out of JavaScript's reach: bytes nobody
// wanted yet, its document, the answer to it. Whoever holds the connection's key may touch it.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "port/buffer_pool.h"
#include "port/packet.h"

namespace cp::stage {

/// Bytes in a block of the pool, owned by whoever has the piece.
struct Piece {
  Place place;
  std::uint32_t length = 0;
};

/// Received bytes of which some are still to be taken. They lie in the buffer that they were
/// received into, which goes back when this ends; or, set aside, in memory of their own.
class Received {
 public:
  Received(const Piece& piece)  // NOLINT(google-explicit-constructor): it is what a piece becomes
      : block_(piece.place), end_(piece.length) {}
  /// Set aside from the beginning, in memory of their own.
  static Received copy_of(const std::uint8_t* bytes, std::uint32_t size);
  Received(Received&& other) noexcept { swap(other); }
  Received& operator=(Received&& other) noexcept;
  ~Received();

  const std::uint8_t* bytes() const;
  std::uint32_t size() const { return end_ - at_; }
  void drop_front(std::size_t count) { at_ += static_cast<std::uint32_t>(count); }

  /// Where they lie in the pool; kNoChunk: nowhere, they have been set aside.
  Place place() const;
  /// The same, and from now on the caller's to release.
  Place let_go();

  /// They are going to wait. A few bytes must not keep a whole receive buffer from those who could
  /// be received from, nor must any while buffers are scarce: then they are copied, as long as the
  /// copies of the process are below their limit, and the buffer goes back. What stays where it is
  /// belongs to no thread: whoever takes it up has it.
  void set_aside();

 private:
  void swap(Received& other) noexcept;

  Place block_;                           ///< its beginning; kNoChunk: see `copy_`
  std::uint32_t at_ = 0, end_ = 0;        ///< what is left, from there on
  std::unique_ptr<std::uint8_t[]> copy_;  ///< counted for the limit
};

/// Something that is given back when the document it belongs to is done with: a place in the queue
/// of the next stage.
class Lease {
 public:
  virtual ~Lease() = default;
  /// The next stage has begun with the document: it is not ahead of others any more.
  virtual void begun() {}
  std::uint64_t small = 0;     ///< bytes of a small document: see MemoryQueue
  std::uint64_t in_files = 0;  ///< bytes of the limit for files
};

/// One of several documents in one block.
struct Part {
  std::uint32_t start;  ///< from the beginning of the block
  std::uint32_t length;
};

struct Document {
  Place place;               ///< kNoChunk: none, or in a file
  HandleId file = 0;         ///< handle of the file it lies in; 0: none
  std::uint64_t length = 0;  ///< bytes; of the first one where there are `parts`
  std::vector<Part> parts;   ///< of documents handed over together; empty: it alone
  std::uint64_t raw = 0;     ///< bytes of all of them with their delimiters; 0: they have none
  std::uint8_t stage = 0;    ///< index of the stage that received it, and sends the answer
  std::unique_ptr<Lease> lease;
};

struct Reply {
  bool present = false;
  Piece memory;  ///< goes out first
  /// Then a part of this file; kNoDescriptor: none.
  driver::Descriptor file = driver::kNoDescriptor;
  std::uint64_t file_offset = 0;
  std::uint64_t file_length = 0;
  bool closes = false;  ///< the connection ends with it
};

struct Cargo {
  std::deque<Received> stash;  ///< in the order received
  /// What was posted to the connection while it was at a native stage, in order: for the stage that
  /// handles its documents. Each has a hold of its bytes.
  std::deque<Packet> messages;
  void drop_messages();
  Document document;
  Reply reply;
};

}  // namespace cp::stage
