#include "stage/record_table.h"

#include <algorithm>
#include <cmath>
#include <system_error>

#include "port/memory.h"
#include "port/thread.h"
#include "system/per_thread.h"

namespace cp::stage {
namespace {

constexpr std::uint32_t kIndexBits = 20;
/// One less than fit: the last name of all is the key of listeners.
constexpr std::uint16_t kGenerations = 4094;
/// Milliseconds: the clock looks at whole ticks only, so that many deadlines cost few wake-ups.
constexpr double kTick = 16;

/// Tells in which part a thread looks first: the same one in every table.
struct PartNumber {
  static inline std::atomic<std::uint32_t> next{0};
  const std::uint32_t value = next.fetch_add(1, std::memory_order_relaxed);
};
CP_PER_THREAD(PartNumber, part_number)

/// The first tick that is not before `deadline`, modulo 2^32, and never 0;
/// lib/stage/record/deadline.ts has the same. Two of them can be compared if they are less than a
/// year apart.
std::uint32_t tick_of(double deadline) {
  const auto tick =
      static_cast<std::uint32_t>(static_cast<std::uint64_t>(std::ceil(deadline / kTick)));
  return tick == 0 ? 1 : tick;
}
bool is_later(std::uint32_t tick, std::uint32_t other) {
  return static_cast<std::int32_t>(tick - other) > 0;
}

}  // namespace

void close_quietly(Thread& thread, HandleId handle) {
  Request* request = new_request();
  request->kind = PacketKind::kClose;
  request->quiet = true;
  request->silent = true;  // also when the handle is gone already
  thread.submit(request, handle);
}

std::shared_ptr<RecordTable> RecordTable::make(std::size_t limit, std::size_t stride,
                                               std::uint32_t traced) {
  std::unique_ptr<Trace> trace;
  if (traced > 0 && !(trace = Trace::make(limit, traced))) return nullptr;
  auto* memory = static_cast<std::uint8_t*>(reserve_memory(limit * stride));
  if (memory == nullptr) return nullptr;
  try {
    return std::make_shared<RecordTable>(memory, limit, stride, std::move(trace));
  } catch (const std::system_error&) {  // no thread is to be had for its clock
    free_memory(memory, limit * stride);
    return nullptr;
  }
}

RecordTable::RecordTable(std::uint8_t* memory, std::size_t limit, std::size_t stride,
                         std::unique_ptr<Trace> trace)
    : memory_(memory),
      limit_(limit),
      stride_(stride),
      trace_(std::move(trace)),
      cargos_(new std::atomic<Cargo*>[limit] {}),
      generations_(new std::uint16_t[limit]()),
      deadlines_(limit),
      clock_([this] { run_clock(); }) {}

RecordTable::~RecordTable() {
  close();
  for (std::size_t i = 0; i < limit_; ++i) {
    const std::unique_ptr<Cargo> cargo(cargos_[i].load());
    if (!cargo) continue;
    if (cargo->document.place.chunk != driver::kNoChunk) {
      BufferPool::release(cargo->document.place);  // its file went with the port that had it
    }
    release_reply(*cargo);
    cargo->drop_messages();
  }
  free_memory(memory_, size());
}

void RecordTable::close() {
  closed_ = true;
  {
    std::lock_guard lock(clock_mutex_);
    woken_changed_.notify_all();
  }
  if (clock_.joinable()) clock_.join();
}

// ---- names ------------------------------------------------------------------------------------

RecordTable::Part& RecordTable::own_part() { return parts_[part_number().value % kParts]; }

bool RecordTable::take_index(std::uint32_t& index) {
  Part& own = own_part();
  {
    std::lock_guard lock(own.lock);
    if (!own.fetched.empty()) {
      index = own.fetched.back();
      own.fetched.pop_back();
      return true;
    }
  }
  return fetch_indices(own, index);
}

/// False when all are in use. Names that were never used come first: a stale one then stays stale
/// for longest. Indices change between the parts and the common list with the mutex held, so none
/// is missed here.
bool RecordTable::fetch_indices(Part& own, std::uint32_t& index) {
  std::lock_guard common(mutex_);
  const std::size_t first = used_.load(std::memory_order_relaxed);
  const std::size_t fresh = std::min(kTogether, limit_ - first);
  const std::size_t count = fresh > 0 ? fresh : std::min(kTogether, free_.size());
  std::uint32_t found[kTogether];
  for (std::size_t i = 0; i < count; ++i) {
    found[i] = fresh > 0 ? static_cast<std::uint32_t>(first + i) : free_[i];
  }
  if (fresh > 0) {
    used_.store(first + fresh, std::memory_order_release);
  } else {
    free_.erase(free_.begin(), free_.begin() + static_cast<std::ptrdiff_t>(count));
  }
  if (count > 0) {
    index = found[0];
    std::lock_guard lock(own.lock);
    own.fetched.insert(own.fetched.begin(), std::reverse_iterator(found + count),
                       std::reverse_iterator(found + 1));
    return true;
  }
  for (Part& part : parts_) {
    std::lock_guard lock(part.lock);
    std::vector<std::uint32_t>& from = part.fetched.empty() ? part.freed : part.fetched;
    if (from.empty()) continue;
    const auto taken = part.fetched.empty() ? from.begin() : from.end() - 1;
    index = *taken;
    from.erase(taken);
    return true;
  }
  return false;
}

void RecordTable::give_index(std::uint32_t index) {
  Part& own = own_part();
  {
    std::lock_guard lock(own.lock);
    own.live.fetch_sub(1, std::memory_order_relaxed);
    own.freed.push_back(index);
    if (own.freed.size() < 2 * kTogether) return;
  }
  std::lock_guard common(mutex_);
  std::lock_guard lock(own.lock);
  const std::size_t count = std::min(kTogether, own.freed.size());
  const auto end = own.freed.begin() + static_cast<std::ptrdiff_t>(count);
  free_.insert(free_.end(), own.freed.begin(), end);
  own.freed.erase(own.freed.begin(), end);
}

std::uint32_t RecordTable::create(std::uint32_t port, HandleId handle) {
  std::uint32_t index = 0;
  if (closed_.load() || !take_index(index)) return 0;
  own_part().live.fetch_add(1, std::memory_order_relaxed);
  std::uint16_t& generation = generations_[index];
  generation = generation == kGenerations ? 1 : static_cast<std::uint16_t>(generation + 1);
  RecordHeader* header = at(index);
  clear(header);
  header->handle = handle;
  header->port = port;
  const std::uint32_t name = static_cast<std::uint32_t>(generation) << kIndexBits | index;
  if (trace_) trace_->begin(name);
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
  header->number = header->stashed = header->held = 0;
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

/// As they are found one after another: exact while none comes or goes.
std::size_t RecordTable::live() const {
  std::int64_t live = 0;
  for (const Part& part : parts_) live += part.live.load(std::memory_order_relaxed);
  return static_cast<std::size_t>(std::max<std::int64_t>(0, live));
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
    cargo->drop_messages();
    release_document(*cargo, closer);
    release_reply(*cargo);
  }
  record->deadline = 0;
  deadlines_.remove(index, [record] { record->watched.store(0); });
  record->name.store(0, std::memory_order_release);
  give_index(index);
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

/// The deadline is stored, then `watched` is read; the clock clears `watched`, then reads the
/// deadline. So either it sees this one, or this thread sees that nobody watches. Most deadlines
/// are put off long before they pass: those cost no more than this.
void RecordTable::set_deadline(std::uint32_t key, RecordHeader& header, double deadline) {
  header.deadline.store(deadline);
  if (deadline <= 0) return;
  const std::uint32_t watched = header.watched.load();
  if (watched != 0 && !is_later(watched, tick_of(deadline))) return;
  enter_deadline(index_of(key), deadline);
}

void RecordTable::watch(std::uint32_t key) {
  RecordHeader* record = header(key);
  if (record == nullptr) return;
  const double deadline = record->deadline.load();
  if (deadline > 0) enter_deadline(index_of(key), deadline);
}

/// What is entered is visible before this looks until when the clock sleeps, and the clock looks
/// for what was entered after it has said that: one of both sees the other.
void RecordTable::enter_deadline(std::uint32_t index, double deadline) {
  constexpr double kNeverComes = 1e15;
  const double time = std::ceil(deadline / kTick) * kTick;
  if (!(time < kNeverComes)) return;  // or is no number: the memory is JavaScript's
  deadlines_.enter(index, time,
                   [&](double entered) { at(index)->watched.store(tick_of(entered)); });
  if (time >= sleeps_until_.load()) return;
  std::lock_guard lock(clock_mutex_);
  woken_ = true;
  woken_changed_.notify_all();
}

/// Sleeps until the earliest time, or for good where there is none: an idle process has no wake-ups
/// of it.
void RecordTable::run_clock() {
  while (!closed_.load()) {
    sleeps_until_.store(-Deadlines::kNone);
    const double next = look_at_due();
    sleeps_until_.store(next);
    if (deadlines_.earliest() < next) continue;
    std::unique_lock lock(clock_mutex_);
    while (!woken_ && !closed_.load()) {
      if (next == Deadlines::kNone) {
        woken_changed_.wait(lock);
        continue;
      }
      const double left = next - driver::milliseconds();
      if (left <= 0) break;
      woken_changed_.wait_for(lock, static_cast<std::int64_t>(std::min(left, 1e9) * 1e6) + 1);
    }
    woken_ = false;
  }
}

/// The time of the next look.
double RecordTable::look_at_due() {
  looks_.fetch_add(1, std::memory_order_relaxed);
  const double now = driver::milliseconds();
  deadlines_.take_due(
      now, [this](std::uint32_t index) { at(index)->watched.store(0); },
      [this, now](std::uint32_t index) { look_at(index, now); });
  return deadlines_.earliest();
}

void RecordTable::look_at(std::uint32_t index, double now) {
  RecordHeader& header = *at(index);
  double deadline = header.deadline.load();
  if (deadline > now) return enter_deadline(index, deadline);
  if (deadline <= 0) return;
  // Whoever holds the key may be setting another deadline at this moment: then that one counts, and
  // it has been entered, because nobody watched.
  if (header.deadline.compare_exchange_strong(deadline, kExpired)) expire(header);
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
