// What travels with a connection from stage to stage, out of JavaScript's reach: bytes nobody
// wanted yet, its document, the answer to it. Whoever holds the connection's key may touch it.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "port/buffer_pool.h"

namespace cp::stage {

/// Received bytes, owned by whoever has the piece.
struct Piece {
  Place place;
  std::uint32_t length = 0;
};

/// Something that is given back when the document it belongs to is done with: a place in the queue
/// of the next stage.
class Lease {
 public:
  virtual ~Lease() = default;
};

struct Document {
  Place place;               ///< kNoChunk: none, or in a file
  std::uint32_t file = 0;    ///< handle of the file it lies in; 0: none
  std::uint64_t length = 0;  ///< bytes
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
};

struct Cargo {
  std::vector<Piece> stash;  ///< in the order received
  Document document;
  Reply reply;
};

}  // namespace cp::stage
