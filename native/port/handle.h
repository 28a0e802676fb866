// A handle: an open file, listener, socket or timer, and the table that names them for the whole
// process, so that a handle keeps its name when it moves to another port.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <vector>

#include "driver/driver.h"
#include "port/request.h"

namespace cp {

class Port;

enum class HandleKind : std::uint8_t { kFile, kListener, kSocket, kTimer };

/// The descriptor of a file that sends take bytes from. The handle holds it and so does each of
/// those sends; the last of them gives the descriptor back. So a file can be closed as soon as the
/// sends were submitted, and none of them needs a descriptor of its own.
struct SharedFile {
  explicit SharedFile(driver::Descriptor descriptor) : descriptor(descriptor) {}

  void hold() { holders.fetch_add(1, std::memory_order_relaxed); }
  /// The descriptor, which the last holder has to close; to the others, and for null, there is
  /// none.
  static driver::Descriptor let_go(SharedFile* file);

  const driver::Descriptor descriptor;

 private:
  std::atomic<std::uint32_t> holders{1};
};

/// Requests of one direction: one is with the kernel, the others wait in order (rule O7). Some wait
/// behind none when there was no thread to carry them out: see Thread::start_elsewhere.
struct Direction {
  Request* active = nullptr;
  Request* first = nullptr;
  Request* last = nullptr;

  bool stranded() const { return active == nullptr && first != nullptr; }
  void push(Request* request);
  void push_front(Request* request);
  Request* pop();
  bool remove(Request* request);
};

struct Handle {
  std::mutex mutex;  ///< guards everything below; taken inside the dispatcher's, never the reverse

  std::atomic<std::uint32_t> id{0};  ///< 0: free. Set last, so that a new handle needs no lock
  HandleKind kind = HandleKind::kFile;
  driver::FileKind file_kind = driver::FileKind::kRegular;
  bool pollable = false;
  bool direct = false;  ///< opened with O_DIRECT
  bool keyed = false;
  bool accept_keyed = false;
  bool closing = false;
  bool likely_empty = false;  ///< the last receive emptied the socket
  bool reset = false;         ///< an operation was told of the peer's reset
  driver::Descriptor descriptor = driver::kNoDescriptor;
  std::uint64_t descriptor_id = 0;
  std::uint32_t key = 0;
  std::uint64_t received = 0;  ///< bytes taken from the socket so far
  /// Changed by a hand-off alone, under the old port's dispatcher and this mutex.
  std::atomic<Port*> port{nullptr};
  Thread* owner = nullptr;  ///< of a handle that is awaited: closed when that thread ends

  std::uint32_t in_flight = 0;  ///< requests in `requests` besides the close itself
  Request* requests = nullptr;
  Request* close = nullptr;  ///< waits for in_flight to reach 0 (rule O5)
  Direction in, out;
  SharedFile* shared = nullptr;  ///< of a file that something was sent from

  void link(Request* request);
  void unlink(Request* request);
  /// The descriptor for one more send.
  SharedFile& share();
  /// Before it is closed: there is no descriptor any more where a send is left to close it.
  void end_sharing();
  /// A close that nobody asked for, and nobody hears of; it runs when nothing is in flight.
  void close_unasked();
  /// The direction a request has to keep its order in; null for positional file operations.
  Direction* direction(const Request& request);
};

/// Names: 20 bits of index, 12 bits that change with each use of the index.
class HandleTable {
 public:
  static HandleTable& instance();

  /// A handle that nobody finds until its `name` is stored as its id. Null when a million handles
  /// are open.
  Handle* create(std::uint32_t& name);
  /// The handle's mutex must be held; its name means nothing from now on.
  void free(Handle* handle);
  /// One that was never found.
  void take_back(Handle* handle, std::uint32_t name);
  /// Null when `id` names nothing. The caller locks the handle and compares `id` again.
  Handle* find(std::uint32_t id) const;

  template <typename Visit>
  void for_each(Visit visit) {
    const std::uint32_t used = used_.load(std::memory_order_acquire);
    for (std::uint32_t i = 1; i < used; ++i) visit(*at(i));
  }

 private:
  static constexpr std::uint32_t kIndexBits = 20;
  static constexpr std::uint32_t kBlock = 1024;
  static constexpr std::uint32_t kMaxIndex = 1u << kIndexBits;

  std::uint32_t next_name();
  Handle* at(std::uint32_t index) const {
    return &blocks_[index / kBlock].load(std::memory_order_acquire)[index % kBlock];
  }

  std::mutex mutex_;
  std::atomic<Handle*> blocks_[kMaxIndex / kBlock] = {};
  std::atomic<std::uint32_t> used_{1};  ///< index 0 names nothing
  /// Reused in the order freed, so that the same name comes back as late as possible.
  std::vector<std::uint32_t> free_;
  std::size_t free_head_ = 0;
  std::vector<std::uint16_t> generations_;
};

}  // namespace cp
