// A completion port: the driver, the buffers, the dispatcher and the threads that belong together.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "driver/driver.h"
#include "port/buffer_pool.h"
#include "port/dispatcher.h"
#include "port/handle.h"
#include "system/mutex.h"

namespace cp {

class Thread;

struct PortOptions {
  std::string driver;  ///< "": the process's choice (rule P3)
  std::uint32_t concurrency = 1;
  std::uint32_t queue_limit = 65536;
  bool serialize_keys = true;
  bool affine = false;     ///< packets stay with the thread that submitted their operation
  std::uint32_t spin = 0;  ///< microseconds that a thread in `get` looks before it sleeps
  BufferPool::Options buffers;
};

/// Where accepted connections get their keys from instead of `unique_key`.
class KeySource {
 public:
  virtual ~KeySource() = default;
  /// The key of a new connection `handle` of port `port`; 0 refuses it. Called under the port's
  /// dispatcher.
  virtual std::uint32_t key_for(HandleId handle, std::uint32_t port) = 0;
};

/// What a port has done and has, at one moment.
struct PortStats {
  std::uint64_t submitted = 0, completed = 0, batches = 0, system_calls = 0, wake_ups = 0;
  std::uint64_t steals = 0, taken_back = 0, queue_depth = 0, free_buffers = 0, threads = 0,
                running = 0;
  std::uint64_t waiting = 0, handles = 0, allocated_bytes = 0, refused = 0;
};

/// A copy of what is known of a handle.
struct HandleView {
  HandleId id = 0;  ///< 0: there is none of that name
  HandleKind kind = HandleKind::kFile;
  driver::FileKind file_kind = driver::FileKind::kRegular;
  driver::Descriptor descriptor = driver::kNoDescriptor;
  std::uint32_t port = 0;  ///< that it belongs to; 0: one that has ended
  std::uint32_t key = 0;
  bool keyed = false;
  bool closing = false;
  std::uint32_t in_flight = 0;
  bool append = false;
  bool direct = false;
  bool messages = false;
  std::string path;  ///< it was opened with, of a keyed file
};

class Port;

/// Keeps the memory of a port, also when the port has ended: it can be asked whatever it likes, and
/// takes nothing any more.
class PortHold {
 public:
  PortHold() = default;
  /// One more hold on a port that somebody else holds meanwhile.
  explicit PortHold(Port& port);
  PortHold(const PortHold& other);
  PortHold(PortHold&& other) noexcept : port_(std::exchange(other.port_, nullptr)) {}
  PortHold& operator=(PortHold other) noexcept {
    std::swap(port_, other.port_);
    return *this;
  }
  ~PortHold();

  Port* get() const { return port_; }
  Port& operator*() const { return *port_; }
  Port* operator->() const { return port_; }
  explicit operator bool() const { return port_ != nullptr; }

 private:
  Port* port_ = nullptr;
};

/// A port ends with its last thread, and is freed when nobody can look at it any more. Whoever may
/// do so holds it: the port itself until it has ended; each thread until it has left and the last
/// request it has submitted is over, wherever that is carried out; each of its handles that another
/// port's thread still closes; and whoever has a PortHold. A thread of another port that settles an
/// operation looks at this one with the mutex of a handle held that is in its list, or for a
/// request that one of its threads has submitted, so it needs no hold of its own.
class Port {
 public:
  /// Null with `error` (a negative errno or LibraryError) and `reason`.
  static PortHold create(const PortOptions& options, driver::Result& error, std::string& reason);
  /// With a driver that the caller has made.
  static PortHold create(const PortOptions& options, std::unique_ptr<driver::Driver> driver,
                         driver::Result& error, std::string& reason);
  /// A port of this process that has not ended, by number; null when there is none (rule P2).
  static PortHold find(std::uint32_t id);
  /// Ports whose memory has not been freed.
  static std::size_t count();
  ~Port();

  std::uint32_t id() const { return id_; }
  const PortOptions& options() const { return options_; }
  driver::Driver& driver() { return *driver_; }
  const std::string& driver_reason() const { return driver_reason_; }
  BufferPool& pool() { return *pool_; }
  Dispatcher& dispatcher() { return dispatcher_; }

