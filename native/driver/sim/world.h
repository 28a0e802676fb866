// A world in memory for the library to run on: connections, listeners, files, and all that can go
// wrong with them. What happens in it happens in one thread of the simulation, the world's, as
// events, each of which nobody sees half done; the calls of a lane are such events as well.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <queue>
#include <set>
#include <string>
#include <vector>

#include "driver/driver.h"
#include "driver/sim/host.h"
#include "system/sim/random.h"

namespace cp::driver::sim {

using cp::sim::Random;
using cp::sim::Time;

enum class Fault : std::uint8_t {
  kShortReceive,
  kShortSend,
  kShortRead,
  kShortWrite,
  kNoBuffers,     ///< ENOBUFS of a call
  kNoMemory,      ///< ENOMEM
  kTooManyFiles,  ///< EMFILE
  kAborted,       ///< ECONNABORTED of an accept
  kNoSpace,       ///< ENOSPC
  kQuota,         ///< EDQUOT
  kIo,            ///< EIO
  kInterrupted,   ///< EINTR
  kReset,         ///< the network, or the peer, resets a connection
  kRefused,       ///< ECONNREFUSED
  kTimedOut,      ///< the system gives a connection up
  kStall,         ///< nothing moves on a connection for long
  kLate,          ///< a completion, or the end that was asked for, comes late
  kNatural,       ///< a multishot operation ends by itself
  kEarly,         ///< a wait ends for nothing
  kJump,          ///< the clock goes far ahead
  kNoThread,      ///< the system has no thread to give
  kNoLane,        ///< nor a ring
  kFew,           ///< a reap brings fewer than there are
  kOverflow,      ///< the ring of completions is full
  kCount
};
const char* name_of(Fault fault);

struct WorldSettings {
  std::uint64_t seed = 0;
  /// Bits of faults that do not happen.
  std::uint64_t without = 0;
  /// That happen at most, in all.
  std::uint64_t most_faults = UINT64_MAX;
  /// Bytes that a connection has room for at least, on each side: where time is real, one byte at a
  /// time takes long.
  std::size_t least_room = 1;
  /// What is no longer arrives, and is taken, in one piece: tests say hello and expect to hear it.
  std::size_t least_piece = 1;
  /// Nanoseconds that something late is late at most.
  Time latest = 50'000'000;
};

#ifdef CP_SIMULATION
inline constexpr bool kFilesOfWorld = true;
#else
/// For a process the connections are the world's, and the files are the system's.
inline constexpr bool kFilesOfWorld = false;
#endif

class World;
class SimLane;
struct Job;

/// Bytes on their way to one end of a connection.
struct Flow {
  std::deque<std::uint8_t> on_the_way;  ///< the sender's system has them
  std::deque<std::uint8_t> arrived;
  std::uint64_t sent = 0, delivered = 0, taken = 0;
  bool end_sent = false, end_arrived = false;
  bool moving = false;     ///< an event will move some
  std::size_t room = 0;    ///< of the sender's system
  std::size_t window = 0;  ///< of the receiver's
};

struct Connection;

/// A side of a connection, which a descriptor or somebody of the world has.
struct End {
  Connection* connection = nullptr;
  int side = 0;
  int descriptors = 0;
  bool of_world = false;
  bool closed = false;
  bool reset = false;
  bool reset_told = false;
  bool shut_in = false;
  bool resets_at_close = false;
  std::vector<Job*> waiting;
  std::function<void()> changed;  ///< of_world

  Flow& in();
  Flow& out();
  End& peer();
};

struct Connection {
  std::uint64_t number = 0;
  SocketAddress addresses[2];
  End ends[2];  ///< who connected, who accepted
  Flow to[2];
};

struct Listener {
  int descriptors = 0;
  std::uint16_t port = 0;
  SocketAddress address;
  std::size_t backlog = 0;
  std::deque<Connection*> queue;
  std::vector<Job*> waiting;
  /// Of somebody of the world, who takes each connection at once.
  std::function<void(Connection*)> taker;
};

struct Inode {
  std::uint64_t number = 0;
  std::vector<std::uint8_t> bytes, synced;
  std::uint32_t mode = 0;
  std::int64_t accessed = 0, modified = 0;
};

struct OpenFile {
  std::shared_ptr<Inode> inode;
  std::uint32_t flags = 0;
};

/// A FIFO, or a pipe.
struct Pipe {
  std::deque<std::uint8_t> bytes;
  std::size_t room = 0;
  std::uint64_t written = 0, taken = 0;
  int readers = 0, writers = 0;
  bool had_writer = false;  ///< none yet is no end
  std::vector<Job*> waiting;
};

/// What a descriptor stands for.
struct Entry {
  End* end = nullptr;
  std::shared_ptr<Listener> listener;
  std::shared_ptr<OpenFile> file;
  std::shared_ptr<Pipe> pipe;
  bool writes = false;         ///< to the pipe
  std::uint64_t identity = 0;  ///< that the port gave it
  bool open() const { return end || listener || file || pipe; }
  std::vector<Job*>& waiting() {
    return end ? end->waiting : pipe ? pipe->waiting : listener->waiting;
  }
};

class World {
 public:
  explicit World(const WorldSettings& settings);
  ~World();
  static World& current();
  /// A thread of the simulation, which has to run.
  void begin();

