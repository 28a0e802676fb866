#include "port/port.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "driver/choose.h"
#include "driver/errno.h"
#include "port/idle_clock.h"
#include "port/thread.h"
#include "port/watchman.h"
#include "system/mutex.h"
#include "system/switch_point.h"

namespace cp {
namespace {

/// Leaked on purpose: threads may still run while the process's static objects are destroyed.
struct Ports {
  system::Mutex mutex;
  std::unordered_map<std::uint32_t, Port*> all;  ///< by number; those that have not ended
  std::atomic<std::size_t> count{0};             ///< of those, and of those that have
};
Ports& ports() {
  static Ports* const instance = new Ports;
  return *instance;
}

std::uint32_t next_port_id() {
  static std::atomic<std::uint32_t> next{1};
  return next.fetch_add(1);
}

}  // namespace

Port::Port(const PortOptions& options, std::unique_ptr<driver::Driver> driver, BufferPool* pool)
    : id_(next_port_id()),
      options_(options),
      driver_(std::move(driver)),
      pool_(pool),
      dispatcher_({options.concurrency, options.queue_limit, options.serialize_keys}) {
  pool_->set_on_free(&Port::keep_for_starving, &Port::wake_starving, this);
  ports().count.fetch_add(1);
}

Port::~Port() {
  pool_->let_go();
  ports().count.fetch_sub(1);
}

std::size_t Port::count() { return ports().count.load(); }

void Port::let_go() {
  if (holders_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
}

PortHold Port::create(const PortOptions& options, driver::Result& error, std::string& reason) {
  const std::uint32_t errands = options.affine ? 1 : options.concurrency;
  auto driver = driver::make_driver(options.driver, errands, error, reason);
  return driver ? create(options, std::move(driver), error, reason) : PortHold();
}

PortHold Port::create(const PortOptions& options, std::unique_ptr<driver::Driver> driver,
                      driver::Result& error, std::string& reason) {
  BufferPool* pool = BufferPool::make(options.buffers);
  if (pool == nullptr) {
    error = -ENOMEM;
    return {};
  }
  Port* port = new Port(options, std::move(driver), pool);
  port->driver_reason_ = reason;
  PortHold hold(*port);
  std::lock_guard lock(ports().mutex);
  ports().all[port->id_] = port;
  return hold;
}

/// While it is in the table the port holds itself.
PortHold Port::find(std::uint32_t id) {
  std::lock_guard lock(ports().mutex);
  const auto found = ports().all.find(id);
  return found == ports().all.end() ? PortHold() : PortHold(*found->second);
}

// ---- threads ----------------------------------------------------------------------------------

Thread* Port::attach(PacketSlot* slots, driver::Result& error, PostRing* ring) {
  {
    std::lock_guard lock(mutex_);
    if (ended_ || closing_) {
      error = kErrorPortClosed;
      return nullptr;
    }
    ++attached_;  // from here on the port does not end
  }
  pool_->add_lane();
  auto lane = driver_->make_lane(*pool_, error);
  if (!lane) {
    pool_->remove_lane();
    detached(0);
    return nullptr;
  }
  hold();
  Thread* attached = retired_thread();
  if (attached == nullptr) {
    std::lock_guard lock(mutex_);
    attached = threads_.emplace_back(std::make_unique<Thread>(*this)).get();
  }
  attached->begin(slots, ring, std::move(lane));
  if (!dispatcher_.add(*attached)) {
    error = -EAGAIN;
    attached->detach(false);
    return nullptr;
  }
  if (any_stranded_.exchange(false)) attached->resume_stranded();
  if (helps() && members().size() > 1) Watchman::instance().watch(*this);
  return attached;
}

/// The object of one that has left serves the next, so that others of the port can look at a thread
/// without a lock that keeps it: they find one that is there, or one that has gone. And a port that
/// threads come to and leave for years has as many objects as there were threads at one time.
Thread* Port::retired_thread() {
  std::lock_guard lock(mutex_);
  for (const auto& thread : threads_) {
    if (thread->retired_.exchange(false)) return thread.get();
  }
  return nullptr;
}

std::vector<Thread*> Port::members() {
  std::lock_guard lock(mutex_);
  std::vector<Thread*> all;
  for (const auto& thread : threads_) all.push_back(thread.get());
  return all;
}

bool Port::enter() {
  std::lock_guard lock(mutex_);
  if (ended_ || closing_) return false;
  ++attached_;
  return true;
}

std::size_t Port::threads() {
  std::lock_guard lock(mutex_);
  return attached_;
}

void Port::detached(std::uint64_t system_calls) {
  {
    std::lock_guard lock(mutex_);
    left_.system_calls += system_calls;
    if (--attached_ > 0) return;
    ended_ = true;
  }
  end();
}

/// The last thread has left, so no lane of this port has an operation. Handles it still has can be
/// closed at once, but for those another port's thread has an operation of: that thread closes
/// them.
void Port::end() {
  if (helps()) Watchman::instance().forget(*this);
  {
    std::lock_guard lock(ports().mutex);
    ports().all.erase(id_);
  }
  std::vector<Packet> orphans;
  dispatcher_.close();
  dispatcher_.drain(orphans);  // from here on no handle is handed to this port
  handle_list_.end();
  key_source_.store(nullptr);
  dispose(orphans, *driver_);
  std::vector<HandleId> feeders;
  for (Handle* handle : handle_list_.all()) {
    std::lock_guard lock(handle->mutex);
    if (handle->id == 0 || handle->port != this) continue;
    feeders.insert(feeders.end(), handle->feeders.begin(), handle->feeders.end());
    handle->feeders.clear();
    // One that closes already: this port's threads have finished theirs, so another port's thread
    // carries the close out.
    if (!handle->closing) close_at_end(*handle);
  }
  for (const HandleId feeder : feeders) Thread::let_receive(feeder);
  // Whoever was naming a connection had its listener locked, which the loop above has waited for.
  std::vector<std::shared_ptr<KeySource>>().swap(key_sources_);
  IdleClock::instance().rest();
  pool_->close();
  driver_.reset();
  let_go();
}

/// The handle's mutex is held.
void Port::close_at_end(Handle& handle) {
  Thread::end_stranded(handle.in);
  Thread::end_stranded(handle.out);
  if (handle.in_flight == 0) {
    handle.end_sharing();
    if (handle.descriptor != driver::kNoDescriptor) driver_->discard(handle.descriptor);
    const bool of_file = handle.kind == HandleKind::kListener && handle.path != nullptr;
    if (of_file) driver_->remove_socket_file(*handle.path);
    HandleTable::instance().free(&handle);
    return;
  }
  handle.close_unasked();
  for (Request* r = handle.requests; r != nullptr; r = r->handle_next) {
    if (r->end != Request::End::kNatural) continue;
    r->end = Request::End::kCancelled;
    // What waits in a queue ends when its turn comes.
    if (r->state == Request::State::kQueued) continue;
    Thread* runner = r->runner;
    runner->send({Thread::Message::Kind::kCancel, r, r->generation, nullptr});
  }
}

void Port::close() {
  {
    std::lock_guard lock(mutex_);
    closing_ = true;
  }
  dispatcher_.close();
}

// ---- handles ----------------------------------------------------------------------------------

void Port::set_key_source(std::shared_ptr<KeySource> source) {
  std::lock_guard lock(mutex_);
  if (key_source_.load() == source.get()) return;
  key_source_.store(source.get());
  key_sources_.push_back(std::move(source));  // others may be using the one before
}

Handle* Port::create_handle(HandleKind kind, bool keyed, std::uint32_t key, Thread* owner,
                            HandleId& name) {
  Handle* handle = HandleTable::instance().create(name);
  if (handle == nullptr) return nullptr;
  handle->kind = kind;
  handle->keyed = keyed;
  handle->key = key;
  handle->owner = keyed || owner == nullptr ? 0 : owner->number();
  handle->port.store(this);
  if (kind == HandleKind::kListener) handle->connections = std::make_shared<Connections>();
  handle_list_.add(*handle);
  return handle;
}

void Port::adopt(Handle& handle, driver::Driver& driver, driver::Descriptor descriptor) {
  static std::atomic<std::uint64_t> next_identity{1};
  handle.descriptor = descriptor;
  handle.descriptor_id = next_identity.fetch_add(1, std::memory_order_relaxed);
  driver.associate(descriptor);
}

std::int32_t Port::hand_off(HandleId id, Port& target, std::uint32_t key,
                            std::atomic<std::uint32_t>* where, Dispatcher::Tell tell) {
  Handle* handle = HandleTable::instance().find(id);
  if (handle == nullptr) return kErrorHandleClosed;
  std::vector<Packet> orphans;
  const std::int32_t error = move(*handle, id, target, key, where, tell, orphans);
  dispose(orphans, *driver_);
  return error;
}

std::int32_t Port::move(Handle& handle, HandleId id, Port& target, std::uint32_t key,
                        std::atomic<std::uint32_t>* where, Dispatcher::Tell tell,
                        std::vector<Packet>& orphans) {
  // Packets of the handle are queued with its mutex held: nothing reaches the new port before the
  // notice, and nothing the old one after it.
  std::lock_guard lock(handle.mutex);
  if (handle.id != id || handle.closing) return kErrorHandleClosed;
  if (handle.port != this || !handle.keyed) return kErrorNotSupported;
  if (target.dispatcher_.closed()) return kErrorPortClosed;
  std::vector<Packet> moved;
  if (!CP_PLANTED("packets stay behind")) dispatcher_.extract_handle(id, handle.key, moved);
  const std::uint32_t old_key = handle.key;
  handle.key = key;
  handle_list_.remove(handle);
  handle.port.store(&target);
  target.handle_list_.add(handle);
  if (where != nullptr) where->store(target.id_);
  Packet notice;
  notice.kind = PacketKind::kHandOff;
  notice.key = key;
  notice.handle = id;
  if (!target.dispatcher_.push(notice, nullptr, tell)) {
    // The target has ended in between, and may have looked for its handles before this one was.
    target.handle_list_.remove(handle);
    handle.port.store(this);
    handle_list_.add(handle);
    handle.key = old_key;
    if (where != nullptr) where->store(id_);
    for (const Packet& packet : moved) dispatcher_.push(packet, nullptr);
    return kErrorPortClosed;
  }
  for (Packet& packet : moved) {
    packet.key = key;
    packet.target = nullptr;
    if (!target.dispatcher_.push(packet, nullptr, tell)) orphans.push_back(packet);
  }
  Thread::start_stranded(handle, target);
  return 0;
}

std::int32_t Port::hand_off_key(Port& target, std::uint32_t key, std::atomic<std::uint32_t>& where,
                                Dispatcher::Tell tell) {
  Packet notice;
  notice.kind = PacketKind::kHandOff;
  notice.key = key;
  if (target.dispatcher_.closed()) return kErrorPortClosed;
  where.store(target.id_);
  if (target.dispatcher_.push(notice, nullptr, tell)) return 0;
  where.store(id_);
  return kErrorPortClosed;
}

std::vector<HandleId> Port::handles() {
  std::vector<HandleId> names;
  for (Handle* handle : handle_list_.all()) {
    std::lock_guard lock(handle->mutex);
    if (handle->id != 0 && handle->port == this && !handle->closing) names.push_back(handle->id);
  }
  return names;
}

HandleView Port::look_up(HandleId id) {
  Handle* handle = HandleTable::instance().find(id);
  if (handle == nullptr) return {};
  std::lock_guard lock(handle->mutex);
  if (handle->id != id) return {};
  const Port* port = handle->port;
  return {id,
          handle->kind,
          handle->file_kind,
          handle->descriptor,
          port == nullptr ? 0 : port->id_,
          handle->key,
          handle->keyed,
          handle->closing,
          handle->in_flight,
          handle->append,
          handle->direct,
          handle->messages,
          handle->path ? *handle->path : ""};
}

bool Port::bytes_moved(HandleId id, std::uint64_t& received, std::uint64_t& sent) {
  Handle* handle = HandleTable::instance().find(id);
  if (handle == nullptr) return false;
  std::lock_guard lock(handle->mutex);
  if (handle->id != id) return false;
  received = handle->received;
  sent = handle->sent;
  return true;
}

std::int64_t Port::idle_timeout(HandleId id) {
  Handle* handle = HandleTable::instance().find(id);
  if (handle == nullptr) return kErrorHandleClosed;
  std::lock_guard lock(handle->mutex);
  return handle->id == id ? handle->idle_timeout : std::int64_t{kErrorHandleClosed};
}

std::int64_t Port::set_idle_timeout(HandleId id, std::uint32_t milliseconds) {
  Handle* handle = HandleTable::instance().find(id);
  if (handle == nullptr) return kErrorHandleClosed;
  if (!IdleClock::instance().hold()) return -EAGAIN;
  bool known = false;
  {
    std::lock_guard lock(handle->mutex);
    known = handle->id == id && !handle->closing;
    if (known) give_idle_timeout(*handle, milliseconds);
  }
  IdleClock::instance().let_go();
  return known ? 0 : kErrorHandleClosed;
}

/// Its mutex is held, or nobody has heard of it; and somebody else holds the clock.
void Port::give_idle_timeout(Handle& handle, std::uint32_t milliseconds) {
  handle.end_idling();
  if (milliseconds == 0) return;
  IdleClock& clock = IdleClock::instance();
  clock.hold_too();
  handle.idle_timeout = milliseconds;
  if (handle.kind != HandleKind::kSocket) return;
  const driver::Deadline now = driver::now();
  handle.moved_at = now;
  clock.watch(handle.place, IdleClock::due(handle, now));
}

std::int32_t Port::lets_go(HandleId id) {
  Handle* handle = HandleTable::instance().find(id);
  if (handle == nullptr) return kErrorHandleClosed;
  std::lock_guard lock(handle->mutex);
  if (handle->id != id || handle->closing) return kErrorHandleClosed;
  if (!lets_go(*handle)) return kErrorNotSupported;
  return handle->descriptor == driver::kNoDescriptor ? kErrorHandleClosed : 0;
}

bool Port::lets_go(const Handle& handle) const {
  const bool socket = handle.kind == HandleKind::kSocket || handle.kind == HandleKind::kListener;
  return socket && driver_->lets_go();
}

std::shared_ptr<Connections> Port::connections_of(HandleId id) {
  Handle* handle = HandleTable::instance().find(id);
  if (handle == nullptr) return nullptr;
  std::lock_guard lock(handle->mutex);
  const bool listens = handle->id == id && handle->kind == HandleKind::kListener;
  return listens ? handle->connections : nullptr;
}

HistogramCounts Port::waits() const {
  HistogramCounts all;
  dispatcher_.waits(all);
  return all;
}

PortStats Port::stats() {
  PortStats stats;
  {
    std::lock_guard lock(mutex_);
    stats = left_;
    stats.threads = attached_;
    for (const auto& thread : threads_) {
      stats.submitted += thread->submitted();
      stats.completed += thread->completed();
      stats.system_calls += thread->system_calls();
    }
  }
  stats.free_buffers = pool_->free_buffers();
  stats.allocated_bytes = pool_->allocated_bytes();
  stats.handles = handle_list_.open();
  stats.refused = refused_.load();
  stats.batches = dispatcher_.batches();
  stats.wake_ups = dispatcher_.wake_ups();
  stats.steals = dispatcher_.steals();
  stats.taken_back = dispatcher_.taken_back();
  stats.queue_depth = dispatcher_.queued();
  stats.running = dispatcher_.running();
  stats.waiting = dispatcher_.waiting();
  return stats;
}

// ---- refused connections ----------------------------------------------------------------------

void Port::notify_when_refused(const Packet& packet, std::uint64_t known) {
  {
    std::lock_guard lock(mutex_);
    // Either this sees that one was refused, or whoever refuses one sees that it is to be told.
    refusals_wanted_.store(true);
    if (refused_.load() <= known) return refusal_requests_.push_back(packet);
    refusals_wanted_.store(!refusal_requests_.empty());
  }
  dispatcher_.push(packet, nullptr);
}

void Port::count_refused() {
  refused_.fetch_add(1);
  if (!refusals_wanted_.load()) return;
  std::vector<Packet> requests;
  {
    std::lock_guard lock(mutex_);
    requests.swap(refusal_requests_);
    refusals_wanted_.store(false);
  }
  for (const Packet& request : requests) dispatcher_.push(request, nullptr);
}

// ---- posting and disposing --------------------------------------------------------------------

bool Port::post(std::uint32_t key, double value, bool bounded) {
  Packet packet;
  packet.kind = PacketKind::kPosted;
  packet.key = key;
  packet.result = value;
  return dispatcher_.post(packet, nullptr, bounded);
}

void Port::dispose(const std::vector<Packet>& orphans, driver::Driver& driver) {
  for (const Packet& packet : orphans) {
    if (packet.shares()) {
      BufferPool::let_go({packet.chunk, packet.offset});
    } else if (packet.chunk != driver::kNoChunk) {
      BufferPool::release({packet.chunk, packet.offset});
    }
    if (packet.kind == PacketKind::kClose && packet.error == 0 && packet.result > 0) {
      driver.discard(static_cast<driver::Descriptor>(packet.result) -
                     1);  // see Thread::give_descriptor_back
    }
    const bool opened = packet.kind == PacketKind::kOpen || packet.kind == PacketKind::kConnect;
    const HandleId name = opened && packet.error == 0 ? packet.handle : packet.accepted;
    if (name == 0) continue;
    // Nobody has heard of it, so nothing is in flight on it.
    Handle* handle = HandleTable::instance().find(name);
    if (handle == nullptr) continue;
    std::lock_guard lock(handle->mutex);
    if (handle->id != name || handle->in_flight > 0 || handle->closing) continue;
    driver.discard(handle->descriptor);
    HandleTable::instance().free(handle);
  }
}

driver::Result Port::receive_now(HandleId id, const driver::Slice& into) {
  Handle* handle = HandleTable::instance().find(id);
  if (handle == nullptr) return kErrorHandleClosed;
  std::lock_guard lock(handle->mutex);
  if (handle->id != id || handle->descriptor == driver::kNoDescriptor || handle->closing) {
    return kErrorHandleClosed;
  }
  const StreamQueue& in = handle->in;
  if (in.active != nullptr || in.first != nullptr || in.holds > 0) return -EAGAIN;
  const driver::Result got = driver::receive_now(handle->descriptor, into);
  if (got == -ECONNRESET) handle->reset = true;
  if (got == 0 && !CP_PLANTED("a read does not ask for the reset")) {
    // The system tells of a reset once, and a send may have been the one that heard (rule O8).
    Port* port = handle->port;
    const bool in_order = port == nullptr || handle->reset ||
                          port->driver_->ended_in_order(handle->descriptor, handle->received);
    handle->reset |= !in_order;
    if (handle->reset) return -ECONNRESET;
  }
  if (got == -EAGAIN) handle->likely_empty = true;
  if (got > 0) {
    handle->count_received(static_cast<std::uint64_t>(got));
    handle->likely_empty = !handle->messages && static_cast<std::size_t>(got) < into.length;
  }
  return got;
}

// ---- buffers ----------------------------------------------------------------------------------

void Port::add_starving(Thread& thread) {
  std::lock_guard lock(mutex_);
  if (std::find(starving_.begin(), starving_.end(), &thread) == starving_.end()) {
    starving_.push_back(&thread);
  }
  any_starving_.store(true);
}

void Port::remove_starving(Thread& thread) {
  std::lock_guard lock(mutex_);
  std::erase(starving_, &thread);
  any_starving_.store(!starving_.empty());
}

/// Not lost: a thread is on the list before it looks for a free buffer once more, and a buffer is
/// free before this looks whether there is anybody. Both take the lock of the part of the pool that
/// the buffer lies in: who comes second there sees what the other did before. While buffers go from
/// part to part a look may miss them; then this is called as well. Called with that lock held,
/// under which the pool is open, so the port is there; to wake threads it is held beyond that.
bool Port::keep_for_starving(void* context) {
  Port* port = static_cast<Port*>(context);
  if (!port->any_starving_.load()) return false;
  port->hold();
  return true;
}

void Port::wake_starving(void* context) {
  Port* port = static_cast<Port*>(context);
  {
    std::lock_guard lock(port->mutex_);
    for (Thread* thread : port->starving_) thread->wake();
  }
  port->let_go();
}

}  // namespace cp