  /// Attaches the calling thread. `slots`: kBatchLimit of them; `ring`: where it posts, null when
  /// it calls `post` instead. Both are kept until the thread is detached. Null with `error` when no
  /// lane is to be had or the port is closed.
  Thread* attach(PacketSlot* slots, driver::Result& error, PostRing* ring = nullptr);

  /// From any thread, attached or not (rule Q1). False when the queue is full.
  bool post(std::uint32_t key, double value, bool bounded = true);
  /// The same of a message that was in another queue before. The hold of its bytes, where it has
  /// any, is the queue's when this returns true.
  bool pass_on(const Packet& message) { return dispatcher_.post(message, nullptr, false); }

  /// Keeps the port from ending until `leave`, for one who calls it without being attached. False
  /// when it is closed.
  bool enter();
  void leave() { detached(0); }

  /// From now on accepted connections are named by `source`, until the port ends.
  void set_key_source(std::shared_ptr<KeySource> source);

  /// A new handle of this port, which nobody finds until `publish`; null when the table is full.
  Handle* create_handle(HandleKind kind, bool keyed, std::uint32_t key, Thread* owner,
                        HandleId& name);
  static void publish(Handle& handle, HandleId name) {
    handle.id.store(name, std::memory_order_release);
  }

  /// Takes over a descriptor: tells the driver and gives it an identity no other ever has. The
  /// handle's mutex is held, or nobody finds it yet.
  static void adopt(Handle& handle, driver::Driver& driver, driver::Descriptor descriptor);

  /// Moves a handle with its packets to `target` (rule A3). 0 or a LibraryError. `where`, if any,
  /// is set to the target's number before any packet can be taken there.
  /// With Tell::kLater the caller calls `tell_of_arrivals` of the target soon.
  std::int32_t hand_off(HandleId handle, Port& target, std::uint32_t key,
                        std::atomic<std::uint32_t>* where = nullptr,
                        Dispatcher::Tell tell = Dispatcher::Tell::kNow);
  /// The same for something that has a key, but no handle.
  std::int32_t hand_off_key(Port& target, std::uint32_t key, std::atomic<std::uint32_t>& where,
                            Dispatcher::Tell tell = Dispatcher::Tell::kNow);
  void tell_of_arrivals() { dispatcher_.tell(); }

  /// A thread is about to close all handles, and then the port; or it is not, since it has ended
  /// before. Counted before the first of those closes is submitted: whoever has the answer to an
  /// operation that one of them has cancelled has held the handle's lock since, and sees it.
  void announce_close() { closers_.fetch_add(1, std::memory_order_release); }
  void take_back_close() { closers_.fetch_sub(1, std::memory_order_release); }
  bool close_announced() const {
    return closers_.load(std::memory_order_acquire) > 0 || dispatcher_.closed();
  }
  /// Every thread is told; nothing is delivered any more (rule D10).
  void close();

  static HandleView look_up(HandleId handle);
  /// Calls `use` with the handle's descriptor while nobody can close it; kErrorHandleClosed when it
  /// has none. `use` must not block.
  template <typename Use>
  static driver::Result with_descriptor(HandleId id, Use use) {
    Handle* handle = HandleTable::instance().find(id);
    if (handle == nullptr) return kErrorHandleClosed;
    std::lock_guard lock(handle->mutex);
    const bool usable = handle->id == id && handle->descriptor != driver::kNoDescriptor;
    return usable ? use(handle->descriptor) : static_cast<driver::Result>(kErrorHandleClosed);
  }
  /// Bytes received and sent by a connection so far. False when there is none of that name.
  static bool bytes_moved(HandleId handle, std::uint64_t& received, std::uint64_t& sent);
  /// Milliseconds, 0: none; of a listener that of the connections it accepts. kErrorHandleClosed.
  static std::int64_t idle_timeout(HandleId handle);
  /// 0 or an error.
  static std::int64_t set_idle_timeout(HandleId handle, std::uint32_t milliseconds);
  static void give_idle_timeout(Handle& handle, std::uint32_t milliseconds);
  /// Whether a close may give the descriptor back, open (Request::keeps). 0 or a LibraryError.
  std::int32_t lets_go(HandleId id);
  bool lets_go(const Handle& handle) const;
  /// Of a listener; null when it is gone.
  static std::shared_ptr<Connections> connections_of(HandleId listener);
  /// What has come for a connection, into memory of the caller's: bytes, 0 at its end, or a
  /// negative errno or LibraryError. -EAGAIN when there is nothing, or a receive is under way or
  /// waits. For whoever holds the key: the bytes have no packet.
  static driver::Result receive_now(HandleId id, const driver::Slice& into);
  PortStats stats();
  /// Has `packet`, of kind kRoom, come when more than `known` connections were refused.
  void notify_when_refused(const Packet& packet, std::uint64_t known);
  /// Microseconds that packets, but for messages, have waited until they were taken.
  HistogramCounts waits() const;

