// Threads that do what programs do, at random, on one port or two: messages, connections, files,
// timers, hand-offs, cancels, closes; and die in the middle of it.
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>

#include "driver/errno.h"
#include "driver/sim/sim_driver.h"
#include "driver/sim/sim_lane.h"
#include "port/port.h"
#include "port/thread.h"
#include "port/unique_keys.h"
#include "sim/model.h"
#include "sim/peer.h"
#include "sim/run_workload.h"
#include "system/switch_point.h"

namespace cp::test {
namespace {

using cp::sim::fail;
using cp::sim::format;
using cp::sim::Random;
using cp::sim::Scheduler;
using cp::sim::Time;

constexpr Time kPortPatience = 30'000 * kMillisecond;
constexpr std::uint32_t kListenerKey = 100;
constexpr std::uint32_t kClosedKey = 99;
constexpr std::uint32_t kFileKey = 1000;
/// The next one is that of the end that is written to.
constexpr std::uint32_t kFifoKey = 100'000;

class Run;

/// A file of the program's, all of whose operations are under its key.
struct FileModel {
  HandleId id = 0;
  std::uint32_t key = 0;
  std::string path;
  std::vector<std::uint8_t> bytes;
  std::size_t writing = 0, read_from = 0;
  std::size_t synced = 0;
  std::size_t whole = 0;                           ///< bytes that were written
  Place place;                                     ///< of a read
  std::pair<std::uint32_t, std::uint32_t> reader;  ///< whose that is
  std::uint32_t under_way = 0;
  bool closing = false;
  bool broken = false;  ///< a write failed: nobody knows what is in it
  bool sent = false;    ///< to a connection: it stays as it is
};

/// A FIFO both of whose ends the program opens, each under a key of its own.
struct FifoModel {
  struct End {
    HandleId id = 0;
    std::uint32_t under_way = 0;
    bool closing = false;
  };
  std::shared_ptr<driver::sim::Pipe> pipe;
  std::uint32_t key = 0;
  End reads, writes;
  std::vector<std::uint8_t> bytes;  ///< that were given to it
  std::size_t checked = 0;          ///< of them: that were read
  Place place;                      ///< of the read
  std::pair<std::uint32_t, std::uint32_t> reader;
  bool broken = false;  ///< a write may have left a gap
  End& end(bool of_writer) { return of_writer ? writes : reads; }
};

class Member final : private Outbox {
 public:
  Member(Run& run, std::uint32_t number, std::size_t port);
  void main();

 private:
  friend class Run;
  bool attach();
  void step(std::uint32_t index);
  bool pending() const override { return !written_.empty(); }
  void submit() override;
  void submit(Request* request, HandleId handle);
  void begin_written();
  void take(Time patience);
  void handle(PacketSlot& packet);
  void on_accept(const PacketSlot& packet);
  void on_awaited(const PacketSlot& packet);
  void begin_conn(HandleId handle, std::uint32_t key, int side);
  void tell(std::uint32_t key);
  void send_file(Conn& c);
  Request* of_file(PacketKind kind, FileModel& file);
  void check_read(FileModel& file, std::size_t length);
  void on_conn(const PacketSlot& packet, Conn& c);
  void on_file(const PacketSlot& packet, FileModel& file);
  void on_fifo(const PacketSlot& packet, FifoModel& fifo, bool of_writer);
  void on_fifo_read(const PacketSlot& packet, FifoModel& fifo);
  void on_received(const PacketSlot& packet, Conn& c);
  void act(Conn& c);
  void act(FileModel& file);
  void act(FifoModel& fifo, bool of_writer);
  void listen();
  void connect();
  void dial();
  void open_file();
  void open_fifo();
  void open_fifo_end(FifoModel& fifo, bool of_writer);
  void timer();
  void post(std::uint32_t key);
  void cancel_something();
  void close_something();
  void send(Conn& c);
  void receive(Conn& c);
  void hand_off(Conn& c);
  void close(HandleId handle);
  void compute();
  void release_kept();
  void die();
  void leave();
  void detach(bool died);
  Request* request(PacketKind kind, HandleId handle, std::uint32_t key);
  bool fill(Request& request, const std::vector<std::uint8_t>& bytes);

  Run& run_;
  const std::uint32_t number_;
  const std::size_t at_;
  Random random_;
  std::uint32_t life_ = 0;
  bool dies_ = false;
  bool writes_down_ = false;  ///< and submits when it comes to its lane, unless another thread does
  bool in_event_loop_ = false, watching_ = false;
  bool has_place_ = false, came_back_ = false;
  std::uint32_t room_ = 0;
  std::uint32_t next_token_ = 0;
  std::unique_ptr<PacketSlot[]> slots_{new PacketSlot[kBatchLimit]()};
  std::unique_ptr<PostRing> ring_;
  Thread* thread_ = nullptr;
  std::vector<std::uint32_t> kept_;
  std::deque<std::pair<Request*, HandleId>> written_;
};

class Run {
 public:
  explicit Run(const Plan& plan)
      : plan_(plan),
        random_(plan.seed, 10),
        world_({plan.seed, plan.without_faults, plan.most_faults}) {}

  void main();
  void look();
  std::uint64_t faults() const { return world_.faults(); }

 private:
  friend class Member;
  void make_ports();
  void serve();
  void close_all();
  std::map<Conn*, std::uint64_t> unheard();
  void check_received();
  bool settled();
  void check_end();
  std::shared_ptr<Peer> peer(std::uint64_t number, int to, PeerPlan::Ends ends);
  std::uint32_t count_running(std::size_t port);
  bool counts_on_busy(std::size_t port) const;

