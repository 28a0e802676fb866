// Sending from a file on Linux: what the io_uring and the epoll lane share, and the blocking pool.
//
// Both lanes call sendfile(2) themselves when the socket takes something. io_uring has no such
// operation: its SPLICE always goes to a kernel thread, needs a pipe between file and socket, and
// was not cheaper than READ and SEND, while sendfile costs about 0.6 of those (docs/performance.md
// has the figures). What it can't do is not wait for a disk, so what is not cached goes to the
// pool.
#pragma once

#include "driver/driver.h"

namespace cp::driver {

/// Whether the next part can be sent without waiting for a disk, as far as its first and last byte
/// tell. Read-ahead fills the page cache without holes, and what tears one costs a wait, no more.
/// False where the file system can't say (RWF_NOWAIT, preadv2(2), 4.14). What was looked at a
/// moment ago is not looked at again: the two calls take a tenth of the time in which 100 KiB are
/// sent.
bool next_part_is_cached(const Operation& operation);

/// Sends the next part: its bytes, fewer when the socket takes no more, 0 at the end of the file,
/// -EAGAIN when the socket is full, or another negative errno.
Result send_part(const Operation& operation);

}  // namespace cp::driver
