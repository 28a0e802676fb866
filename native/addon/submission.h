// The submission array: how JavaScript writes down what it wants. lib/native/layout.ts has the
// same layout; the ABI number of binding.ts changes with this file.
#pragma once

#include <cstddef>
#include <cstdint>

#include "port/thread.h"
#include "stage/record_table.h"

namespace cp::addon {

inline constexpr std::uint32_t kAbi = 19;
inline constexpr std::size_t kSubmissionLimit = 512;

struct Submission {
  std::uint8_t kind;
  std::uint8_t flags;
  std::uint16_t slices;
  std::uint32_t reserved;
  std::uint32_t token;
  std::uint32_t timeout;
  double offset;
  double length;
  std::uint32_t chunk;
  std::uint32_t start;
  std::uint32_t bytes;
  std::uint32_t tag;
  HandleId handle;
  HandleId feeder;
};
static_assert(sizeof(Submission) == 64);
static_assert(offsetof(Submission, slices) == 2);
static_assert(offsetof(Submission, token) == 8 && offsetof(Submission, timeout) == 12);
static_assert(offsetof(Submission, offset) == 16 && offsetof(Submission, length) == 24);
static_assert(offsetof(Submission, chunk) == 32 && offsetof(Submission, start) == 36);
static_assert(offsetof(Submission, bytes) == 40 && offsetof(Submission, tag) == 44);
static_assert(offsetof(Submission, handle) == 48 && offsetof(Submission, feeder) == 56);

/// Slices beyond the first: five to a record.
struct SliceRecord {
  struct {
    std::uint32_t chunk, start, bytes;
  } slices[5];
  std::uint32_t reserved;
};
static_assert(sizeof(SliceRecord) == sizeof(Submission));

enum SubmissionFlag : std::uint8_t {
  kMultishot = 1,
  kLinked = 2,
  kRelease = 4,
  kQuiet = 8,
  kKeyed = 16,         ///< `token` is the key of the handle, which may be gone
  kFull = 32,          ///< the program waits for kDrain
  kFed = 64,           ///< the bytes were received from `feeder`
  kStall = 128,        ///< kShutdown: the timeout counts time in which nothing moves
  kKeepOpen = kStall,  ///< kClose: the result is the descriptor, open, and one more
};

/// Submits `count` records; the thread's lane is held. What is wrong with one arrives as its
/// packet. `table`: the records of the pipeline that the thread belongs to, if any.
void submit_all(Thread& thread, const Submission* records, std::size_t count,
                stage::RecordTable* table);

/// Whether a record may be submitted while the handler that wrote it is not over. Not what takes a
/// connection to another stage, whose thread may begin at once: it is the handler's until its end.
bool may_begin_early(const Submission& record);
/// Submits those before the first that may not, and returns how many these were.
std::size_t submit_early(Thread& thread, const Submission* records, std::size_t count);

}  // namespace cp::addon
