// A handle: an open file, listener, socket or timer, and the table that names them for the whole
// process, so that a handle keeps its name when it moves to another port.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "driver/driver.h"
#include "driver/source_file.h"
#include "port/request.h"
#include "system/mutex.h"

namespace cp {

class Port;

/// The descriptor of a file that sends take bytes from. The handle holds it and so does each of
/// those sends; the last of them gives the descriptor back. So a file can be closed as soon as the
/// sends were submitted, and none of them needs a descriptor of its own.
struct SharedFile : driver::SourceFile {
  using SourceFile::SourceFile;

  void hold() { holders.fetch_add(1, std::memory_order_relaxed); }
  /// The descriptor, which the last holder has to close; to the others, and for null, there is
  /// none.
  static driver::Descriptor let_go(SharedFile* file);

 private:
  std::atomic<std::uint32_t> holders{1};
};

/// Requests of one direction: one is with the kernel, the others wait in order (rule O7). Some wait
/// behind none when there was no thread to carry them out: see Thread::start_elsewhere.
struct StreamQueue {
  Request* active = nullptr;
  Request* first = nullptr;
  Request* last = nullptr;
  /// Handles that have enough to send and are fed from this one: nothing is begun until it is 0.
  std::uint32_t holds = 0;

  bool stranded() const { return active == nullptr && first != nullptr && holds == 0; }
  void push(Request* request);
  void push_front(Request* request);
  Request* pop();
  bool remove(Request* request);
};

inline constexpr std::uint32_t kPlaceBits = 20;
/// Places a thread fetches, and gives back, at one time.
inline constexpr std::uint32_t kPlacesTogether = 32;
/// What a handle has to send, as every thread of the process reads it: lib/thread/outgoing.ts has
/// the same layout. Written under the handle's mutex, but for the mark, which is the program's.
struct Outgoing {
  static constexpr std::uint32_t kMark = 1u << 20;
  static constexpr std::uint32_t kMostSends = 4096;
  /// What a file that is sent counts at most: its bytes take no memory.
  static constexpr std::uint64_t kOfFile = 64 * 1024;

  std::atomic<double> bytes{0};
  std::atomic<std::uint32_t> sends{0};
  std::atomic<std::uint32_t> mark{kMark};