  const Plan& plan_;
  Random random_;
  World world_;
  Model model_;
  std::vector<PortHold> ports_;
  std::vector<std::unique_ptr<Member>> members_;
  std::vector<std::uint16_t> listening_;
  std::uint16_t server_ = 0;
  std::map<std::uint32_t, FileModel> files_;
  std::map<std::uint32_t, FifoModel> fifos_;  ///< by the key of the end that is read
  std::vector<std::shared_ptr<Peer>> peers_;
  std::uint32_t steps_ = 0;
  std::uint32_t most_ = 8;
  std::uint32_t finished_ = 0;
  std::uint32_t next_number_ = 0;
  std::uint32_t next_file_ = 0;
  FifoModel* fifo_of(std::uint32_t key);
  void disturb(HandleId handle);
  void disturb_fifos();
  std::uint32_t unbounded_ = 0;  ///< messages that no limit keeps from the queue
  bool ending_ = false;
  bool over_ = false;
};

std::vector<std::uint8_t> pattern(std::uint64_t number, int to, std::size_t from,
                                  std::size_t length) {
  std::vector<std::uint8_t> bytes(length);
  for (std::size_t i = 0; i < length; ++i) {
    const std::size_t at = from + i;
    bytes[i] = static_cast<std::uint8_t>(
        cp::sim::mix(number * 2 + static_cast<std::uint64_t>(to) + (at >> 3) * 977) >>
        (at & 7) * 8);
  }
  return bytes;
}

// ---- a thread ---------------------------------------------------------------------------------

Member::Member(Run& run, std::uint32_t number, std::size_t port)
    : run_(run), number_(number), at_(port), random_(run.plan_.seed, 100 + number) {
  in_event_loop_ = random_.one_in(3);
  if (random_.coin()) ring_ = std::make_unique<PostRing>();
  writes_down_ = random_.coin();
}

bool Member::attach() {
  for (int i = 0; i < 50; ++i) {
    driver::Result error = 0;
    thread_ = run_.ports_[at_]->attach(slots_.get(), error, ring_.get());
    if (thread_ != nullptr) {
      thread_->set_outbox(this);
      return true;
    }
    if (error == kErrorPortClosed) return false;
    Scheduler::current()->sleep(kMillisecond);
  }
  return false;
}

void Member::main() {
  if (!attach()) {
    ++run_.finished_;
    return;
  }
  const std::uint32_t steps = run_.steps_;
  for (std::uint32_t i = 0; i < steps && thread_ != nullptr; ++i) {
    const std::uint32_t index = number_ * 1000 + i;
    if (!run_.plan_.without_steps.contains(index)) step(index);
    if (thread_ != nullptr && pending() && random_.coin()) compute();
    if (thread_ != nullptr)
      take(random_.one_in(3) ? 0 : static_cast<Time>(random_.below(kMillisecond)));
    if (dies_ && thread_ != nullptr && random_.one_in(steps)) die();
  }
  if (dies_ && thread_ != nullptr && random_.coin()) die();
  ++run_.finished_;
  while (thread_ != nullptr && !run_.over_) take(driver::kNever);
  if (thread_ != nullptr) leave();
}

void Member::step(std::uint32_t index) {
  Random random(run_.plan_.seed, cp::sim::mix(index));
  Scheduler::current()->note("step %lld", index);
  random_ = Random(random.next());
  switch (random.below(14)) {
    case 0:
      return listen();
    case 1:
    case 2:
      return dial();
    case 3:
    case 4:
      return connect();
    case 5:
      return random.coin() ? open_file() : open_fifo();
    case 6:
      return timer();
    case 7:
      return cancel_something();
    case 8:
      return close_something();
    case 9:
      return compute();
    default: {
      const std::uint64_t many = random.size(20);
      const auto key = static_cast<std::uint32_t>(1 + random.below(3));
      for (std::uint64_t i = 0; i < many; ++i) post(key);
    }
  }
}

/// What is written down begins before anything that has to come behind it.
void Member::submit(Request* request, HandleId handle) {
  written_.emplace_back(request, handle);
  if (!writes_down_) begin_written();
}

void Member::begin_written() {
  const auto lane = thread_->hold_lane();
  submit();
}

/// The lane is held, by this thread or one that is here on an errand.
void Member::submit() {
  while (!written_.empty()) {
    const auto [request, handle] = written_.front();
    written_.pop_front();
    thread_->submit_held(request, handle);
  }
}

/// Takes a batch, and handles what no other thread has taken of it meanwhile.
void Member::take(Time patience) {
  // Nobody else would ever end what it has begun.
  while (patience == driver::kNever && !kept_.empty()) release_kept();
  begin_written();
  run_.model_.let_go_all(number_, run_.ports_[at_]->id(), &kept_);
  has_place_ = came_back_ = false;
  const std::size_t most = 1 + random_.below(run_.most_);
  const Time until = patience == driver::kNever ? patience : Scheduler::current()->now() + patience;
  room_ = 0;
  std::int64_t count = 0;
  if (in_event_loop_) {
    count = thread_->poll(most);
    if (count == 0) {
      watching_ = true;
      static_cast<driver::sim::SimLane*>(thread_->lane())->watch(until);
      watching_ = false;
      thread_->clear_notifier();
      count = thread_->poll(most);
    }
  } else {
    count = thread_->get(most, until);
  }
  if (count < 0) return leave();
  bool open = false;
  for (std::int64_t i = 0; i < count; ++i) open |= !thread_->batch()[i].awaited();
  has_place_ = open;
  if (count > 0)
    Scheduler::current()->note("takes %lld packets", static_cast<std::uint64_t>(count));
  const std::uint32_t running = run_.count_running(at_);
  if (open && running > run_.ports_[at_]->options().concurrency) {
    fail(kLimit, format("%u threads run", running));
  }
  for (std::int64_t i = 0; i < count && thread_ != nullptr; ++i) {
    PacketSlot& slot = slots_[static_cast<std::size_t>(i)];
    std::uint32_t expected = kSlotReady;
    system::switch_point();
    std::atomic_ref<std::uint32_t> state(slot.state);
    // Nobody else takes what this thread awaits.
    const bool awaited = (slot.flags & kPacketAwaited) != 0;
    if (!awaited && !state.compare_exchange_strong(expected, kSlotClaimed)) continue;
    if (!awaited && run_.ports_[at_]->options().serialize_keys) {
      run_.model_.hold(run_.ports_[at_]->id(), slot.key, number_);
    }
    handle(slot);
    if (thread_ == nullptr) return;
    if (dies_ && !awaited && random_.one_in(60)) {
      run_.model_.expect_abandoned(run_.ports_[at_]->id(), slot.key);
      return die();
    }
    const bool keeps = !awaited && !run_.ending_ && random_.one_in(20) &&
                       run_.ports_[at_]->options().serialize_keys &&
                       std::find(kept_.begin(), kept_.end(), slot.key) == kept_.end();
    if (keeps) kept_.push_back(slot.key);
    system::switch_point();
    state.store(keeps ? kSlotKept : kSlotDone);
    if (dies_ && random_.one_in(60)) return die();
  }
  if (!kept_.empty() && random_.one_in(3)) release_kept();
}

/// A handler that awaited something is over.
void Member::release_kept() {
  const std::uint32_t key = kept_.back();
  kept_.pop_back();
  run_.model_.let_go(run_.ports_[at_]->id(), key, number_);
  begin_written();
  thread_->release_key(key);
}

void Member::handle(PacketSlot& packet) {
  const std::uint32_t port = run_.ports_[at_]->id();
  const auto kind = static_cast<PacketKind>(packet.kind);
  const Op* op = run_.model_.on_packet(packet, number_);
  if ((packet.flags & kPacketAwaited) != 0) {
    if (op == nullptr) fail(kOneFinal, "an answer that nobody awaits");
    return on_awaited(packet);
  }
  if (kind == PacketKind::kPosted) {
    run_.model_.on_message(port, packet.key, packet.result,
                           run_.ports_[at_]->options().serialize_keys);
  }
  if (kind == PacketKind::kAbandoned) run_.model_.abandoned(port, packet.key);
  if (kind == PacketKind::kAccept) on_accept(packet);
  if (Conn* c = run_.model_.conn(packet.key)) {
    on_conn(packet, *c);
  } else if (const auto file = run_.files_.find(packet.key); file != run_.files_.end()) {
    on_file(packet, file->second);
  } else if (FifoModel* fifo = run_.fifo_of(packet.key)) {
    on_fifo(packet, *fifo, packet.key != fifo->key);
  }
  if (thread_ != nullptr && random_.one_in(12)) compute();
}

/// A handler that takes its time, in the program or in a call that blocks: mostly so long that
/// another thread does this one's work in its lane.
void Member::compute() {
  const Time span = random_.coin() ? static_cast<Time>(random_.size(kMillisecond))
                                   : kMillisecond * random_.between(1, 10);
  if (random_.one_in(3)) {
    has_place_ = false;
    thread_->begin_blocking();
    Scheduler::current()->sleep(span);
    thread_->end_blocking();
    came_back_ = true;
    return;
  }
  Scheduler::current()->sleep(span);
}

/// Answered under `key`, also when the handle is gone.
Request* Member::request(PacketKind kind, HandleId handle, std::uint32_t key) {
  Request* made = new_request();
  made->kind = kind;
  made->tag = run_.model_.new_tag();
  made->keyed = true;
  made->key = key;
  if (kind == PacketKind::kShutdown) made->flags = SHUT_WR;
  run_.model_.begin(kind, made->tag, handle, number_);
  return made;
}

bool Member::fill(Request& request, const std::vector<std::uint8_t>& bytes) {
  Place place;
  if (!thread_->allocate(bytes.size(), place)) return false;
  std::uint8_t* base = BufferPool::use(place, bytes.size());
  std::memcpy(base, bytes.data(), bytes.size());
  request.memory.add({base, bytes.size()}, place);
  request.total += bytes.size();
  BufferPool::release(place);
  return true;
}

// ---- what a step does -------------------------------------------------------------------------

void Member::post(std::uint32_t key) {
  Port& port = *run_.ports_[at_];
  const double value = run_.model_.post_value(number_ * 100 + life_);
  Scheduler::current()->note("posts under key %lld: %lld", key, static_cast<std::uint64_t>(value));
  if (ring_) {
    if (room_ == 0) room_ = thread_->reserve(1 + static_cast<std::uint32_t>(random_.below(8)));
    if (room_ == 0) return;
    --room_;
    run_.model_.posted(port.id());
    thread_->posts().write(key, value);
    if (port.dispatcher().tell_idle()) thread_->accept_posts();
  } else {
    run_.model_.posted(port.id());
    if (!thread_->post(key, value)) run_.model_.unposted(port.id());
  }
  const std::int64_t most =
      port.options().queue_limit + run_.members_.size() * (run_.most_ + 1) + run_.unbounded_;
  if (run_.model_.undelivered(port.id()) > most) {
    fail(kBounded,
         format("%lld messages wait", static_cast<long long>(run_.model_.undelivered(port.id()))));
  }
}

void Member::listen() {
  if (run_.ending_) return;
  driver::ListenOptions options;
  options.address = World::address_of(0);
  options.backlog = 1 + static_cast<int>(random_.below(4));
  Thread::Association association;
  association.keyed = true;
  association.key = kListenerKey + number_;
  const std::int64_t id = thread_->listen(options, true, association);
  if (id < 0) return;
  const auto handle = static_cast<HandleId>(id);
  driver::SocketAddress address;
  Port& port = *run_.ports_[at_];
  Port::with_descriptor(handle, [&](driver::Descriptor descriptor) {
    return port.driver().address(descriptor, false, address);
  });
  run_.listening_.push_back(World::port_of(address));
  Request* accept = request(PacketKind::kAccept, handle, association.key);
  accept->multishot = true;
  submit(accept, handle);
}

void Member::dial() {
  if (run_.listening_.empty() || run_.ending_) return;
  const std::uint16_t port = run_.listening_[random_.below(run_.listening_.size())];
  constexpr PeerPlan::Ends kEnds[] = {PeerPlan::Ends::kOrderly, PeerPlan::Ends::kCloses,
                                      PeerPlan::Ends::kResets, PeerPlan::Ends::kStays};
  const PeerPlan::Ends ends = kEnds[random_.below(4)];
  Run& run = run_;
  Connection* connection = run.world_.dial(port, [](Connection*, driver::Result) {});
  std::shared_ptr<Peer> peer = run.peer(connection->number, 1, ends);
  peer->begin(connection->ends[0]);
}

void Member::connect() {
  if (run_.ending_) return;
  const bool outside = run_.listening_.empty() || random_.coin();
  const std::uint16_t port =
      outside ? run_.server_ : run_.listening_[random_.below(run_.listening_.size())];
  Thread::Association association;
  association.keyed = true;
  association.key = unique_key();
  association.token = ++next_token_;
  if (random_.one_in(4)) association.timeout = 1 + static_cast<std::uint32_t>(random_.below(50));
  Op& op = run_.model_.begin_opening(PacketKind::kConnect, number_, association.token);
  driver::ConnectTarget target;
  target.peer = World::address_of(port);
  const std::int64_t id = thread_->connect(std::move(target), association);
  if (id < 0) op.optional = true;
}

void Member::open_file() {
  if (run_.ending_) return;
  Thread::Association association;
  association.keyed = true;
  association.key = kFileKey + ++run_.next_file_;
  association.token = ++next_token_;
  FileModel& file = run_.files_[association.key];
  file.key = association.key;
  file.path = format("/file-%u", run_.next_file_);
  const std::uint32_t flags = driver::kOpenRead | driver::kOpenWrite | driver::kOpenCreate;
  Op& op = run_.model_.begin_opening(PacketKind::kOpen, number_, association.token);
  const std::int64_t id = thread_->open(file.path, flags, 0644, association);
  if (id < 0) op.optional = true;
  if (id > 0) file.id = static_cast<HandleId>(id);
}

void Member::open_fifo() {
  if (run_.ending_) return;
  const std::uint32_t key = kFifoKey + 2 * ++run_.next_file_;
  FifoModel& fifo = run_.fifos_[key];
  fifo.key = key;
  fifo.pipe = run_.world_.make_fifo(format("/fifo-%u", key));
  open_fifo_end(fifo, false);
  open_fifo_end(fifo, true);
}

void Member::open_fifo_end(FifoModel& fifo, bool of_writer) {
  Thread::Association association;
  association.keyed = true;
  association.key = fifo.key + (of_writer ? 1 : 0);
  association.token = ++next_token_;
  const std::uint32_t flags = of_writer ? driver::kOpenWrite : driver::kOpenRead;
  Op& op = run_.model_.begin_opening(PacketKind::kOpen, number_, association.token);
  const std::int64_t id = thread_->open(format("/fifo-%u", fifo.key), flags, 0, association);
  if (id < 0) op.optional = true;
  if (id > 0) fifo.end(of_writer).id = static_cast<HandleId>(id);
}

void Member::timer() {
  if (run_.ending_) return;
  Thread::Association association;
  association.keyed = true;
  association.key = 50 + static_cast<std::uint32_t>(random_.below(3));
  const std::int64_t id = thread_->timer(association);
  if (id < 0) return;
  const auto handle = static_cast<HandleId>(id);
  Request* made = request(PacketKind::kTimer, handle, association.key);
  made->offset = random_.coin() ? static_cast<std::int64_t>(random_.size(20'000'000))
                                : kMillisecond * random_.between(5, 200);
  made->length = random_.one_in(3) ? kMillisecond * random_.between(1, 30) : 0;
  made->multishot = made->length > 0;
  submit(made, handle);
}

/// Of a timer, a listener or a file: see `act` for connections.
void Member::cancel_something() {
  std::vector<HandleId> handles = run_.ports_[at_]->handles();
  if (handles.empty()) return;
  const HandleId handle = handles[random_.below(handles.size())];
  if (Port::look_up(handle).kind == HandleKind::kSocket) return;
  Scheduler::current()->note("cancels what is under way on handle %lld", handle);
  run_.disturb(handle);
  begin_written();
  thread_->cancel_handle(handle);
}

void Member::close_something() {
  std::vector<HandleId> handles = run_.ports_[at_]->handles();
  const auto no_timer = [](HandleId id) { return Port::look_up(id).kind != HandleKind::kTimer; };
  if (random_.one_in(3)) std::erase_if(handles, no_timer);
  if (!handles.empty()) close(handles[random_.below(handles.size())]);
}

/// Another thread may close it as well: nobody is told of the second.
void Member::close(HandleId handle) {
  run_.disturb(handle);
  Request* made = request(PacketKind::kClose, handle, kClosedKey);
  run_.model_.make_optional(made->tag);
  submit(made, handle);
}

// ---- packets ----------------------------------------------------------------------------------

/// The new connection's key is not held here: a message under it comes to whoever holds it.
void Member::on_accept(const PacketSlot& packet) {
  if (packet.error == 0 && packet.accepted != 0) {
    begin_conn(packet.accepted, packet.accepted_key, 1);
  }
  if ((packet.flags & kPacketMore) != 0 || run_.ending_ || packet.error == kErrorHandleClosed)
    return;
  if (packet.error == -ECANCELED && random_.coin()) return;
  Request* accept = request(PacketKind::kAccept, packet.handle, packet.key);
  accept->multishot = random_.coin();
  submit(accept, packet.handle);
}

void Member::begin_conn(HandleId handle, std::uint32_t key, int side) {
  std::uint64_t number = 0;
  Port::with_descriptor(handle, [&](driver::Descriptor descriptor) {
    const auto* entry = run_.world_.at(descriptor);
    if (entry != nullptr && entry->end != nullptr) number = entry->end->connection->number;
    return driver::Result{0};
  });
  if (number == 0) return;
  run_.model_.add_conn(handle, key, number, side, run_.ports_[at_]->id());
  tell(key);
}

/// A message that is not bounded, as one that follows its connection.
void Member::tell(std::uint32_t key) {
  Port& port = *run_.ports_[at_];
  run_.model_.posted(port.id());
  ++run_.unbounded_;
  if (!port.post(key, run_.model_.post_value(number_ * 100 + 50 + life_), false)) {
    run_.model_.unposted(port.id());
  }
}

void Member::on_awaited(const PacketSlot& packet) {
  if (packet.error != 0) {
    for (auto& [key, file] : run_.files_) {
      if (file.id == packet.handle) file.closing = true;
    }
    run_.disturb(packet.handle);
    return;
  }
  const auto kind = static_cast<PacketKind>(packet.kind);
  const std::uint32_t key = Port::look_up(packet.handle).key;
  if (key == 0) return;  // another thread has closed it
  if (kind == PacketKind::kConnect) return begin_conn(packet.handle, key, 0);
  if (kind == PacketKind::kOpen) tell(key);
}

void Member::on_received(const PacketSlot& packet, Conn& c) {
  if (packet.chunk != driver::kNoChunk) {
    const auto length = static_cast<std::size_t>(packet.result);
    const Place place{packet.chunk, packet.offset};
    const std::uint8_t* bytes = BufferPool::use(place, length);
    if (bytes == nullptr) fail(kBytes, "a received packet whose bytes are not there");
    run_.model_.check_bytes(c.number, c.side, bytes, length);
    if (random_.one_in(10)) Scheduler::current()->sleep(static_cast<Time>(random_.below(100'000)));
    BufferPool::unuse(place);
    if (!BufferPool::release(place)) fail(kBack, "a received buffer was released before");
  }
  if ((packet.flags & kPacketMore) != 0) return;
  c.receiving = false;
  const bool own_doing = c.closing || packet.error == -ECANCELED ||
                         packet.error == kErrorTimedOut || packet.error == kErrorHandleClosed;
  if (own_doing || packet.result > 0) return;
  c.ended = true;
  run_.model_.check_end(c.number, c.side, packet.error);
}

void Member::on_conn(const PacketSlot& packet, Conn& c) {
  const std::uint32_t port = run_.ports_[at_]->id();
  const auto kind = static_cast<PacketKind>(packet.kind);
  // A notice that a key was abandoned is of the key, which stays where it was held.
  const bool of_handle =
      packet.handle == c.id && kind != PacketKind::kPosted && kind != PacketKind::kAbandoned;
  const bool refused = packet.error == kErrorHandleClosed;
  if (of_handle && c.where != port && !refused) {
    fail(kDeadHandle, format("port %u has a packet of kind %u of a handle that is at port %u", port,
                             packet.kind, c.where.load()));
  }
  if (kind == PacketKind::kReceive && packet.handle == c.id) on_received(packet, c);
  if (kind == PacketKind::kSend || kind == PacketKind::kSendFile) {
    if (packet.error != 0) run_.model_.stream(c.number, 1 - c.side).closed = true;
  }
  if (kind == PacketKind::kClose && packet.handle == c.id) c.closing = true;
  if (c.where != port) return;  // a message that did not follow it
  const std::uint64_t many = run_.ending_ ? 0 : random_.below(3);
  for (std::uint64_t i = 0; i < many && thread_ != nullptr && c.where == port; ++i) act(c);
  if (!c.receiving && !c.ended && !c.closing && thread_ != nullptr && c.where == port &&
      !run_.ending_ && random_.one_in(2)) {
    receive(c);
  }
}

void Member::act(Conn& c) {
  if (c.closing) return;
  switch (random_.below(16)) {
    case 0:
    case 1:
      return receive(c);
    case 2: {
      if (c.shut) return;
      c.shut = true;
      Stream& out = run_.model_.stream(c.number, 1 - c.side);
      out.closed = true;
      Request* made = request(PacketKind::kShutdown, c.id, c.key);
      return submit(made, c.id);
    }
    case 3:
      // What is cut off in the middle leaves a gap: nothing is sent after it.
      run_.model_.stream(c.number, 1 - c.side).closed = true;
      Scheduler::current()->note("cancels what is under way on handle %lld", c.id);
      begin_written();
      return thread_->cancel_handle(c.id);
    case 4:
      if (!random_.one_in(3)) return;
      c.closing = true;
      return close(c.id);
    case 5:
      return hand_off(c);
    case 6:
      Port::set_idle_timeout(
          c.id, random_.one_in(3) ? 0 : 1 + static_cast<std::uint32_t>(random_.below(500)));
      return;
    case 7:
      return send_file(c);
    case 8:
      Port::with_descriptor(c.id, [&](driver::Descriptor descriptor) {
        return run_.ports_[at_]->driver().set_option(descriptor, driver::SocketOption::kLinger, 1);
      });
      return;
    case 9: {
      if (c.receiving) return;  // what that has brought comes first
      begin_written();
      std::uint8_t bytes[512];
      const driver::Result got =
          Port::receive_now(c.id, {bytes, 1 + static_cast<std::size_t>(random_.below(512))});
      if (got > 0) run_.model_.check_bytes(c.number, c.side, bytes, static_cast<std::size_t>(got));
      if (got == 0) {
        Scheduler::current()->note("reads the end of handle %lld", c.id);
        c.ended = true;
        run_.model_.check_end(c.number, c.side, 0);
      }
      return;
    }
    default:
      return send(c);
  }
}

void Member::send(Conn& c) {
  Stream& out = run_.model_.stream(c.number, 1 - c.side);
  if (out.closed || c.shut) return;
  Request* made = request(PacketKind::kSend, c.id, c.key);
  Request* last = made;
  const std::uint64_t links = random_.one_in(5) ? random_.below(3) : 0;
  for (std::uint64_t i = 0; i <= links; ++i) {
    const std::uint64_t slices = random_.one_in(4) ? 1 + random_.below(3) : 1;
    for (std::uint64_t j = 0; j < slices; ++j) {
      const auto bytes = pattern(c.number, 1 - c.side, out.bytes.size(), random_.size(5000));
      if (!fill(*last, bytes)) break;
      out.bytes.insert(out.bytes.end(), bytes.begin(), bytes.end());
    }
    if (i == links) break;
    last->chain = request(PacketKind::kSend, c.id, c.key);
    last = last->chain;
    run_.model_.make_linked(last->tag);
  }
  if (random_.one_in(6)) {
    last->timeout = 1 + static_cast<std::uint32_t>(random_.below(100));
    out.closed = true;
  }
  if (random_.one_in(6)) {
    made->feeder = c.id;
    c.fed = true;
  }
  submit(made, c.id);
}

void Member::send_file(Conn& c) {
  Stream& out = run_.model_.stream(c.number, 1 - c.side);
  if (out.closed || c.shut) return;
  for (auto& [key, file] : run_.files_) {
    // Nobody writes to it any more once it was sent from.
    if (file.id == 0 || file.closing || file.broken || file.whole == 0) continue;
    if (file.whole != file.bytes.size()) continue;
    file.sent = true;
    const std::size_t from = random_.below(file.bytes.size());
    const std::size_t length = 1 + random_.below(file.bytes.size() - from);
    Request* made = request(PacketKind::kSendFile, c.id, c.key);
    made->source = file.id;
    made->offset = static_cast<std::int64_t>(from);
    made->length = length;
    out.bytes.insert(out.bytes.end(), file.bytes.begin() + static_cast<std::ptrdiff_t>(from),
                     file.bytes.begin() + static_cast<std::ptrdiff_t>(from + length));
    // The file may be closed by another thread meanwhile: then nothing of it is sent.
    out.closed = true;
    return submit(made, c.id);
  }
}

void Member::receive(Conn& c) {
  if (c.ended || c.closing || c.receiving) return;
  c.receiving = true;
  Request* made = request(PacketKind::kReceive, c.id, c.key);
  made->multishot = random_.coin();
  if (random_.one_in(5)) made->timeout = 1 + static_cast<std::uint32_t>(random_.below(100));
  submit(made, c.id);
}

void Member::hand_off(Conn& c) {
  if (run_.ports_.size() < 2) return;
  Port& here = *run_.ports_[at_];
  Port& there = *run_.ports_[1 - at_];
  Scheduler::current()->note("hands handle %lld to port %lld", c.id, there.id());
  begin_written();
  const std::int32_t error = here.hand_off(c.id, there, c.key, &c.where);
  if (error != 0) Scheduler::current()->note("handle %lld was not handed off", c.id);
}

// ---- files ------------------------------------------------------------------------------------

void Member::on_file(const PacketSlot& packet, FileModel& file) {
  const auto kind = static_cast<PacketKind>(packet.kind);
  if (kind == PacketKind::kClose) file.closing = true;
  const bool one =
      kind == PacketKind::kWrite || kind == PacketKind::kSync || kind == PacketKind::kRead;
  if (one && file.under_way > 0) --file.under_way;
  if (kind == PacketKind::kWrite) {
    if (packet.error == 0) file.whole = file.bytes.size();
    if (packet.error == 0 && static_cast<std::size_t>(packet.result) != file.writing) {
      fail(kBytes, format("%s: %zu bytes were to be written, and %.0f were", file.path.c_str(),
                          file.writing, packet.result));
    }
    file.broken |= packet.error != 0;
  }
  if (kind == PacketKind::kSync && packet.error == 0 && !file.broken && file.under_way == 0) {
    file.synced = file.bytes.size();
    const auto& inode = run_.world_.files()[file.path];
    if (inode->synced != file.bytes) {
      fail(kDurable, file.path + ": what was written before the sync is not on the disk");
    }
  }
  if (kind == PacketKind::kRead) {
    const bool mine = file.reader == std::pair(number_, life_);
    if (packet.error == 0 && !file.broken && mine) {
      check_read(file, static_cast<std::size_t>(packet.result));
    }
    if (mine) BufferPool::release(file.place);
  }
  if (file.under_way == 0 && !file.closing && !file.broken && !run_.ending_) act(file);
}

void Member::check_read(FileModel& file, std::size_t length) {
  const std::uint8_t* bytes = BufferPool::use(file.place, length);
  if (bytes == nullptr) fail(kBytes, "the memory of a read is not there");
  for (std::size_t i = 0; i < length; ++i) {
    const std::size_t at = file.read_from + i;
    if (at >= file.bytes.size() || bytes[i] != file.bytes[at]) {
      fail(kBytes, format("%s: byte %zu is wrong", file.path.c_str(), at));
    }
  }
  BufferPool::unuse(file.place);
}

void Member::act(FileModel& file) {
  const std::uint64_t what = random_.below(8);
  if (what < 4 && !file.sent) {
    const std::size_t from = file.bytes.size();
    const auto bytes = pattern(1'000'000 + file.key, 0, from, random_.size(6000));
    Request* made = of_file(PacketKind::kWrite, file);
    if (!fill(*made, bytes)) return;
    made->offset = static_cast<std::int64_t>(from);
    file.writing = bytes.size();
    file.bytes.insert(file.bytes.end(), bytes.begin(), bytes.end());
    if (random_.one_in(3)) {
      made->chain = of_file(PacketKind::kSync, file);
      run_.model_.make_linked(made->chain->tag);
    }
    return submit(made, file.id);
  }
  if (what < 6) {
    const std::size_t length = random_.size(4096);
    if (!thread_->allocate(length, file.place)) return;
    Request* made = of_file(PacketKind::kRead, file);
    made->memory.add({BufferPool::use(file.place, length), length}, file.place);
    made->total = length;
    file.read_from = random_.below(file.bytes.size() + 1);
    made->offset = static_cast<std::int64_t>(file.read_from);
    file.reader = {number_, life_};
    return submit(made, file.id);
  }
  if (what == 6) return submit(of_file(PacketKind::kSync, file), file.id);
  if (random_.one_in(4)) {
    file.closing = true;
    close(file.id);
  }
}

Request* Member::of_file(PacketKind kind, FileModel& file) {
  Request* made = request(kind, file.id, file.key);
  ++file.under_way;
  return made;
}

// ---- FIFOs ------------------------------------------------------------------------------------

FifoModel* Run::fifo_of(std::uint32_t key) {
  const auto found = fifos_.find(key & ~1u);
  return found == fifos_.end() ? nullptr : &found->second;
}

/// Of what a thread writes to a FIFO some is left out when it dies, and others may write behind it
/// before they hear of that.
void Run::disturb_fifos() {
  for (auto& [key, fifo] : fifos_) fifo.broken |= fifo.writes.under_way > 0;
}

/// What is being written to a FIFO may stop in the middle from here on.
void Run::disturb(HandleId handle) {
  for (auto& [key, fifo] : fifos_) {
    if (fifo.writes.id == handle) fifo.broken = fifo.writes.closing = true;
    if (fifo.reads.id == handle) fifo.broken = fifo.reads.closing = true;
  }
}

void Member::on_fifo(const PacketSlot& packet, FifoModel& fifo, bool of_writer) {
  const auto kind = static_cast<PacketKind>(packet.kind);
  FifoModel::End& end = fifo.end(of_writer);
  if (kind == PacketKind::kClose) end.closing = true;
  if (kind == PacketKind::kRead || kind == PacketKind::kWrite) --end.under_way;
  if (kind == PacketKind::kRead) on_fifo_read(packet, fifo);
  // The reader may have gone.
  if (kind == PacketKind::kWrite && packet.error != 0) fifo.broken = end.closing = true;
  if (!end.closing && !run_.ending_) act(fifo, of_writer);
}

/// All bytes in their order, and the end behind the last of them, when nobody can write any more.
void Member::on_fifo_read(const PacketSlot& packet, FifoModel& fifo) {
  const bool mine = fifo.reader == std::pair(number_, life_);
  const auto length = static_cast<std::size_t>(packet.result);
  if (packet.error == 0 && length == 0) fifo.reads.closing = true;  // it would end again and again
  if (packet.error == 0 && !fifo.broken && length == 0) {
    if (fifo.pipe->writers > 0) fail(kBytes, "a FIFO ends while it can be written to");
    if (fifo.checked != fifo.bytes.size()) {
      fail(kBytes, format("a FIFO ends after %zu of %zu bytes", fifo.checked, fifo.bytes.size()));
    }
  }
  // Bytes that another thread has the memory of are not looked at, but counted.
  const std::uint8_t* bytes = mine && packet.error == 0 && length > 0 && !fifo.broken
                                  ? BufferPool::use(fifo.place, length)
                                  : nullptr;
  if (bytes != nullptr) {
    for (std::size_t i = 0; i < length; ++i) {
      const std::size_t at = fifo.checked + i;
      if (at >= fifo.bytes.size() || bytes[i] != fifo.bytes[at]) {
        fail(kBytes, format("a FIFO: byte %zu is wrong", at));
      }
    }
    BufferPool::unuse(fifo.place);
  }
  if (packet.error == 0) fifo.checked += length;
  if (packet.error != 0) fifo.broken = true;  // what it had done until then nobody has
  if (mine) BufferPool::release(fifo.place);
}

void Member::act(FifoModel& fifo, bool of_writer) {
  FifoModel::End& end = fifo.end(of_writer);
  const std::uint32_t key = fifo.key + (of_writer ? 1 : 0);
  if (!of_writer) {
    const std::size_t length = random_.size(4096);
    if (end.under_way > 0 || !thread_->allocate(length, fifo.place)) return;
    Request* made = request(PacketKind::kRead, end.id, key);
    made->memory.add({BufferPool::use(fifo.place, length), length}, fifo.place);
    made->total = length;
    fifo.reader = {number_, life_};
    ++end.under_way;
    return submit(made, end.id);
  }
  constexpr std::size_t kEnough = 2000;
  const bool enough = fifo.bytes.size() > kEnough;
  if (enough && end.under_way > 0) return;
  if (enough || (random_.one_in(6) && end.under_way == 0)) {
    // In order, so that the reader hears of the end.
    end.closing = true;
    Request* made = request(PacketKind::kClose, end.id, kClosedKey);
    run_.model_.make_optional(made->tag);
    return submit(made, end.id);
  }
  for (std::uint64_t many = random_.between(1, 3); many > 0 && end.under_way < 6; --many) {
    const auto bytes = pattern(2'000'000 + key, 0, fifo.bytes.size(), random_.size(1000));
    Request* made = request(PacketKind::kWrite, end.id, key);
    ++end.under_way;
    if (!fill(*made, bytes)) return;
    fifo.bytes.insert(fifo.bytes.end(), bytes.begin(), bytes.end());
    submit(made, end.id);
  }
}

// ---- leaving ----------------------------------------------------------------------------------

/// In the middle of whatever it does. Another thread comes in its place.
void Member::die() {
  Scheduler::current()->note("dies");
  for (const std::uint32_t key : kept_) {
    run_.model_.expect_abandoned(run_.ports_[at_]->id(), key);
  }
  run_.model_.lose(number_);
  run_.disturb_fifos();
  run_.model_.let_go_all(number_, run_.ports_[at_]->id(), nullptr);
  kept_.clear();
  has_place_ = false;
  detach(true);
  ++life_;
  room_ = 0;
  slots_.reset(new PacketSlot[kBatchLimit]());
  if (run_.over_ || !attach()) thread_ = nullptr;
}

void Member::leave() {
  has_place_ = false;
  for (const std::uint32_t key : kept_) {
    run_.model_.expect_abandoned(run_.ports_[at_]->id(), key);
  }
  run_.model_.let_go_all(number_, run_.ports_[at_]->id(), nullptr);
  kept_.clear();
  detach(false);
}

void Member::detach(bool died) {
  begin_written();
  thread_->set_outbox(nullptr);
  std::exchange(thread_, nullptr)->detach(died);
}

// ---- the run ----------------------------------------------------------------------------------

std::uint32_t Run::count_running(std::size_t port) {
  std::uint32_t count = 0;
  for (const auto& member : members_) {
    if (member->at_ == port && member->has_place_ && !member->came_back_) ++count;
  }
  return count;
}

void Run::make_ports() {
  const std::size_t many = random_.one_in(3) ? 2 : 1;
  constexpr std::uint32_t kLimits[] = {8, 64, 65536};
  constexpr std::uint32_t kSizes[] = {64, 512, 4096};
  for (std::size_t i = 0; i < many; ++i) {
    PortOptions options;
    options.concurrency = 1 + static_cast<std::uint32_t>(random_.below(3));
    options.queue_limit = kLimits[random_.below(3)];
    options.serialize_keys = true;
    options.affine = random_.one_in(8);
    options.spin = random_.one_in(3) ? 20 : 0;
    options.buffers.buffer_size = kSizes[random_.below(3)];
    // With few of them threads wait for each other's.
    const std::uint32_t most = random_.coin() ? 2 : 8;
    options.buffers.buffer_count = 1 + static_cast<std::uint32_t>(random_.below(most));
    options.buffers.check = true;
    driver::Result error = 0;
    std::string reason;
    PortHold port = Port::create(options, driver::sim::make_sim_driver(world_), error, reason);
    if (!port) fail(kProgress, "a port can't be made");
    // It stays when its last thread dies before another has come.
    if (!port->enter()) fail(kProgress, "a port ends at once");
    ports_.push_back(std::move(port));
  }
}

std::shared_ptr<Peer> Run::peer(std::uint64_t number, int to, PeerPlan::Ends ends) {
  PeerPlan plan;
  plan.ends = ends;
  plan.reads = static_cast<PeerPlan::Reads>(random_.below(3));
  if (random_.coin()) plan.reads = PeerPlan::Reads::kAll;
  plan.vanishes = random_.one_in(10);
  plan.sends = pattern(number, to, 0, random_.size(20'000));
  Stream& stream = model_.stream(number, to);
  stream.bytes = plan.sends;
  auto made = std::make_shared<Peer>(world_, std::move(plan));
  made->on_bytes = [this, number, to](const std::uint8_t* bytes, std::size_t length) {
    model_.check_bytes(number, 1 - to, bytes, length);
  };
  peers_.push_back(made);
  return made;
}

void Run::serve() {
  server_ = world_.serve([this](Connection* connection) {
    const auto ends = static_cast<PeerPlan::Ends>(random_.below(4));
    peer(connection->number, 0, ends)->begin(connection->ends[1]);
  });
}

/// A thread was told, and is busy with something else in its event loop: for a while the port
/// counts on it.
bool Run::counts_on_busy(std::size_t port) const {
  return std::any_of(members_.begin(), members_.end(), [&](const auto& member) {
    return member->at_ == port && member->thread_ != nullptr && !member->watching_ &&
           member->thread_->in_event_loop() && member->thread_->state() == Consumer::State::kWoken;
  });
}

/// When everything sleeps, nobody sleeps over work (rule D5).
void Run::look() {
  if (over_) return;
  for (std::size_t i = 0; i < ports_.size(); ++i) {
    const PortHold& port = ports_[i];
    Dispatcher& dispatcher = port->dispatcher();
    if (dispatcher.closed() || port->options().affine || counts_on_busy(i)) continue;
    const std::size_t ready = dispatcher.ready();
    const std::size_t waiting = dispatcher.waiting();
    const std::uint32_t running = dispatcher.running();
    if (ready > 0 && waiting > 0 && running < port->options().concurrency) {
      std::string text = format("port %u: %zu packets are ready, %zu threads wait, %u of %u run",
                                port->id(), ready, waiting, running, port->options().concurrency);
      dispatcher.members().for_each([&](Consumer& it) {
        text += format(
            "\n  thread: state %d, wants any: %d, in loop: %d, sleeping: %d, run %u, own %u, "
            "unread %u",
            static_cast<int>(it.state()), it.wants_any(), it.in_event_loop(), it.sleeping(),
            it.run_queue().size(), it.own_queue().size(), it.unread());
      });
      fail(kWork, text);
    }
  }
}

bool Run::settled() {
  bool done = true;
  for (const PortHold& port : ports_) {
    const std::vector<HandleId> handles = port->handles();
    done = done && handles.empty() && model_.undelivered(port->id()) <= 0;
  }
  return done && model_.open_operations() == 0 && model_.abandoned_open() == 0;
}

void Run::main() {
  world_.begin();
  make_ports();
  serve();
  steps_ = 3 + static_cast<std::uint32_t>(random_.below(25));
  most_ = 1 + static_cast<std::uint32_t>(random_.below(8));
  const std::size_t many = ports_.size() + random_.below(4);
  std::vector<cp::sim::Fiber*> fibers;
  for (std::size_t i = 0; i < many; ++i) {
    members_.push_back(
        std::make_unique<Member>(*this, static_cast<std::uint32_t>(i + 1), i % ports_.size()));
    // The first of each port stays, or its port would end.
    members_.back()->dies_ = i >= ports_.size() && random_.coin();
  }
  for (const auto& member : members_) {
    fibers.push_back(
        Scheduler::current()->spawn(format("thread %u", member->number_), [&] { member->main(); }));
  }
  // Each port is held until its threads have come.
  Scheduler& scheduler = *Scheduler::current();
  const Time begin = scheduler.now();
  while (finished_ < members_.size()) {
    scheduler.sleep(5 * kMillisecond);
    if (scheduler.now() - begin <= kPortPatience) continue;
    fail(scheduler.others_sleep_for_ever() ? kWaker : kProgress, "the threads do not end");
  }
  scheduler.sleep(500 * kMillisecond);
  check_received();
  ending_ = true;
  scheduler.sleep(static_cast<Time>(random_.below(100)) * kMillisecond);
  const Time end = scheduler.now() + kPortPatience;
  close_all();
  while (!settled()) {
    scheduler.sleep(5 * kMillisecond);
    close_all();
    if (scheduler.now() < end) continue;
    std::string text = "the end does not come:";
    model_.open_operations(&text);
    text += format("\n  %zu keys that nobody says were abandoned", model_.abandoned_open());
    for (const PortHold& port : ports_) {
      text += format("\n  port %u: %zu handles, %lld messages", port->id(), port->handles().size(),
                     static_cast<long long>(model_.undelivered(port->id())));
    }
    fail(scheduler.others_sleep_for_ever() ? kWaker : kProgress, text);
  }
  over_ = true;
  for (const PortHold& port : ports_) port->close();
  for (cp::sim::Fiber* fiber : fibers) scheduler.join(fiber);
  for (const PortHold& port : ports_) port->leave();
  check_end();
}

/// Who asks for bytes, has some that came, and gets none: each with what it has taken so far.
std::map<Conn*, std::uint64_t> Run::unheard() {
  std::map<Conn*, std::uint64_t> found;
  for (const auto& [key, c] : model_.conns()) {
    const driver::sim::End& end = world_.connections()[c->number - 1]->ends[c->side];
    const driver::sim::Flow& flow = end.connection->to[c->side];
    const bool asks = c->receiving && !c->closing && !c->fed && !end.closed && !end.shut_in;
    if (asks && !flow.arrived.empty() && Port::look_up(c->id).id != 0) found[c.get()] = flow.taken;
  }
  return found;
}

/// After a while in which nobody had anything else to do. What is only late comes in the next.
void Run::check_received() {
  constexpr Time kLongerThanLate = 300 * kMillisecond;
  const auto before = unheard();
  if (before.empty()) return;
  constexpr int kMoreThanJumps = 8;
  for (int i = 0; i < kMoreThanJumps; ++i) Scheduler::current()->sleep(kLongerThanLate);
  for (const auto& [c, taken] : unheard()) {
    const auto same = before.find(c);
    if (same == before.end() || same->second != taken) continue;
    fail(kProgress, format("connection %llu, side %d: bytes have come and nobody gets them",
                           static_cast<unsigned long long>(c->number), c->side));
  }
}

/// By a thread that is there for nothing else, as any may close what a port has.
void Run::close_all() {
  for (std::size_t i = 0; i < ports_.size(); ++i) {
    if (ports_[i]->handles().empty()) continue;
    Member closer(*this, 90 + static_cast<std::uint32_t>(i), i);
    if (!closer.attach()) continue;
    for (const HandleId handle : ports_[i]->handles()) closer.close(handle);
    closer.take(0);
    if (closer.thread_ != nullptr) closer.leave();
  }
}

void Run::check_end() {
  for (const auto& peer : peers_) peer->close();
  world_.cut_off();
  for (const auto& [key, file] : files_) {
    if (file.broken || file.synced == 0) continue;
    const std::vector<std::uint8_t>& left = world_.files()[file.path]->bytes;
    const auto last = file.bytes.begin() + static_cast<std::ptrdiff_t>(file.synced);
    if (left.size() >= file.synced && std::equal(file.bytes.begin(), last, left.begin())) continue;
    fail(kDurable, file.path + ": what was synced is gone when the power fails");
  }
  for (const PortHold& port : ports_) {
    const PortStats stats = port->stats();
    if (stats.allocated_bytes != 0) {
      fail(kBack, format("port %u: %llu bytes are allocated", port->id(),
                         static_cast<unsigned long long>(stats.allocated_bytes)));
    }
  }
  ports_.clear();
  Scheduler::current()->sleep(100 * kMillisecond);
  std::size_t handles = 0;
  HandleTable::instance().for_each([&](Handle& handle) { handles += handle.id != 0; });
  if (handles > 0) fail(kBack, format("%zu handles are left", handles));
  if (world_.open_descriptors() > 0) {
    fail(kBack, "descriptors are left:" + world_.describe_open());
  }
  if (Port::count() > 0) fail(kBack, format("%zu ports are left", Port::count()));
  if (BufferPool::count() > 0) fail(kBack, format("%zu pools are left", BufferPool::count()));
}

}  // namespace

void run_port_workload(const Plan& plan, Outcome& outcome) { run_workload<Run>(plan, outcome); }

}  // namespace cp::test
