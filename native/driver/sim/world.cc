#include "driver/sim/world.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <utility>

#include "driver/blocking/blocking_calls.h"
#include "driver/sim/sim_lane.h"
#include "system/switch_point.h"

namespace cp::driver::sim {
namespace {

World* the_world = nullptr;

constexpr const char* kNames[] = {
    "short receive", "short send",   "short read", "short write", "ENOBUFS", "ENOMEM",
    "EMFILE",        "ECONNABORTED", "ENOSPC",     "EDQUOT",      "EIO",     "EINTR",
    "reset",         "refused",      "ETIMEDOUT",  "stall",       "late",    "natural end",
    "early",         "clock jump",   "no thread",  "no lane",     "few",     "overflow"};
static_assert(std::size(kNames) == static_cast<std::size_t>(Fault::kCount));

}  // namespace

const char* name_of(Fault fault) { return kNames[static_cast<std::size_t>(fault)]; }

Flow& End::in() { return connection->to[side]; }
Flow& End::out() { return connection->to[1 - side]; }
End& End::peer() { return connection->ends[1 - side]; }

/// A world in which everything goes wrong at once shows less than one in which a few things do:
/// each fault has odds of its own in each world, and in one world of six there are none.
World::World(const WorldSettings& settings)
    : settings_(settings), random_(settings.seed, 2), fault_random_(settings.seed, 3) {
  the_world = this;
  const bool calm = fault_random_.one_in(6);
  constexpr std::uint32_t kOdds[] = {0, 0, 0, 4, 15, 60, 250, 1000};
  for (std::size_t i = 0; i < odds_.size(); ++i) {
    const std::uint64_t drawn = fault_random_.below(std::size(kOdds));
    odds_[i] = calm || (settings.without >> i & 1) != 0 ? 0 : kOdds[drawn];
  }
}

World::~World() { the_world = nullptr; }

World& World::current() {
  assert(the_world != nullptr);
  return *the_world;
}

bool World::fault(Fault fault) {
  const std::uint32_t odds = odds_[static_cast<std::size_t>(fault)];
  if (odds == 0 || !fault_random_.one_in(odds)) return false;
  if (faults_ >= settings_.most_faults) return false;
  ++faults_;
  cp::sim::Scheduler::current()->note("fault %lld:", faults_, 0, 0, name_of(fault));
  return true;
}

// ---- events -----------------------------------------------------------------------------------

void World::begin() {
  fiber_ = cp::sim::Scheduler::current()->spawn("world", [this] { run(); });
}

void World::run() {
  cp::sim::Scheduler& scheduler = *cp::sim::Scheduler::current();
  for (;;) {
    if (events_.empty()) {
      scheduler.block("world");
      continue;
    }
    if (events_.top().time > scheduler.now()) {
      scheduler.block("world", events_.top().time);
      continue;
    }
    const auto what = events_.top().what;
    events_.pop();
    what();
    // A few times: whoever waits for something to come to its end goes by this clock as well.
    constexpr int kMostJumps = 5;
    if (jumps_ < kMostJumps && fault(Fault::kJump)) {
      ++jumps_;
      scheduler.jump(static_cast<Time>(random_.below(1'000'000'000)));
    }
    scheduler.switch_point("world");
  }
}

Time World::delay() {
  if (fault(Fault::kLate))
    return static_cast<Time>(random_.below(static_cast<std::uint64_t>(settings_.latest)));
  return random_.coin() ? static_cast<Time>(random_.below(2'000))
                        : static_cast<Time>(random_.below(300'000));
}

void World::after(Time span, std::function<void()> event) {
  cp::sim::Scheduler& scheduler = *cp::sim::Scheduler::current();
  events_.push({scheduler.now() + span, event_order_++, std::move(event)});
  scheduler.wake(fiber_);
}

// ---- descriptors ------------------------------------------------------------------------------

Entry* World::at(Descriptor descriptor) {
  const Descriptor i = descriptor - kFirst;
  if (i < 0 || static_cast<std::size_t>(i) >= entries_.size()) return nullptr;
  Entry& entry = entries_[static_cast<std::size_t>(i)];
  return entry.open() ? &entry : nullptr;
}

/// The lowest number that is free, as a system has it: a number is used again at once.
Descriptor World::put(Entry entry) {
  if (entry.end != nullptr) ++entry.end->descriptors;
  if (entry.listener) ++entry.listener->descriptors;
  if (entry.pipe) ++(entry.writes ? entry.pipe->writers : entry.pipe->readers);
  std::size_t i = 0;
  while (i < entries_.size() && entries_[i].open()) ++i;
  if (i == entries_.size()) entries_.emplace_back();
  entries_[i] = std::move(entry);
  return kFirst + static_cast<Descriptor>(i);
}

Descriptor World::copy(Descriptor descriptor) {
  const Entry* entry = at(descriptor);
  if (entry == nullptr) return -EBADF;
  Entry twin = *entry;
  twin.identity = 0;
  return put(std::move(twin));
}

Result World::close(Descriptor descriptor) {
  Entry* entry = at(descriptor);
  if (entry == nullptr) {
    cp::sim::fail("a descriptor is closed once",
                  cp::sim::format("%lld is not open", static_cast<long long>(descriptor)));
  }
  cp::sim::Scheduler::current()->note("descriptor %lld is closed",
                                      static_cast<std::uint64_t>(descriptor));
  const Entry closed = std::exchange(*entry, Entry());
  if (closed.end != nullptr && --closed.end->descriptors == 0) close_end(*closed.end);
  if (closed.pipe) {
    --(closed.writes ? closed.pipe->writers : closed.pipe->readers);
    tell(closed.pipe->waiting);
  }
  if (closed.listener && --closed.listener->descriptors == 0) {
    listening_.erase(closed.listener->port);
    for (Connection* waiting : std::exchange(closed.listener->queue, {})) reset(waiting->ends[0]);
  }
  return 0;
}

/// A number that is used again may not be met by what was meant for its predecessor (rule O5).
void World::check(const Operation& operation) {
  Entry* entry = at(operation.descriptor);
  if (entry == nullptr) {
    cp::sim::fail("no operation meets another's descriptor",
                  cp::sim::format("an operation on %lld, which is not open",
                                  static_cast<long long>(operation.descriptor)));
  }
  if (operation.descriptor_id == 0) return;
  if (entry->identity == 0) entry->identity = operation.descriptor_id;
  if (entry->identity != operation.descriptor_id) {
    cp::sim::fail("no operation meets another's descriptor",
                  cp::sim::format("an operation that was meant for a predecessor of %lld",
                                  static_cast<long long>(operation.descriptor)));
  }
}

std::size_t World::open_descriptors() const {
  return static_cast<std::size_t>(
      std::count_if(entries_.begin(), entries_.end(), [](const Entry& it) { return it.open(); }));
}

std::string World::describe_open() const {
  std::string text;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    const Entry& it = entries_[i];
    if (!it.open()) continue;
    text += cp::sim::format(" %zu:%s", i + kFirst,
                            it.end != nullptr ? "connection"
                            : it.listener     ? "listener"
                            : it.pipe         ? "pipe"
                                              : "file");
    if (it.end != nullptr) {
      text +=
          cp::sim::format("(%llu)", static_cast<unsigned long long>(it.end->connection->number));
    }
  }
  return text;
}

// ---- connections ------------------------------------------------------------------------------

SocketAddress World::address_of(std::uint16_t port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  SocketAddress out;
  std::memcpy(out.bytes, &address, sizeof address);
  out.length = sizeof address;
  return out;
}

std::uint16_t World::port_of(const SocketAddress& address) {
  sockaddr_in it;
  std::memcpy(&it, address.bytes, sizeof it);
  return ntohs(it.sin_port);
}

SocketAddress World::with_port(SocketAddress address, std::uint16_t port) {
  sockaddr_in it;
  std::memcpy(&it, address.bytes, sizeof it);
  it.sin_port = htons(port);
  std::memcpy(address.bytes, &it, sizeof it);
  return address;
}

/// A process that runs for long comes round; who listens keeps its own.
std::uint16_t World::free_port() {
  do {
    next_port_ = next_port_ == UINT16_MAX ? 1024 : static_cast<std::uint16_t>(next_port_ + 1);
  } while (!listening_[next_port_].expired());
  return next_port_;
}

/// IPv4 or IPv6, whose ports are in the same place; there is one host, and who asks for another one
/// finds it.
bool World::speaks(const SocketAddress& address) {
  sockaddr it;
  std::memcpy(&it, address.bytes, sizeof it);
  return it.sa_family == AF_INET || it.sa_family == AF_INET6;
}

Result World::listen(const SocketAddress& address, int backlog) {
  if (!speaks(address)) return -EAFNOSUPPORT;
  if (fault(Fault::kTooManyFiles)) return -EMFILE;
  std::uint16_t port = port_of(address);
  if (port == 0) port = free_port();
  if (!listening_[port].expired()) return -EADDRINUSE;
  auto listener = std::make_shared<Listener>();
  listener->port = port;
  listener->address = with_port(address, port);
  listener->backlog = static_cast<std::size_t>(std::max(1, backlog));
  listening_[port] = listener;
  Entry entry;
  entry.listener = listener;
  return put(std::move(entry));
}

std::uint16_t World::serve(std::function<void(Connection*)> taker) {
  auto listener = std::make_shared<Listener>();
  listener->port = free_port();
  listener->taker = std::move(taker);
  listening_[listener->port] = listener;
  servers_.push_back(listener);
  return listener->port;
}

Connection* World::dial(std::uint16_t port, std::function<void(Connection*, Result)> done) {
  return dial(address_of(port), std::move(done));
}

Connection* World::dial(const SocketAddress& address,
                        std::function<void(Connection*, Result)> done) {
  const std::uint16_t port = port_of(address);
  auto made = std::make_unique<Connection>();
  Connection* connection = made.get();
  connection->number = connections_.size() + 1;
  connection->addresses[0] = with_port(address, free_port());
  connection->addresses[1] = address;
  constexpr std::size_t kRooms[] = {1, 7, 100, 1000, 4096, 20000};
  for (int side = 0; side < 2; ++side) {
    connection->ends[side].connection = connection;
    connection->ends[side].side = side;
    Flow& flow = connection->to[side];
    flow.room = std::max(settings_.least_room, kRooms[random_.below(std::size(kRooms))]);
    flow.window = std::max(settings_.least_room, kRooms[random_.below(std::size(kRooms))]);
  }
  connections_.push_back(std::move(made));
  after(delay(), [this, connection, port, done = std::move(done)]() mutable {
    arrive(connection, port, std::move(done));
  });
  return connection;
}

void World::arrive(Connection* connection, std::uint16_t port,
                   std::function<void(Connection*, Result)> done) {
  if (connection->ends[0].closed) return done(connection, -ECANCELED);
  const auto found = listening_.find(port);
  const auto listener = found == listening_.end() ? nullptr : found->second.lock();
  if (fault(Fault::kTimedOut)) return done(connection, -ETIMEDOUT);
  if (!listener || fault(Fault::kRefused)) return done(connection, -ECONNREFUSED);
  if (listener->taker) {
    connection->ends[1].of_world = true;
    done(connection, 0);
    return listener->taker(connection);
  }
  if (listener->queue.size() >= listener->backlog) {
    // It comes again, as a client does that is not answered.
    return after(20'000'000, [this, connection, port, done = std::move(done)]() mutable {
      arrive(connection, port, std::move(done));
    });
  }
  listener->queue.push_back(connection);
  done(connection, 0);
  tell(*listener);
}

Result World::accept(Listener& listener, Connection*& out) {
  if (listener.queue.empty()) return -EAGAIN;
  if (fault(Fault::kTooManyFiles)) return -EMFILE;
  if (fault(Fault::kNoMemory)) return -ENOMEM;
  Connection* connection = listener.queue.front();
  listener.queue.pop_front();
  if (fault(Fault::kAborted)) {
    connection->ends[1].closed = true;
    reset(connection->ends[0]);
    return -ECONNABORTED;
  }
  out = connection;
  return 0;
}

/// All of it, or less where the fault says so.
std::size_t World::part_of(std::size_t whole, Fault fault) {
  if (whole <= settings_.least_piece || !this->fault(fault)) return whole;
  return random_.between(settings_.least_piece, whole - 1);
}

Result World::send(End& end, const std::uint8_t* bytes, std::size_t length) {
  Flow& flow = end.out();
  if (end.reset) {
    const bool tells = !end.in().end_arrived && !std::exchange(end.reset_told, true);
    return tells ? -ECONNRESET : -EPIPE;
  }
  if (flow.end_sent) return -EPIPE;
  if (flow.on_the_way.size() >= flow.room) return -EAGAIN;
  if (fault(Fault::kReset)) {
    reset(end);
    reset(end.peer());
    return send(end, bytes, length);
  }
  std::size_t taken = std::min(length, flow.room - flow.on_the_way.size());
  taken = part_of(taken, Fault::kShortSend);
  flow.on_the_way.insert(flow.on_the_way.end(), bytes, bytes + taken);
  flow.sent += taken;
  go_on_moving(end.peer());
  return static_cast<Result>(taken);
}

void World::go_on_moving(End& to) {
  Flow& flow = to.in();
  if (flow.moving) return;
  flow.moving = true;
  // Not for ever: what is under way is to end some time.
  constexpr Time kCalm = 60'000'000'000;
  const bool stalls = cp::sim::Scheduler::current()->now() < kCalm && fault(Fault::kStall);
  const Time span = stalls ? static_cast<Time>(random_.below(3'000'000'000)) : delay();
  after(span, [this, &to] {
    to.in().moving = false;
    move(to);
  });
}

/// A piece of any size arrives at `to`, or the end does behind the last.
void World::move(End& to) {
  Flow& flow = to.in();
  End& from = to.peer();
  if (to.reset || from.reset) return;
  const std::size_t room = flow.window - std::min(flow.window, flow.arrived.size());
  std::size_t piece = std::min(flow.on_the_way.size(), room);
  if (piece > 0 && to.closed) return reset(from);  // nobody is there for them
  if (piece > 0) {
    piece = std::min<std::size_t>(piece, std::max(settings_.least_piece, random_.size(8192)));
    const auto last = flow.on_the_way.begin() + static_cast<std::ptrdiff_t>(piece);
    flow.arrived.insert(flow.arrived.end(), flow.on_the_way.begin(), last);
    flow.on_the_way.erase(flow.on_the_way.begin(), last);
    flow.delivered += piece;
  }
  if (flow.on_the_way.empty() && flow.end_sent) flow.end_arrived = true;
  tell(to);
  tell(from);
  if (!flow.on_the_way.empty() && flow.arrived.size() < flow.window) go_on_moving(to);
}

Result World::receive(End& end, std::uint8_t* into, std::size_t length) {
  Flow& flow = end.in();
  if (!flow.arrived.empty() && !end.shut_in) {
    std::size_t taken = std::min(length, flow.arrived.size());
    taken = part_of(taken, Fault::kShortReceive);
    std::copy_n(flow.arrived.begin(), taken, into);
    flow.arrived.erase(flow.arrived.begin(),
                       flow.arrived.begin() + static_cast<std::ptrdiff_t>(taken));
    flow.taken += taken;
    if (!flow.on_the_way.empty()) go_on_moving(end);
    return static_cast<Result>(taken);
  }
  if (flow.end_arrived || end.shut_in) return 0;
  if (end.reset) return std::exchange(end.reset_told, true) ? 0 : -ECONNRESET;
  return -EAGAIN;
}

Result World::shut_down(End& end, int how) {
  if (end.reset) return -ENOTCONN;
  if (how != SHUT_WR) end.shut_in = true;
  if (how != SHUT_RD && !end.out().end_sent) {
    end.out().end_sent = true;
    go_on_moving(end.peer());
  }
  tell(end);
  return 0;
}

/// With bytes unread, or when that was asked for, the peer is told that they are lost.
void World::close_end(End& end) {
  if (end.closed) return;
  end.closed = true;
  const bool lost = !end.in().arrived.empty() || end.resets_at_close;
  if (end.reset) return;
  if (lost) {
    after(delay(), [this, &end] { reset(end.peer()); });
    return;
  }
  if (!end.out().end_sent) {
    end.out().end_sent = true;
    go_on_moving(end.peer());
  }
  if (!end.in().on_the_way.empty()) go_on_moving(end);
}

/// What has arrived can still be read. Who had the end of the stream before is not told of it.
void World::reset(End& end) {
  if (end.reset) return;
  end.reset = true;
  end.in().on_the_way.clear();
  end.out().on_the_way.clear();
  cp::sim::Scheduler::current()->note("connection %lld, side %lld: hears of a reset",
                                      end.connection->number, static_cast<std::uint64_t>(end.side));
  tell(end);
}

void World::tell(End& end) {
  if (end.of_world) {
    if (end.changed) end.changed();
    return;
  }
  tell(end.waiting);
}

void World::tell(Listener& listener) { tell(listener.waiting); }

void World::tell(std::vector<Job*> waiting) {
  for (Job* job : waiting) job->lane->kick(*job);
}

// ---- files ------------------------------------------------------------------------------------

Result World::open(const char* path, std::uint32_t flags, std::uint32_t mode, FileKind& kind) {
  if (const auto fifo = fifos_.find(path); fifo != fifos_.end()) {
    kind = FileKind::kStream;
    return open_fifo(fifo->second, (flags & kOpenWrite) != 0);
  }
  if (fault(Fault::kTooManyFiles)) return -EMFILE;
  kind = FileKind::kRegular;
  const auto found = names_.find(path);
  if (found == names_.end() && (flags & kOpenCreate) == 0) return -ENOENT;
  if (found != names_.end() && (flags & kOpenExclusive) != 0) return -EEXIST;
  std::shared_ptr<Inode> inode;
  if (found == names_.end()) {
    if (fault(Fault::kNoSpace)) return -ENOSPC;
    inode = std::make_shared<Inode>();
    inode->number = next_inode_++;
    inode->mode = S_IFREG | (mode & 07777);
    names_[path] = inode;
  } else {
    inode = found->second;
    if ((flags & kOpenTruncate) != 0) inode->bytes.clear();
  }
  Entry entry;
  entry.file = std::make_shared<OpenFile>();
  entry.file->inode = inode;
  entry.file->flags = flags;
  return put(std::move(entry));
}

// ---- FIFOs

std::shared_ptr<Pipe> World::make_fifo(const std::string& path) {
  constexpr std::size_t kRooms[] = {16, 100, 4096, 65536};
  auto pipe = std::make_shared<Pipe>();
  pipe->room = kRooms[random_.below(std::size(kRooms))];
  fifos_[path] = pipe;
  return pipe;
}

/// As it is opened without blocking: to read, at once; to write, when somebody reads.
Result World::open_fifo(const std::shared_ptr<Pipe>& pipe, bool writes) {
  if (writes && pipe->readers == 0) return kTryLater;
  if (fault(Fault::kTooManyFiles)) return -EMFILE;
  if (writes) pipe->had_writer = true;
  Entry entry;
  entry.pipe = pipe;
  entry.writes = writes;
  return put(std::move(entry));
}

Result World::read_pipe(Operation& operation, Pipe& pipe) {
  if (pipe.bytes.empty()) return pipe.writers == 0 && pipe.had_writer ? 0 : -EAGAIN;
  Result done = 0;
  for (std::uint32_t i = 0; i < operation.slice_count && !pipe.bytes.empty(); ++i) {
    const Slice& into = operation.slices[i];
    std::size_t taken = std::min(into.length, pipe.bytes.size());
    if (taken > 0) taken = part_of(taken, Fault::kShortRead);
    std::copy_n(pipe.bytes.begin(), taken, static_cast<std::uint8_t*>(into.base));
    pipe.bytes.erase(pipe.bytes.begin(), pipe.bytes.begin() + static_cast<std::ptrdiff_t>(taken));
    done += static_cast<Result>(taken);
    if (taken < into.length) break;
  }
  pipe.taken += static_cast<std::uint64_t>(done);
  tell(pipe.waiting);
  return done;
}

/// What is no longer than PIPE_BUF goes in as a whole; of the rest, what there is room for.
Result World::write_pipe(Operation& operation, Pipe& pipe) {
  if (pipe.readers == 0) return -EPIPE;
  constexpr std::size_t kWhole = 16;
  std::size_t wanted = 0;
  for (std::uint32_t i = 0; i < operation.slice_count; ++i) wanted += operation.slices[i].length;
  const std::size_t free = pipe.room - pipe.bytes.size();
  if (free == 0 || (wanted <= kWhole && free < wanted)) return -EAGAIN;
  std::size_t left = std::min(wanted, free);
  if (left > kWhole) left = part_of(left, Fault::kShortWrite);
  const auto done = static_cast<Result>(left);
  for (std::uint32_t i = 0; i < operation.slice_count && left > 0; ++i) {
    const auto* bytes = static_cast<const std::uint8_t*>(operation.slices[i].base);
    const std::size_t part = std::min(left, operation.slices[i].length);
    pipe.bytes.insert(pipe.bytes.end(), bytes, bytes + part);
    left -= part;
  }
  pipe.written += static_cast<std::uint64_t>(done);
  tell(pipe.waiting);
  return done;
}

Result World::temporary() {
  if (fault(Fault::kTooManyFiles)) return -EMFILE;
  if (fault(Fault::kNoSpace)) return -ENOSPC;
  Entry entry;
  entry.file = std::make_shared<OpenFile>();
  entry.file->inode = std::make_shared<Inode>();
  entry.file->inode->number = next_inode_++;
  entry.file->inode->mode = S_IFREG | 0600;
  entry.file->flags = kOpenRead | kOpenWrite;
  return put(std::move(entry));
}

Result World::transfer(Operation& operation, OpenFile& file) {
  std::vector<std::uint8_t>& bytes = file.inode->bytes;
  if (fault(Fault::kIo)) return -EIO;
  std::size_t wanted = 0;
  for (std::uint32_t i = 0; i < operation.slice_count; ++i) wanted += operation.slices[i].length;
  const bool writes = operation.code == Opcode::kWrite;
  auto place = static_cast<std::size_t>(operation.offset);
  if (writes && (file.flags & kOpenAppend) != 0) place = bytes.size();
  std::size_t moved = wanted;
  if (writes) {
    if (fault(Fault::kNoSpace)) return -ENOSPC;
    if (fault(Fault::kQuota)) return -EDQUOT;
    moved = part_of(moved, Fault::kShortWrite);
    if (place + moved > bytes.size()) bytes.resize(place + moved);
  } else {
    moved = place >= bytes.size() ? 0 : std::min(wanted, bytes.size() - place);
    moved = part_of(moved, Fault::kShortRead);
  }
  std::size_t left = moved;
  for (std::uint32_t i = 0; i < operation.slice_count && left > 0; ++i) {
    const std::size_t part = std::min(left, operation.slices[i].length);
    if (writes) {
      std::memcpy(bytes.data() + place, operation.slices[i].base, part);
    } else {
      std::memcpy(operation.slices[i].base, bytes.data() + place, part);
    }
    place += part;
    left -= part;
  }
  return static_cast<Result>(moved);
}

Result World::perform(Operation& operation) {
  if (operation.code == Opcode::kOpen) {
    return open(operation.path, operation.flags, operation.mode, operation.file_kind);
  }
  check(operation);
  if (operation.code == Opcode::kClose) return close(operation.descriptor);
  Entry* entry = at(operation.descriptor);
  if (entry->pipe && operation.code == Opcode::kRead) return read_pipe(operation, *entry->pipe);
  if (entry->pipe && operation.code == Opcode::kWrite) return write_pipe(operation, *entry->pipe);
  if (entry->file == nullptr) return -EINVAL;
  OpenFile& file = *entry->file;
  Inode& inode = *file.inode;
  switch (operation.code) {
    case Opcode::kRead:
    case Opcode::kWrite:
      return transfer(operation, file);
    case Opcode::kSync:
    case Opcode::kDataSync:
      if (fault(Fault::kIo)) return -EIO;
      if (!CP_PLANTED("a sync that does nothing")) inode.synced = inode.bytes;
      return 0;
    case Opcode::kTruncate:
      if (fault(Fault::kIo)) return -EIO;
      inode.bytes.resize(static_cast<std::size_t>(operation.offset));
      return 0;
    case Opcode::kAllocate: {
      if (fault(Fault::kNoSpace)) return -ENOSPC;
      const std::size_t end = static_cast<std::size_t>(operation.offset) + operation.length;
      if (inode.bytes.size() < end) inode.bytes.resize(end);
      return 0;
    }
    case Opcode::kSetMode:
      inode.mode = S_IFREG | (static_cast<std::uint32_t>(operation.offset) & 07777);
      return 0;
    case Opcode::kSetOwner:
      return 0;
    case Opcode::kSetTimes:
      inode.accessed = operation.offset;
      inode.modified = static_cast<std::int64_t>(operation.length);
      return 0;
    case Opcode::kStat:
      *operation.status = {};
      operation.status->size = inode.bytes.size();
      operation.status->mode = inode.mode;
      operation.status->inode = inode.number;
      operation.status->links = 1;
      return 0;
    case Opcode::kOpen:
    case Opcode::kClose:
    case Opcode::kSendHandles:
    case Opcode::kReceiveHandles:
    case Opcode::kAccept:
    case Opcode::kConnect:
    case Opcode::kReceive:
    case Opcode::kSend:
    case Opcode::kSendFile:
    case Opcode::kShutdown:
      break;
  }
  return -EINVAL;
}

void World::cut_off() {
  for (auto& [name, inode] : names_) inode->bytes = inode->synced;
}

// ---- notifiers --------------------------------------------------------------------------------

Descriptor World::add_notifier() { return next_notifier_++; }

void World::remove_notifier(Descriptor notifier) {
  std::erase_if(ears_, [&](const Ear& ear) { return ear.notifier == notifier; });
}

void World::hear(Descriptor notifier, const void* whose, std::function<void()> ring) {
  ears_.push_back({notifier, whose, std::move(ring)});
}

void World::forget_ears(const void* whose) {
  std::erase_if(ears_, [&](const Ear& ear) { return ear.whose == whose; });
}

void World::notify(Descriptor notifier) {
  for (const Ear& ear : ears_) {
    if (ear.notifier == notifier) ear.ring();
  }
}

}  // namespace cp::driver::sim