  Random& random() { return random_; }
  /// Whether it happens now.
  bool fault(Fault fault);
  std::uint64_t faults() const { return faults_; }
  /// Some time that an event takes; now and then much.
  Time delay();
  void after(Time span, std::function<void()> event);

  // ---- descriptors

  /// Where the system has some as well, out of their way: a call on one of these fails there.
  static constexpr Descriptor kFirst = kFilesOfWorld ? 3 : 1 << 30;
  static bool has(Descriptor descriptor) { return descriptor >= kFirst; }
  Entry* at(Descriptor descriptor);
  Descriptor put(Entry entry);
  Result close(Descriptor descriptor);
  Descriptor copy(Descriptor descriptor);
  /// An operation of the port meant this one.
  void check(const Operation& operation);
  std::size_t open_descriptors() const;
  std::string describe_open() const;

  // ---- connections

  static SocketAddress address_of(std::uint16_t port);
  static std::uint16_t port_of(const SocketAddress& address);
  static SocketAddress with_port(SocketAddress address, std::uint16_t port);
  static bool speaks(const SocketAddress& address);  ///< TCP it is
  Result listen(const SocketAddress& address, int backlog);
  /// Somebody of the world listens: the port.
  std::uint16_t serve(std::function<void(Connection*)> taker);
  /// Somebody of the world, or a lane, connects: `done` is called with 0 or an error when that is
  /// known.
  Connection* dial(const SocketAddress& address, std::function<void(Connection*, Result)> done);
  Connection* dial(std::uint16_t port, std::function<void(Connection*, Result)> done);
  Result accept(Listener& listener, Connection*& out);
  Result send(End& end, const std::uint8_t* bytes, std::size_t length);
  Result receive(End& end, std::uint8_t* into, std::size_t length);
  Result shut_down(End& end, int how);
  void close_end(End& end);
  void reset(End& end);  ///< `end` hears that its peer has reset
  /// Something of the connection may have changed.
  void tell(End& end);
  void tell(Listener& listener);
  const std::vector<std::unique_ptr<Connection>>& connections() const { return connections_; }

  // ---- files

  Result open(const char* path, std::uint32_t flags, std::uint32_t mode, FileKind& kind);
  Result temporary();
  /// What run_blocking, or a ring, does with a file.
  Result perform(Operation& operation);
  std::map<std::string, std::shared_ptr<Inode>>& files() { return names_; }
  /// There is a FIFO of that name.
  std::shared_ptr<Pipe> make_fifo(const std::string& path);
  /// The power fails: what was not synced is gone.
  void cut_off();

  // ---- notifiers

  Descriptor add_notifier();
  void remove_notifier(Descriptor notifier);
  void notify(Descriptor notifier);
  void forget_ears(const void* whose);
  void hear(Descriptor notifier, const void* whose, std::function<void()> ring);

 private:
  struct Event {
    Time time;
    std::uint64_t order;
    std::function<void()> what;
    bool operator<(const Event& other) const {
      return time != other.time ? time > other.time : order > other.order;
    }
  };
  void run();
  std::size_t part_of(std::size_t whole, Fault fault);
  void move(End& to);
  void go_on_moving(End& to);
  Result transfer(Operation& operation, OpenFile& file);
  Result open_fifo(const std::shared_ptr<Pipe>& pipe, bool writes);
  Result read_pipe(Operation& operation, Pipe& pipe);
  Result write_pipe(Operation& operation, Pipe& pipe);
  void tell(std::vector<Job*> waiting);
  std::uint16_t free_port();
  void arrive(Connection* connection, std::uint16_t port,
              std::function<void(Connection*, Result)> done);

  const WorldSettings settings_;
  Random random_, fault_random_;
  std::array<std::uint32_t, static_cast<std::size_t>(Fault::kCount)> odds_{};
  std::uint64_t faults_ = 0;
  std::priority_queue<Event> events_;
  std::uint64_t event_order_ = 0;
  int jumps_ = 0;
  cp::sim::Fiber* fiber_ = nullptr;
  std::vector<Entry> entries_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::map<std::uint16_t, std::weak_ptr<Listener>> listening_;
  std::vector<std::shared_ptr<Listener>> servers_;
  std::uint16_t next_port_ = 1024;
  std::map<std::string, std::shared_ptr<Inode>> names_;
  std::map<std::string, std::shared_ptr<Pipe>> fifos_;
  std::uint64_t next_inode_ = 1;
  struct Ear {
    Descriptor notifier;
    const void* whose;
    std::function<void()> ring;
  };
  std::vector<Ear> ears_;
  Descriptor next_notifier_ = 1'000'000;
};

}  // namespace cp::driver::sim
