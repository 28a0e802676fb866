#include "stage/record_table.h"

#include <algorithm>
#include <system_error>

#include "port/memory.h"
#include "port/thread.h"

namespace cp::stage {
namespace {

constexpr std::uint32_t kIndexBits = 20;
/// One less than fit: the last name of all is the key of listeners.
constexpr std::uint16_t kGenerations = 4094;
/// How often deadlines are looked at: their resolution.
constexpr std::int64_t kTick = 20'000'000;

double monotonic_milliseconds() { return static_cast<double>(driver::now()) / 1e6; }

}  // namespace

void close_quietly(Thread& thread, HandleId handle) {
  Request* request = new_request();
  request->kind = PacketKind::kClose;
  request->quiet = true;
  request->silent = true;  // also when the handle is gone already
  thread.submit(request, handle);
}

std::shared_ptr<RecordTable> RecordTable::make(std::size_t limit, std::size_t stride) {
  auto* memory = static_cast<std::uint8_t*>(reserve_memory(limit * stride));
  if (memory == nullptr) return nullptr;
  try {
    return std::make_shared<RecordTable>(memory, limit, stride);
  } catch (const std::system_error&) {  // no thread is to be had for its clock
    free_memory(memory, limit * stride);
    return nullptr;
  }
}

RecordTable::RecordTable(std::uint8_t* memory, std::size_t limit, std::size_t stride)
    : memory_(memory),
      limit_(limit),
      stride_(stride),
      cargos_(new std::atomic<Cargo*>[limit] {}),
      clock_([this] { watch_deadlines(); }) {}

RecordTable::~RecordTable() {
  close();
  for (std::size_t i = 0; i < limit_; ++i) {
    const std::unique_ptr<Cargo> cargo(cargos_[i].load());
    if (!cargo) continue;
    if (cargo->document.place.chunk != driver::kNoChunk) {
      BufferPool::release(cargo->document.place);  // its file went with the port that had it
    }
    release_reply(*cargo);
  }
  free_memory(memory_, size());
}

void RecordTable::close() {
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }
  if (clock_.joinable()) clock_.join();
}

// ---- names ------------------------------------------------------------------------------------

std::uint32_t RecordTable::create(std::uint32_t port, HandleId handle) {
  std::lock_guard lock(mutex_);
  if (closed_ || live_ == limit_) return 0;
  std::uint32_t index = static_cast<std::uint32_t>(generations_.size());
  // Names that were never used come first: a stale one then stays stale for longest.
  if (index == limit_) {
    index = free_.front();
    free_.pop_front();
  } else {
    generations_.push_back(0);
    used_.store(generations_.size());
  }
  std::uint16_t& generation = generations_[index];
  generation = generation == kGenerations ? 1 : static_cast<std::uint16_t>(generation + 1);
  if (live_++ == 0) changed_.notify_all();
  RecordHeader* header = at(index);
  clear(header);
  header->handle = handle;
  header->port = port;
  const std::uint32_t name = static_cast<std::uint32_t>(generation) << kIndexBits | index;
  header->name.store(name, std::memory_order_release);
  return name;
}

/// Field by field: the clock may be looking at the deadline of the record that was here before.
void RecordTable::clear(RecordHeader* header) const {
  header->deadline = 0;
  header->stage = header->state = header->from = kNoStage;
  header->flags = 0;
  header->since = header->document_length = header->received = 0;
  header->document.memory = {driver::kNoChunk, 0};
  header->number = header->stashed = 0;
  std::fill_n(reinterpret_cast<std::uint8_t*>(header + 1), stride_ - sizeof(RecordHeader),
              std::uint8_t{0});
}

RecordHeader* RecordTable::header(std::uint32_t key) const {
  const std::uint32_t index = index_of(key);
  if (key == 0 || index >= used_.load(std::memory_order_acquire)) return nullptr;
  RecordHeader* header = at(index);
  return header->name.load(std::memory_order_acquire) == key ? header : nullptr;
}

Cargo* RecordTable::cargo(std::uint32_t key) const {
  if (header(key) == nullptr) return nullptr;
  std::atomic<Cargo*>& cargo = cargos_[index_of(key)];
  if (cargo.load() == nullptr) cargo.store(new Cargo);
  return cargo.load();
}

std::size_t RecordTable::live() const {
  std::lock_guard lock(mutex_);
  return live_;
}

Cargo* RecordTable::find_cargo(std::uint32_t key) const {
  return header(key) == nullptr ? nullptr : cargos_[index_of(key)].load();
}

bool RecordTable::release(std::uint32_t key, Thread& closer) {
  RecordHeader* record = header(key);
  if (record == nullptr) return false;
  const std::uint32_t index = index_of(key);
  if (Cargo* cargo = cargos_[index].load()) {
    cargo->stash.clear();
    cargo->messages.clear();
    release_document(*cargo, closer);
    release_reply(*cargo);
  }
  record->deadline = 0;
  record->name.store(0, std::memory_order_release);
  std::lock_guard lock(mutex_);
  free_.push_back(index);
  --live_;
  return true;
}

void RecordTable::release_document(Cargo& cargo, Thread& closer) {
  Document document = std::move(cargo.document);
  cargo.document = {};
  if (document.place.chunk != driver::kNoChunk) BufferPool::release(document.place);
  if (document.file != 0) close_quietly(closer, document.file);
}

void RecordTable::release_reply(Cargo& cargo) {
  const Reply reply = cargo.reply;
  cargo.reply = {};
  if (reply.memory.place.chunk != driver::kNoChunk) BufferPool::release(reply.memory.place);
  if (reply.file != driver::kNoDescriptor) driver::close_file(reply.file);
}

// ---- deadlines --------------------------------------------------------------------------------

void RecordTable::watch_deadlines() {
  std::unique_lock lock(mutex_);
  while (!closed_) {
    if (live_ == 0) {
      changed_.wait(lock);
      continue;
    }
    changed_.wait_for(lock, kTick);
    lock.unlock();
    look_at_deadlines();
    lock.lock();
  }
}

void RecordTable::look_at_deadlines() {
  const double now = monotonic_milliseconds();
  const std::size_t used = used_.load(std::memory_order_acquire);
  for (std::size_t i = 0; i < used; ++i) {
    RecordHeader& header = *at(i);
    double deadline = header.deadline.load(std::memory_order_relaxed);
    if (deadline <= 0 || deadline > now) continue;
    // Whoever holds the key may be setting another deadline at this moment: then that one counts.
    if (header.deadline.compare_exchange_strong(deadline, kExpired)) expire(header);
  }
}

/// The port is read after the deadline was taken: when the connection goes elsewhere in between,
/// its deadline was cleared by that, and the packet is found to be stale.
void RecordTable::expire(RecordHeader& header) {
  Packet packet;
  packet.kind = PacketKind::kTimer;
  packet.key = header.name;
  packet.handle = header.handle;
  const PortHold port = Port::find(header.port);
  if (!port || packet.key == 0) return;
  port->dispatcher().push(packet, nullptr);
}

}  // namespace cp::stage
