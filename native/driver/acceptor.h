// Connections accepted for threads that make streams of Node.js of them: one native thread for the
// process, which accepts on each shared listener and gives each connection to one of the threads
// that serve it. No port and no lane takes part: a connection is bound to none until its thread has
// it.
//
// A connection waits in the queue of the thread that it was given to until that one takes it. A
// thread that has not come for one of them within kLate is late: it is given no more, and what it
// was given goes to one that comes. Whoever leaves, or dies, leaves its queue to the others.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "driver/accepting.h"
#include "driver/driver.h"
#include "driver/errno.h"
#include "system/mutex.h"

namespace cp::driver {

enum class AcceptPolicy : std::uint8_t { kLeastConnections, kLifo, kRoundRobin };

/// What a thread and the acceptor share; the thread's program writes `open`.
struct SeatWords {
  std::atomic<std::int32_t> open{0};  ///< connections that the thread has
};

class SharedListener;

/// Tells a thread that something waits for it, or that its listener was closed. Called under the
/// acceptor's lock.
class SeatBell {
 public:
  virtual void ring() = 0;
  /// The thread has seen all there is: the next `ring` is to be told.
  virtual void silence() = 0;

 protected:
  ~SeatBell() = default;
};

/// A thread that serves a listener.
struct Seat {
  struct Waiting {
    Descriptor descriptor;
    Deadline since;
  };

  std::shared_ptr<SharedListener> listener;
  std::shared_ptr<SeatWords> words = std::make_shared<SeatWords>();
  SeatBell* bell = nullptr;  ///< until it leaves
  std::deque<Waiting> queue;
  /// What `open` was when the last connection was taken, which its thread has yet to count; -1 when
  /// it is done with it.
  std::int32_t open_before = -1;
  std::uint64_t came = 0;  ///< when it took something last, in turns of the acceptor
  bool left = false;
};

class Acceptor {
 public:
  struct Stats {
    std::uint32_t threads = 0;
    std::uint32_t waiting = 0;
    std::uint32_t open = 0;
    std::uint64_t accepted = 0;
    std::uint64_t moved = 0;  ///< not to the thread that the policy says
  };

  static Acceptor& instance();

  /// The listener known by `name`, held for the caller; null when there is none.
  std::shared_ptr<SharedListener> find(const std::string& name);
  std::shared_ptr<SharedListener> find(std::uint32_t id);
  /// Shares a listening socket, which it takes over, also when it fails, and holds it for the
  /// caller. Empty names are found by nobody. `path`: the file that goes with the socket.
  std::shared_ptr<SharedListener> share(const std::string& name, Descriptor descriptor,
                                        const std::string& path, AcceptPolicy policy,
                                        Result& error);
  /// The caller's hold ends. Without holds and threads the listener is closed.
  void release(SharedListener& listener);
  /// No more connections; its threads are told.
  void close(SharedListener& listener);

  /// The calling thread serves from now on, and is told by `bell`. Null when it is closed.
  std::shared_ptr<Seat> join(const std::shared_ptr<SharedListener>& listener, SeatBell& bell);
  void leave(Seat& seat);
  /// Whether a connection waits for the thread, or for one that is late; without one the bell rings
  /// for the next.
  bool waits(Seat& seat);
  /// The descriptor of the first of them, now the caller's; -1: another thread was faster.
  Descriptor take(Seat& seat);
  bool closed(const SharedListener& listener);

  Stats stats(const SharedListener& listener);
  /// Calls `use` with the socket while nobody can close it; -EBADF when it is closed.
  template <typename Use>
  Result with_socket(const SharedListener& listener, Use use) {
    std::lock_guard lock(mutex_);
    const Descriptor socket = socket_of(listener);
    return socket == kNoDescriptor ? static_cast<Result>(-EBADF) : use(socket);
  }
  static std::uint32_t id(const SharedListener& listener);

 private:
  Acceptor() = default;
  static Descriptor socket_of(const SharedListener& listener);
  bool start(Result& error);
  void run();
  Deadline look_after_late(Deadline now);
  static void move_late(SharedListener& listener, Seat& seat, Deadline now);
  static void take_over(SharedListener& listener, Seat& seat);
  void accept_some(SharedListener& listener, Deadline now);
  void watch(SharedListener& listener);
  void shut(SharedListener& listener);
  void drop_if_unused(SharedListener& listener);
  static Seat* choose(SharedListener& listener, const Seat* except, Deadline now);
  static void give(Seat& seat, Descriptor descriptor, Deadline since);

  /// Guards all, and the listeners and seats. Under it are taken only that of `sockets_`, and what
  /// a bell rings by.
  system::Mutex mutex_;
  bool started_ = false;
  std::unique_ptr<ListeningSockets> sockets_;
  std::uint32_t last_id_ = 0;
  std::uint64_t turn_ = 0;
  std::unordered_map<std::uint32_t, std::shared_ptr<SharedListener>> listeners_;
};

}  // namespace cp::driver
