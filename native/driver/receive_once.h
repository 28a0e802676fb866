// One receive of a lane that takes a buffer only when there are bytes for it.
#pragma once

#include "driver/driver.h"
#include "driver/errno.h"

namespace cp::driver {

/// Bytes that a multishot receive takes in a row, before the others get their turn.
inline constexpr std::size_t kTurnBytes = 128 * 1024;

/// Into the operation's own memory, or a buffer of the port's, which is held only while bytes are
/// put into it (contract M3). `receive(slice)`: a call that does not wait.
template <typename Receive>
Result receive_once(BufferSource& buffers, const Operation& operation, Completion& completion,
                    Receive receive) {
  if (operation.slice_count > 0) return receive(operation.slices[0]);
  if (!buffers.take(completion.buffer)) return -ENOBUFS;
  const Result received = receive(Slice{completion.buffer.data, completion.buffer.size});
  if (received <= 0) {
    buffers.give_back(completion.buffer);
    completion.buffer = {};
  }
  return received;
}

}  // namespace cp::driver
