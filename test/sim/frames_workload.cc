// Clients of the world send documents to a native stage, and threads of the next one answer them.
#include <algorithm>
#include <cstring>
#include <memory>
#include <string>

#include "driver/errno.h"
#include "driver/sim/sim_driver.h"
#include "port/port.h"
#include "port/thread.h"
#include "sim/model.h"
#include "sim/peer.h"
#include "sim/run_workload.h"
#include "stage/frames.h"
#include "system/switch_point.h"

namespace cp::test {
namespace {

using cp::sim::fail;
using cp::sim::format;
using cp::sim::Random;
using cp::sim::Scheduler;
using cp::sim::Time;

constexpr Time kFramesPatience = 120'000 * kMillisecond;

std::vector<std::uint8_t> bytes_of(const std::string& text) { return {text.begin(), text.end()}; }

/// One client, and what it and the next stage know of it.
struct Client {
  std::uint32_t number = 0;
  std::vector<std::string> documents;
  std::string expected;  ///< all answers, one behind the other
  std::size_t answered = 0;
  std::size_t handed_over = 0;
  bool reads_all = true, ended = false, reset = false;
  bool stays = false;
  std::shared_ptr<Peer> peer;
};

class FramesRun;

/// A thread of the next stage.
class Answerer {
 public:
  Answerer(FramesRun& run, std::uint32_t number)
      : run_(run), number_(number), random_(run_seed(run), 500 + number) {}
  void main();

 private:
  static std::uint64_t run_seed(FramesRun& run);
  bool attach();
  void take();
  void handle(const PacketSlot& packet);
  void on_document(std::uint32_t key);
  void answer(std::uint32_t key, const std::string& text);
  void close(std::uint32_t key);
  std::string read(const stage::RecordHeader& record);
  std::vector<std::string> read_all(std::uint32_t key);
  std::pair<std::uint32_t, std::size_t> check(const std::string& text);

  FramesRun& run_;
  const std::uint32_t number_;
  Random random_;
  std::unique_ptr<PacketSlot[]> slots_{new PacketSlot[kBatchLimit]()};
  Thread* thread_ = nullptr;
};

class FramesRun {
 public:
  explicit FramesRun(const Plan& plan)
      : plan_(plan),
        random_(plan.seed, 20),
        world_({plan.seed, plan.without_faults, plan.most_faults}) {}
  void main();
  void look();
  std::uint64_t faults() const { return world_.faults(); }

 private:
  friend class Answerer;
  PortHold make_port();
  bool start();
  void make_client(std::uint16_t port);
  bool gone();
  std::size_t sockets();
  void check_answers();
  void on_answer(Client& client, const std::uint8_t* bytes, std::size_t length);
  std::string answer_to(std::uint32_t client, std::size_t document) const {
    return format("answer %u.%zu;", client, document);
  }

