// Bytes of a connection that nobody wanted yet, in its cargo: put there, taken up again, put back.
// For the thread that holds the connection's key.
#pragma once

#include <cstddef>
#include <cstdint>

#include "port/thread.h"
#include "stage/cargo.h"

namespace cp::stage {

/// Whether the piece is one: what travels with a connection is read without asking once more.
bool holds(const Piece& piece);

/// Behind what is there. The piece is the stash's from here on; false, and it is released, when it
/// is none, or there is no cargo.
bool stash(Cargo* cargo, const Piece& piece);

/// A copy of bytes in front of what is there; with `merges` one piece with the first of that. 0,
/// kErrorHandleClosed without a cargo, or -ENOMEM.
std::int64_t unread(Thread& thread, Cargo* cargo, const std::uint8_t* bytes, std::uint32_t length,
                    bool merges);

/// The first `count` of the stashed pieces as one, which is the thread's from here on: its length.
/// 0 when there are not as many, or -ENOMEM.
std::int64_t unstash(Thread& thread, Cargo* cargo, std::size_t count, Place& out);

}  // namespace cp::stage
