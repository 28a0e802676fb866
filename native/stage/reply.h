// The answer to a connection's document: laid into its cargo, for the stage that received the
// document to send. For the thread that holds the connection's key.
#pragma once

#include <cstdint>

#include "port/thread.h"
#include "stage/cargo.h"

namespace cp::stage {

struct Answer {
  Piece memory;       ///< kNoChunk: none
  HandleId file = 0;  ///< 0: none
  std::uint64_t file_offset = 0;
  std::uint64_t file_length = 0;
  bool closes = false;
};

/// In the place of the answer that was laid there before. The memory is the answer's from here on;
/// of the file it has a duplicate. The index of the stage that sends it, or an error:
/// kErrorBufferReleased, kErrorNotSupported without a document, or why the file can't be had.
std::int64_t lay_reply(Thread& thread, Cargo* cargo, const Answer& answer);

}  // namespace cp::stage