  const Plan& plan_;
  Random random_;
  World world_;
  Model model_;
  PortHold port_, next_;
  std::shared_ptr<stage::RecordTable> records_;
  std::unique_ptr<stage::FramesStage> frames_;
  std::vector<std::unique_ptr<Client>> clients_;
  std::vector<std::unique_ptr<Answerer>> answerers_;
  bool delimited_ = false;
  bool has_timeouts_ = false;
  bool closes_ = false;  ///< some answers are none: the connection is closed
  bool over_ = false;
};

std::uint64_t Answerer::run_seed(FramesRun& run) { return run.plan_.seed; }

// ---- the next stage ---------------------------------------------------------------------------

bool Answerer::attach() {
  driver::Result error = 0;
  for (int i = 0; i < 100 && thread_ == nullptr; ++i) {
    thread_ = run_.next_->attach(slots_.get(), error);
    if (thread_ == nullptr) Scheduler::current()->sleep(kMillisecond);
  }
  return thread_ != nullptr;
}

void Answerer::main() {
  if (!attach()) {
    if (!run_.over_) fail(kProgress, "no thread at the next stage");
    return;
  }
  while (!run_.over_) take();
  thread_->detach(false);
}

void Answerer::take() {
  run_.model_.let_go_all(number_, run_.next_->id(), nullptr);
  const std::int64_t count = thread_->get(1 + random_.below(8), driver::kNever);
  for (std::int64_t i = 0; i < count; ++i) {
    PacketSlot& slot = slots_[static_cast<std::size_t>(i)];
    const std::atomic_ref<std::uint32_t> state(slot.state);
    std::uint32_t expected = kSlotReady;
    system::switch_point();
    if (!state.compare_exchange_strong(expected, kSlotClaimed)) continue;
    run_.model_.hold(run_.next_->id(), slot.key, number_);
    handle(slot);
    system::switch_point();
    state.store(kSlotDone);
  }
}

void Answerer::handle(const PacketSlot& packet) {
  const auto kind = static_cast<PacketKind>(packet.kind);
  Scheduler::current()->note("has packet of key %lld, error %lld, kind %lld", packet.key,
                             static_cast<std::uint64_t>(packet.error), packet.kind);
  stage::RecordHeader* record = run_.records_->header(packet.key);
  if (record == nullptr || record->port != run_.next_->id()) return;
  if (kind == PacketKind::kClose) {
    run_.records_->release(packet.key, *thread_);
    return;
  }
  if (kind == PacketKind::kHandOff) on_document(packet.key);
}

std::string Answerer::read(const stage::RecordHeader& record) {
  const auto length = static_cast<std::size_t>(record.document_length);
  std::string text(length, '\0');
  if ((record.flags & stage::kRecordHasDocument) == 0) return "(none)";
  if ((record.flags & stage::kRecordDocumentInFile) != 0) {
    Port::with_descriptor(record.document.file, [&](driver::Descriptor file) {
      const auto& bytes = run_.world_.at(file)->file->inode->bytes;
      text.assign(bytes.begin(),
                  bytes.begin() + static_cast<std::ptrdiff_t>(std::min(length, bytes.size())));
      return driver::Result{0};
    });
  } else if (length > 0) {
    const Place place{record.document.memory.chunk, record.document.memory.start};
    const std::uint8_t* base = BufferPool::use(place, length);
    if (base == nullptr) return "(gone)";
    std::memcpy(text.data(), base, length);
    BufferPool::unuse(place);
  }
  return text;
}

/// Each comes once, whole, and behind the one before it; several of one client may come together.
void Answerer::on_document(std::uint32_t key) {
  const stage::RecordHeader& record = *run_.records_->header(key);
  const bool lost = (record.flags & stage::kRecordDocumentInFile) == 0 &&
                    record.document.memory.chunk == driver::kNoChunk &&
                    record.document.memory.start != 0;
  if (lost) return close(key);
  std::string answers;
  for (const std::string& text : read_all(key)) {
    const auto [number, index] = check(text);
    answers += run_.answer_to(number, index);
  }
  if (random_.one_in(4)) Scheduler::current()->sleep(static_cast<Time>(random_.size(5'000'000)));
  if (run_.closes_ && random_.one_in(20)) return close(key);
  answer(key, answers);
}

std::vector<std::string> Answerer::read_all(std::uint32_t key) {
  const stage::Document& document = run_.records_->cargo(key)->document;
  if (document.parts.empty()) return {read(*run_.records_->header(key))};
  std::vector<std::string> texts;
  for (const stage::Part& part : document.parts) {
    const Place place{document.place.chunk, document.place.offset + part.start};
    const std::uint8_t* base = BufferPool::use(place, part.length);
    if (base == nullptr) fail(kBytes, "documents that came together are not there");
    texts.emplace_back(reinterpret_cast<const char*>(base), part.length);
    BufferPool::unuse(place);
  }
  return texts;
}

std::pair<std::uint32_t, std::size_t> Answerer::check(const std::string& text) {
  std::uint32_t number = 0;
  std::size_t index = 0;
  const bool named = std::sscanf(text.c_str(), "document %u.%zu ", &number, &index) == 2;
  if (!named || number == 0 || number > run_.clients_.size()) {
    fail(kBytes, "a document that no client has sent: " + text.substr(0, 40));
  }
  Client& client = *run_.clients_[number - 1];
  Scheduler::current()->note("has document %lld.%lld", number, index);
  if (index != client.handed_over) {
    fail(kAnswered, format("client %u: document %zu comes after %zu others", number, index,
                           client.handed_over));
  }
  if (text != client.documents[index]) {
    fail(kBytes, format("document %u.%zu is not as it was sent", number, index));
  }
  ++client.handed_over;
  return {number, index};
}

void Answerer::answer(std::uint32_t key, const std::string& text) {
  stage::RecordHeader* record = run_.records_->header(key);
  Place place;
  if (!thread_->allocate(text.size(), place, true)) return close(key);
  BufferPool::assign(place, 0);
  std::memcpy(Chunk::find(place.chunk)->base() + place.offset, text.data(), text.size());
  stage::Reply& reply = run_.records_->cargo(key)->reply;
  reply.present = true;
  reply.memory = {place, static_cast<std::uint32_t>(text.size())};
  record->deadline = 0;
  record->from = record->stage;
  record->stage = 0;
  const HandleId handle = record->handle;
  if (run_.next_->hand_off(handle, *run_.port_, key, &record->port) != 0) close(key);
}

void Answerer::close(std::uint32_t key) {
  Request* made = new_request();
  made->kind = PacketKind::kClose;
  made->keyed = true;
  made->key = key;
  thread_->submit(made, run_.records_->header(key)->handle);
}

// ---- the run ----------------------------------------------------------------------------------

PortHold FramesRun::make_port() {
  PortOptions options;
  options.concurrency = 1 + static_cast<std::uint32_t>(random_.below(3));
  constexpr std::uint32_t kSizes[] = {64, 512, 4096};
  options.buffers.buffer_size = kSizes[random_.below(3)];
  options.buffers.buffer_count = 2 + static_cast<std::uint32_t>(random_.below(8));
  options.buffers.check = true;
  driver::Result error = 0;
  std::string reason;
  return Port::create(options, driver::sim::make_sim_driver(world_), error, reason);
}

bool FramesRun::start() {
  port_ = make_port();
  next_ = make_port();
  if (!next_->enter()) fail(kProgress, "a port ends at once");
  records_ = stage::RecordTable::make(64, 128);
  stage::FramesOptions options;
  options.port = port_;
  options.next = next_;
  options.records = records_;
  options.threads = 1 + static_cast<std::uint32_t>(random_.below(3));
  delimited_ = random_.coin();
  options.framing = delimited_ ? stage::Framing(stage::Framing::Kind::kDelimiter, {'\n'})
                               : stage::Framing(stage::Framing::Kind::kU32be);
  options.max = 100'000;
  options.in_memory = random_.coin() ? 100'000 : 200;
  options.spool_to_file = options.in_memory == 200;
  options.directory = "/tmp";
  options.queue = 1 + static_cast<std::uint32_t>(random_.below(4));
  options.pipelined = random_.coin() ? 1 : 1 + static_cast<std::uint32_t>(random_.below(8));
  options.farewell_timeout = 1000;
  has_timeouts_ = random_.one_in(3);
  if (has_timeouts_) {
    options.idle_timeout = 1 + static_cast<double>(random_.below(2000));
    options.stall_timeout = 1 + static_cast<double>(random_.below(2000));
  }
  driver::Result error = 0;
  frames_ = stage::FramesStage::start(options, error);
  return frames_ != nullptr;
}

void FramesRun::make_client(std::uint16_t port) {
  auto made = std::make_unique<Client>();
  Client& client = *made;
  client.number = static_cast<std::uint32_t>(clients_.size()) + 1;
  PeerPlan plan;
  const std::uint64_t many = random_.size(8);
  for (std::uint64_t i = 0; i < many; ++i) {
    std::string text =
        format("document %u.%llu ", client.number, static_cast<unsigned long long>(i));
    const std::uint64_t length = random_.size(3000);
    for (std::uint64_t j = 0; j < length; ++j) {
      text += static_cast<char>('a' + cp::sim::mix(client.number * 131 + i * 7 + j) % 26);
    }
    client.documents.push_back(text);
    client.expected += answer_to(client.number, i);
    std::string framed = text + '\n';
    if (!delimited_) {
      framed.assign(4, '\0');
      for (int k = 0; k < 4; ++k) framed[k] = static_cast<char>(text.size() >> (24 - 8 * k));
      framed += text;
    }
    const auto bytes = bytes_of(framed);
    plan.sends.insert(plan.sends.end(), bytes.begin(), bytes.end());
  }
  plan.ends = static_cast<PeerPlan::Ends>(random_.below(4));
  if (random_.coin()) plan.ends = PeerPlan::Ends::kOrderly;
  plan.reads = random_.one_in(4) ? PeerPlan::Reads::kSlowly : PeerPlan::Reads::kAll;
  plan.vanishes = random_.one_in(12);
  client.stays = plan.ends == PeerPlan::Ends::kOrderly || plan.ends == PeerPlan::Ends::kStays;
  client.reads_all = client.stays && !plan.vanishes;
  client.peer = std::make_shared<Peer>(world_, std::move(plan));
  client.peer->on_bytes = [this, &client](const std::uint8_t* bytes, std::size_t length) {
    on_answer(client, bytes, length);
  };
  client.peer->on_end = [&client](bool reset) {
    client.ended = true;
    client.reset = reset;
  };
  clients_.push_back(std::move(made));
  const auto peer = client.peer;
  Connection* connection = world_.dial(port, [&client](Connection*, driver::Result result) {
    if (result < 0) client.reads_all = false;
  });
  peer->begin(connection->ends[0]);
}

/// Each answer once, in the order of the documents.
void FramesRun::on_answer(Client& client, const std::uint8_t* bytes, std::size_t length) {
  const std::string got(reinterpret_cast<const char*>(bytes), length);
  if (client.expected.compare(client.answered, length, got) != 0) {
    fail(kAnswered, format("client %u has '%s' after %zu bytes of answers", client.number,
                           got.substr(0, 40).c_str(), client.answered));
  }
  client.answered += length;
}

void FramesRun::look() {
  for (const PortHold* hold : {&port_, &next_}) {
    if (!*hold || over_) continue;
    Dispatcher& dispatcher = (*hold)->dispatcher();
    if (dispatcher.closed()) continue;
    const std::size_t ready = dispatcher.ready(), waiting = dispatcher.waiting();
    if (ready > 0 && waiting > 0 && dispatcher.running() < (*hold)->options().concurrency) {
      fail(kWork, format("port %u: %zu packets are ready, %zu threads wait", (*hold)->id(), ready,
                         waiting));
    }
  }
}

std::size_t FramesRun::sockets() {
  std::size_t count = 0;
  for (const PortHold* port : {&port_, &next_}) {
    for (const HandleId id : (*port)->handles()) {
      count += Port::look_up(id).kind == HandleKind::kSocket ? 1 : 0;
    }
  }
  return count;
}

bool FramesRun::gone() { return records_->live() == 0 && frames_->stats().queued == 0; }

/// Who behaved, in a world where nothing went wrong, was answered all.
void FramesRun::check_answers() {
  const bool calm = world_.faults() == 0 && !has_timeouts_ && !closes_;
  for (const auto& client : clients_) {
    if (!calm || !client->reads_all) continue;
    if (client->answered == client->expected.size() && !client->reset) continue;
    fail(kAnswered, format("client %u was answered %zu of %zu bytes", client->number,
                           client->answered, client->expected.size()));
  }
}

void FramesRun::main() {
  world_.begin();
  Scheduler& scheduler = *Scheduler::current();
  if (!start()) {  // the system has not even one ring or thread
    next_->leave();
    records_.reset();
    return;
  }
  closes_ = random_.one_in(4);
  std::vector<cp::sim::Fiber*> fibers;
  const std::uint64_t many = 1 + random_.below(3);
  for (std::uint32_t i = 0; i < many; ++i) {
    answerers_.push_back(std::make_unique<Answerer>(*this, 60 + i));
    fibers.push_back(scheduler.spawn(format("answers %u", i + 1),
                                     [it = answerers_.back().get()] { it->main(); }));
  }
  driver::ListenOptions listening;
  listening.address = World::address_of(0);
  listening.backlog = 1 + static_cast<int>(random_.below(4));
  std::int64_t listener = -EAGAIN;
  for (int i = 0; i < 50 && listener < 0; ++i) listener = frames_->listen(listening);
  if (listener < 0) fail(kProgress, "the stage can't listen");
  driver::SocketAddress address;
  Port::with_descriptor(static_cast<HandleId>(listener), [&](driver::Descriptor descriptor) {
    return port_->driver().address(descriptor, false, address);
  });
  const std::uint64_t clients = 1 + random_.below(6);
  for (std::uint64_t i = 0; i < clients; ++i) {
    make_client(World::port_of(address));
    if (random_.coin()) scheduler.sleep(static_cast<Time>(random_.below(2'000'000)));
  }
  // Time enough for all of them, in a world where things go well.
  scheduler.sleep(random_.one_in(3) ? static_cast<Time>(random_.below(3'000'000))
                                    : 20'000 * kMillisecond);
  const bool whole = scheduler.now() > 20'000 * kMillisecond;
  if (whole) check_answers();
  frames_->stop_listening();
  frames_->end_connections();
  const Time end = scheduler.now() + kFramesPatience;
  Time patience = scheduler.now() + 30'000 * kMillisecond;
  while (!gone()) {
    scheduler.sleep(20 * kMillisecond);
    if (scheduler.now() > patience) {
      // Clients that stay and say nothing: the program closes them wherever they are.
      for (const auto& client : clients_) client->peer->close();
      patience = end;
    }
    if (scheduler.now() > end) {
      const bool connected = sockets() > 0;
      fail(!connected                          ? kReleased
           : scheduler.others_sleep_for_ever() ? kWaker
                                               : kProgress,
           format("%zu records are left, %llu documents queued", records_->live(),
                  static_cast<unsigned long long>(frames_->stats().queued)));
    }
  }
  over_ = true;
  frames_->stop();
  next_->close();
  for (cp::sim::Fiber* fiber : fibers) scheduler.join(fiber);
  next_->leave();
  frames_.reset();
  records_.reset();
  for (const PortHold* port : {&port_, &next_}) {
    if ((*port)->pool().allocated_bytes() == 0) continue;
    fail(kBack, format("port %u: %llu bytes are allocated", (*port)->id(),
                       static_cast<unsigned long long>((*port)->pool().allocated_bytes())));
  }
  for (const auto& client : clients_) client->peer->close();
  port_ = {};
  next_ = {};
  scheduler.sleep(100 * kMillisecond);
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

void run_frames_workload(const Plan& plan, Outcome& outcome) {
  run_workload<FramesRun>(plan, outcome);
}

}  // namespace cp::test