  HandleList& handle_list() { return handle_list_; }
  /// Names of the handles that are open.
  std::vector<HandleId> handles();

  void add_starving(Thread& thread);
  void remove_starving(Thread& thread);

  /// Those that are attached, and those that were.
  std::vector<Thread*> members();

  /// The number of attached threads.
  std::size_t threads();

  /// Frees what packets that nobody will take hold: buffers, and connections and files that nobody
  /// else knows.
  static void dispose(const std::vector<Packet>& orphans, driver::Driver& driver);

 private:
  friend class Thread;
  friend class PortHold;
  friend class HandleList;
  Port(const PortOptions& options, std::unique_ptr<driver::Driver> driver, BufferPool* pool);
  std::int32_t move(Handle& handle, HandleId id, Port& target, std::uint32_t key,
                    std::atomic<std::uint32_t>* where, Dispatcher::Tell tell,
                    std::vector<Packet>& orphans);
  void hold(std::uint32_t times = 1) { holders_.fetch_add(times, std::memory_order_relaxed); }
  /// The last one frees it.
  void let_go();
  Thread* retired_thread();
  void detached(std::uint64_t system_calls);
  void end();
  void close_at_end(Handle& handle);
  static bool keep_for_starving(void* port);
  static void wake_starving(void* port);
  /// Whether its threads may run each other's packets, and so look after each other's lanes.
  void count_refused();
  bool helps() const { return options_.concurrency > 1 && !options_.affine; }

  const std::uint32_t id_;
  const PortOptions options_;
  std::atomic<std::uint32_t> holders_{1};
  std::unique_ptr<driver::Driver> driver_;
  std::string driver_reason_;
  BufferPool* const pool_;
  Dispatcher dispatcher_;
  HandleList handle_list_{*this};
  std::atomic<KeySource*> key_source_{nullptr};
  std::atomic<std::uint64_t> refused_{0};  ///< connections closed as they came
  std::atomic<bool> refusals_wanted_{false};
  std::atomic<std::uint32_t> closers_{0};  ///< threads that are closing the port
  /// A handle's requests wait for a thread to come. Set while the dispatcher's members are locked.
  std::atomic<bool> any_stranded_{false};

  system::Mutex mutex_;  ///< guards what follows; a leaf
  std::vector<std::unique_ptr<Thread>> threads_;
  std::vector<Thread*> starving_;
  std::vector<std::shared_ptr<KeySource>> key_sources_;  ///< all there ever were
  std::size_t attached_ = 0;
  PortStats left_;  ///< the counts of threads that have left
  std::vector<Packet> refusal_requests_;
  bool closing_ = false;
  bool ended_ = false;
  std::atomic<bool> any_starving_{false};
};

inline PortHold::PortHold(Port& port) : port_(&port) { port.hold(); }
inline PortHold::PortHold(const PortHold& other) : port_(other.port_) {
  if (port_ != nullptr) port_->hold();
}
inline PortHold::~PortHold() {
  if (port_ != nullptr) port_->let_go();
}

}  // namespace cp
