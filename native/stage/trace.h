// The last events of each connection of a pipeline, for whoever wants to know how it came to where
// it is: lib/stage/record/trace.ts writes the same and reads it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace cp::stage {

/// What an entry tells of; lib/stage/record/trace.ts has the names.
enum class TraceEvent : std::uint8_t {
  kEntered = 1,
  kHandedOff,
  kReceived,
  kEnded,
  kSent,
  kFileSent,
  kDrain,
  kPosted,
  kTimeout,
  kClosed,
  kAbandoned,
  kFailed,
  kMessage,
  kHandOff,
  kReply,
  kClose,
};

struct TraceEntry {
  double time;  ///< milliseconds on the monotonic clock
  double bytes;
  std::uint8_t stage;
  std::uint8_t state;
  std::uint8_t event;
  std::uint8_t thread;  ///< of the stage
  std::uint32_t check;  ///< of all of the above, the connection's key and the entry's number
};
static_assert(sizeof(TraceEntry) == 24);
static_assert(offsetof(TraceEntry, stage) == 16 && offsetof(TraceEntry, check) == 20);

/// In front of each connection's entries.
struct TraceHeader {
  std::atomic<std::uint32_t> count;  ///< entries written so far
  std::atomic<std::uint32_t> key;    ///< whose they are; kept when the connection has ended
};
static_assert(sizeof(TraceHeader) == 8 && offsetof(TraceHeader, key) == 4);

/// A ring of entries for each record, in memory of its own. Only the thread that holds a record's
/// key writes, and a key changes hands with a lock in between; anyone reads, at any time. Entry n
/// is written to place n modulo `slots`, then `count` becomes n + 1. There is one place more at
/// least than readers ask for, so that the entry which is being written is none of theirs.
///
/// A reader that is slow finds a place being written all the same, and in whichever order the
/// stores become visible to it: an atomic store for each event would make them ordered, and costs
/// more than all the rest, since it waits for all stores before it. So each entry has a check of
/// what is in it, whose it is, and its number. One that is torn, of another connection, or of
/// another turn of the ring, has a check that does not fit: where one word of 32 bits differs it
/// never does, else once in 2^32.
class Trace {
 public:
  /// Rings for `limit` records, of `slots` places each, a power of two. Null when the system
  /// refuses the memory, of which pages are taken as they are first written.
  static std::unique_ptr<Trace> make(std::size_t limit, std::uint32_t slots);
  ~Trace();
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;

  std::uint8_t* memory() const { return memory_; }
  std::size_t size() const { return limit_ * stride_; }

  /// The record is the connection's of that key from now on.
  void begin(std::uint32_t key);
  /// For the thread that holds the key. Time and check of `entry` are filled in.
  void write(std::uint32_t key, TraceEntry entry);

 private:
  Trace(std::uint8_t* memory, std::size_t limit, std::uint32_t slots);
  TraceHeader& header(std::uint32_t key) const;

  std::uint8_t* const memory_;
  const std::size_t limit_;
  const std::uint32_t slots_;
  const std::size_t stride_;
};

}  // namespace cp::stage
