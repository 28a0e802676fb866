// Gathering: the short documents that come behind one another on a connection are handed over
// together, in one block, as they came.
#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "stage/frames_thread.h"

namespace cp::stage {
namespace {

/// Bytes of documents that are handed over together, with what frames them.
constexpr std::uint64_t kLongestBatch = 256 * 1024;
/// Asked of a socket at one time.
constexpr std::uint64_t kStep = 32 * 1024;
/// The beginning of another document may be this long; more of it is not asked for here, or it
/// would be looked at again each time.
constexpr std::uint64_t kLongestRest = 4096;

}  // namespace

/// What lies in the block of the first document.
struct FramesThread::Batch {
  std::uint64_t whole;      ///< bytes of documents that are whole
  std::uint64_t end;        ///< with those of the next one
  std::vector<Part> parts;  ///< the documents
  bool full = false;        ///< the next one is not to go with them
};

/// Behind a document that is whole: others that came with it, as long as they are short and memory
/// is not scarce; and where there is probably `more`, what the socket has, so that a client that
/// sends without waiting is received from while its documents are away, as far as they are long.
void FramesThread::gather(Connection& c, Received& bytes, bool more) {
  Frame& frame = c.frame;
  if (frame.file != 0 || frame.error != 0 || frame.writes > 0 || memory().waits()) return;
  if (bytes.size() == 0 && !more) return;
  Batch batch{frame.received, frame.received, {{0, static_cast<std::uint32_t>(frame.length)}}};
  const std::uint64_t room = kLongestBatch - std::min(kLongestBatch, batch.end);
  const auto size = static_cast<std::uint32_t>(std::min<std::uint64_t>(bytes.size(), room));
  if (size > 0) {
    if (!make_room(c, batch, size)) return;
    std::memcpy(address_of(frame.place) + batch.end, bytes.bytes(), size);
    bytes.drop_front(size);
    batch.end += size;
    find_whole(c, batch);
  }
  while (more && bytes.size() == 0 && wants_more(c, batch)) more = fetch(c, batch);
  frame.received = batch.whole;
  if (batch.parts.size() > 1) frame.parts = std::move(batch.parts);
  if (batch.end == batch.whole) return;
  if (bytes.size() > 0) keep_for_later(c, std::move(bytes), true);
  bytes = Received::copy_of(address_of(frame.place) + batch.whole,
                            static_cast<std::uint32_t>(batch.end - batch.whole));
}

/// Room for `size` bytes behind those in the block, which may become another one.
bool FramesThread::make_room(Connection& c, const Batch& batch, std::uint64_t size) {
  Frame& frame = c.frame;
  if (batch.end + size <= frame.capacity) return true;
  const std::uint64_t capacity = options().port->pool().block_bytes(batch.end + size);
  Place block;
  if (!allocate(capacity, block)) return false;
  if (batch.end > 0) std::memcpy(address_of(block), address_of(frame.place), batch.end);
  settle(c);
  if (frame.capacity > 0) BufferPool::release(frame.place);
  memory().small_gave(std::exchange(frame.small, 0));
  frame.place = block;
  frame.capacity = capacity;
  return true;
}

void FramesThread::find_whole(const Connection& c, Batch& batch) const {
  const FramesOptions& o = options();
  const std::uint64_t longest = o.spool_to_file ? std::min(o.max, o.in_memory) : o.max;
  const std::uint8_t* bytes = address_of(c.frame.place);
  while (batch.parts.size() < o.pipelined && !batch.full) {
    const Framing::Whole next = o.framing.find(bytes + batch.whole, batch.end - batch.whole);
    if (next.size == 0) return;
    batch.full = next.length > longest;
    if (batch.full) return;
    batch.parts.push_back({static_cast<std::uint32_t>(batch.whole + next.start),
                           static_cast<std::uint32_t>(next.length)});
    batch.whole += next.size;
  }
}

bool FramesThread::wants_more(const Connection& c, const Batch& batch) const {
  const Cargo* cargo = options().records->find_cargo(c.key);
  // What a receive has brought may be in the queue still: it comes before what the socket has now.
  if ((c.header.flags & kRecordReceiving) != 0) return false;
  return !batch.full && batch.parts.size() < options().pipelined && batch.end < kLongestBatch &&
         batch.end - batch.whole <= kLongestRest && (cargo == nullptr || cargo->stash.empty());
}

/// What the socket has, straight into the block. Whether it probably has more.
bool FramesThread::fetch(Connection& c, Batch& batch) {
  const std::uint64_t size = std::min(kStep, kLongestBatch - batch.end);
  if (!make_room(c, batch, size)) return false;
  const driver::Slice into{address_of(c.frame.place) + batch.end, size};
  // Its end, or what is wrong with it, is the next receive's to find out.
  const driver::Result got = Port::receive_now(c.header.handle, into);
  if (got <= 0) return false;
  c.header.received += static_cast<double>(got);
  batch.end += static_cast<std::uint64_t>(got);
  find_whole(c, batch);
  return static_cast<std::uint64_t>(got) == size;
}

}  // namespace cp::stage