  void subtract(std::uint64_t amount) {
    bytes.store(bytes.load(std::memory_order_relaxed) - static_cast<double>(amount),
                std::memory_order_relaxed);
  }
  void begin_send(std::uint64_t amount) {
    bytes.store(bytes.load(std::memory_order_relaxed) + static_cast<double>(amount),
                std::memory_order_relaxed);
    sends.store(sends.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
  void end_send(std::uint64_t amount) {
    subtract(amount);
    sends.store(sends.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
  }
  /// More should not be sent. `pool`: of the handle's port.
  bool full(const BufferPool& pool) const {
    return bytes.load() >= enough(pool) || sends.load() >= kMostSends;
  }
  /// Well below that again, so that a peer which reads steadily is not told of every few bytes.
  bool drained(const BufferPool& pool) const {
    return bytes.load() * 2 <= enough(pool) && sends.load() * 2 <= kMostSends;
  }

 private:
  double enough(const BufferPool& pool) const {
    return static_cast<double>(pool.enough(mark.load()));
  }
};
static_assert(sizeof(Outgoing) == 16 && offsetof(Outgoing, sends) == 8 &&
              offsetof(Outgoing, mark) == 12);

/// What a listener has accepted and nobody has closed yet: the listener holds this, and so does
/// each of those connections, wherever it goes and whoever closes it. Counted up under the
/// listener's mutex, so that there are never more than `most`.
struct Connections {
  static constexpr std::uint32_t kNoLimit = UINT32_MAX;

  std::atomic<std::uint32_t> open{0};
  std::atomic<std::uint32_t> most{kNoLimit};

  bool full() const { return open.load() >= most.load(); }
};

struct Handle {
  system::Mutex
      mutex;  ///< guards everything below; no other lock of the port's is held outside of it

  std::atomic<HandleId> id{0};  ///< 0: free. Set last, so that a new handle needs no lock
  HandleKind kind = HandleKind::kFile;
  driver::FileKind file_kind = driver::FileKind::kRegular;
  bool pollable = false;
  bool direct = false;  ///< opened with O_DIRECT
  bool append = false;  ///< opened with O_APPEND
  bool keyed = false;
  bool accept_keyed = false;
  bool closing = false;
  bool messages = false;           ///< a socket that keeps their borders, or listens for such
  bool likely_empty = false;       ///< the last receive emptied the socket
  std::uint8_t long_in_a_row = 0;  ///< see driver::Operation
  bool reset = false;              ///< an operation was told of the peer's reset
  bool timed_out = false;          ///< nothing moved for `idle_timeout`: nothing is begun any more
  driver::Descriptor descriptor = driver::kNoDescriptor;
  std::uint64_t descriptor_id = 0;
  /// Written with the mutex; read without it by whoever looks which keys are in use.
  std::atomic<std::uint32_t> key{0};
  std::uint64_t received = 0;  ///< bytes taken from the socket so far
  std::uint64_t sent = 0;      ///< bytes that the kernel took so far
  /// Milliseconds, 0: none. Of a listener: that of its connections. See IdleClock.
  std::uint32_t idle_timeout = 0;
  /// With `idle_timeout`: when a byte was settled last, or something asked for after a while of
  /// nothing; and how many bytes the kernel was ahead of what was settled at the clock's last look.
  driver::Deadline moved_at = 0;
  std::int64_t ahead = 0;
  /// Changed by a hand-off alone.
  std::atomic<Port*> port{nullptr};
  /// Number of the thread that awaits a handle, which is closed when that one ends. 0: none.
  std::uint32_t owner = 0;

  std::uint32_t in_flight = 0;  ///< requests in `requests` besides the close itself
  Request* requests = nullptr;
  Request* close = nullptr;  ///< waits for in_flight to reach 0 (rule O5)
  StreamQueue in, out;
  SharedFile* shared = nullptr;       ///< of a file that something was sent from
  std::unique_ptr<std::string> path;  ///< opened with, of a keyed file; bound to, of a listener

  /// Of a listener its own, of what was accepted its listener's, else null.
  std::shared_ptr<Connections> connections;

  Outgoing* outgoing = nullptr;
  bool wants_drain = false;  ///< the program was told that it is full, and is to hear of its end
  std::vector<HandleId> feeders;  ///< handles whose `in` this one holds while it is full

  // In the HandleList of `port`, guarded by the lock of its part.
  Handle* list_previous = nullptr;
  Handle* list_next = nullptr;

  // The table's: while the place is free, they are of the thread that has it at hand.
  std::uint32_t place = 0;
  std::uint32_t uses = 0;

  /// Bytes were received, or the kernel took some.
  void count_received(std::uint64_t bytes);
  void count_sent(std::uint64_t bytes);
  /// The clock looks at it no more.
  void end_idling();
  /// Something is asked of the peer, and not of this process instead.
  bool waits_for_peer() const;
  void count_among(const std::shared_ptr<Connections>& accepted);
  /// Its listener counts it no more. A second time without effect.
  void leave_listener();
  void link(Request* request);
  void unlink(Request* request);
  /// The descriptor for one more send.
  SharedFile& share();
  /// Before it is closed: there is no descriptor any more where a send is left to close it.
  void end_sharing();
  /// Nothing is submitted to it any more.
  void begin_closing();
  /// A close that nobody asked for, and nobody hears of; it runs when nothing is in flight.
  void close_unasked();
  /// The direction a request has to keep its order in; null for positional file operations.
  StreamQueue* queue_of(const Request& request);
};

/// The handles of one port. In parts, each with a lock of its own, which is a leaf: the places that
/// one thread takes lie together (HandleTable), so that threads seldom meet in a part.
class HandleList {
 public:
  explicit HandleList(Port& port) : port_(port) {}
  // The handle's mutex is held for each of these, or nobody finds it yet.
  void add(Handle& handle);
  void remove(Handle& handle);
  /// It is closing from now on.
  void begin_closing(Handle& handle);

  /// The port has ended: from now on each handle that is in the list holds it.
  void end();

  /// Handles that are not closing.
  std::size_t open() const;
  /// All of them. Their memory stays, but each may be another port's by the time it is looked at:
  /// that is asked with its mutex.
  std::vector<Handle*> all() const;

 private:
  static constexpr std::size_t kParts = 16;
  struct alignas(64) Part {
    mutable system::Mutex mutex;
    Handle* first = nullptr;
    std::size_t open = 0;
    std::uint32_t all = 0;
    bool ended = false;
  };
  Part& part_of(const Handle& handle) { return parts_[handle.place / kPlacesTogether % kParts]; }

  Port& port_;
  Part parts_[kParts];
};

/// The handles of the process, in places that are used again and again. A name is a place, 20 bits,
/// and how often that was used, 32 bits: below 2^53, so that JavaScript holds it exactly. A place
/// is given up when its uses are counted out, so that no name ever comes back.
///
/// A thread keeps some places at hand and exchanges them with the others by the batch: in steady
/// state a handle comes and goes without a lock that threads share.
class HandleTable {
 public:
  static HandleTable& instance();

  /// A handle that nobody finds until its `name` is stored as its id. Null when a million handles
  /// are open.
  Handle* create(HandleId& name);
  /// The handle's mutex must be held; its name means nothing from now on.
  void free(Handle* handle);
  /// One that was never found.
  void take_back(Handle* handle);
  /// Null when `id` names nothing. The caller locks the handle and compares `id` again.
  Handle* find(HandleId id) const;
  /// Hands the calling thread's places to the others: it may be about to end.
  void return_spares();

  /// One for each place, in the order of the places.
  Outgoing* outgoing() const { return outgoing_; }
  static constexpr std::size_t outgoing_size() { return kMostPlaces * sizeof(Outgoing); }

  /// Calls `visit` with every handle there ever was; which of them are in use is seen with the
  /// mutex of each.
  template <typename Visit>
  void for_each(Visit visit) {
    const std::uint32_t used = used_.load(std::memory_order_acquire);
    for (std::uint32_t i = 1; i < used; ++i) visit(*at(i));
  }

 private:
  static constexpr std::uint32_t kBlock = 1024;
  static constexpr std::uint32_t kMostPlaces = 1u << kPlaceBits;

  Handle* at(std::uint32_t place) const {
    return &blocks_[place / kBlock].load(std::memory_order_acquire)[place % kBlock];
  }
  bool fetch_places();
  void take_fresh();
  void give_back(std::size_t count);

  HandleTable();

  Outgoing* const outgoing_;
  std::atomic<Handle*> blocks_[kMostPlaces / kBlock] = {};
  /// Places below were used, or are at hand in a thread; place 0 names nothing.
  std::atomic<std::uint32_t> used_{0};
  system::Mutex mutex_;  ///< guards what follows; a leaf
  /// In the order they were given back: objects of a thread that stand for the last handle of a
  /// place are then mostly forgotten when the place is used again.
  std::deque<std::uint32_t> free_;
};

}  // namespace cp
