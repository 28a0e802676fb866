#include "sim/model.h"

#include <algorithm>
#include <cerrno>

#include "system/sim/scheduler.h"

namespace cp::test {

using cp::sim::fail;
using cp::sim::format;

namespace {

unsigned long long number(std::uint64_t value) { return value; }

const char* name_of(PacketKind kind) {
  constexpr const char* kNames[] = {
      "none",     "open",     "close",     "read",   "write",         "sync",      "data sync",
      "truncate", "allocate", "stat",      "accept", "connect",       "receive",   "send",
      "shutdown", "timer",    "message",   "cancel", "cancel handle", "hand-off",  "abandoned",
      "room",     "release",  "send file", "drain",  "set mode",      "set owner", "set times"};
  return kNames[static_cast<std::size_t>(kind)];
}

}  // namespace

Op& Model::begin(PacketKind kind, std::uint32_t tag, HandleId handle, std::uint32_t thread) {
  Op& op = ops_[tag];
  op.kind = kind;
  op.handle = handle;
  op.thread = thread;
  cp::sim::Scheduler::current()->note("submits tag %lld, handle %lld:", tag, handle, 0,
                                      name_of(kind));
  return op;
}

Op& Model::begin_opening(PacketKind kind, std::uint32_t thread, std::uint32_t token) {
  const std::uint32_t tag = new_tag();
  openings_[{thread, token}] = tag;
  Op& op = begin(kind, tag, 0, thread);
  op.awaited = true;
  return op;
}

Op* Model::on_packet(const PacketSlot& packet, std::uint32_t thread) {
  const auto kind = static_cast<PacketKind>(packet.kind);
  cp::sim::Scheduler::current()->note(
      "has packet of tag %lld, key %lld, error %lld:", packet.tag, packet.key,
      static_cast<std::uint64_t>(static_cast<std::int64_t>(packet.error)), name_of(kind));
  std::uint32_t tag = packet.tag;
  if (kind == PacketKind::kOpen || kind == PacketKind::kConnect) {
    tag = openings_[{thread, packet.token}];
  }
  const auto found = ops_.find(tag);
  const bool linked = found != ops_.end() && found->second.linked;
  const bool late = packet.error == kErrorHandleClosed || (linked && packet.error == -ECANCELED) ||
                    kind == PacketKind::kAbandoned || (packet.flags & kPacketAwaited) != 0;
  if (packet.handle != 0 && dead_.contains(packet.handle) && !late) {
    fail(kDeadHandle, format("a packet of kind %u, error %d, of handle %llu, which is closed",
                             packet.kind, packet.error, number(packet.handle)));
  }
  if (kind == PacketKind::kClose && packet.error == 0) dead_.insert(packet.handle);
  if (tag == 0) return nullptr;
  if (found == ops_.end()) fail(kOneFinal, format("nobody asked for tag %u", packet.tag));
  Op& op = found->second;
  if (op.over) {
    fail(kOneFinal, format("a second final packet of kind %u, tag %u", packet.kind, packet.tag));
  }
  if (op.kind != kind) {
    fail(kOneFinal, format("tag %u is of kind %u, its packet of kind %u", packet.tag,
                           static_cast<unsigned>(op.kind), packet.kind));
  }
  ++op.packets;
  op.over = (packet.flags & kPacketMore) == 0;
  return &op;
}

std::size_t Model::open_operations(std::string* text) const {
  std::size_t count = 0;
  for (const auto& [tag, op] : ops_) {
    if (op.over || op.optional) continue;
    ++count;
    if (text == nullptr || count > 8) continue;
    *text += format("\n  kind %u, tag %u, handle %llu, of thread %u",
                    static_cast<unsigned>(op.kind), tag, number(op.handle), op.thread);
  }
  return count;
}

/// What it awaited nobody hears of.
void Model::lose(std::uint32_t thread) {
  for (auto& [tag, op] : ops_) {
    if (op.thread == thread && op.awaited) op.optional = true;
  }
}

// ---- bytes ------------------------------------------------------------------------------------

void Model::check_bytes(std::uint64_t connection, int to, const std::uint8_t* bytes,
                        std::size_t length) {
  Stream& it = stream(connection, to);
  for (std::size_t i = 0; i < length; ++i) {
    const std::size_t at = it.checked + i;
    if (at >= it.bytes.size() || it.bytes[at] != bytes[i]) {
      fail(kBytes,
           format("connection %llu, to side %d, byte %zu: %u instead of %d", number(connection), to,
                  at, bytes[i], at < it.bytes.size() ? it.bytes[at] : -1));
    }
  }
  it.checked += length;
}

/// An end in order that this side did not bring about comes behind the last byte.
void Model::check_end(std::uint64_t connection, int to, std::int32_t error) {
  const auto& all = driver::sim::World::current().connections();
  driver::sim::End& end = all[connection - 1]->ends[to];
  if (error != 0) return;
  if (end.shut_in) return;
  if (!end.in().end_arrived) {
    fail(kReset, format("connection %llu, side %d: an end that the peer did not send (reset: %d)",
                        number(connection), to, end.reset));
  }
  if (stream(connection, to).checked != end.in().sent) {
    fail(kBytes,
         format("connection %llu, side %d: the end came after %zu of %llu bytes",
                number(connection), to, stream(connection, to).checked, number(end.in().sent)));
  }
}

// ---- keys -------------------------------------------------------------------------------------

void Model::hold(std::uint32_t port, std::uint32_t key, std::uint32_t thread) {
  const auto [place, fresh] = held_.try_emplace({port, key}, thread);
  if (!fresh && place->second != thread) {
    fail(kKeyOnce, format("key %u of port %u is held by thread %u, and taken by thread %u", key,
                          port, place->second, thread));
  }
}

void Model::let_go(std::uint32_t port, std::uint32_t key, std::uint32_t thread) {
  const auto found = held_.find({port, key});
  if (found != held_.end() && found->second == thread) held_.erase(found);
}

void Model::let_go_all(std::uint32_t thread, std::uint32_t port,
                       const std::vector<std::uint32_t>* but) {
  std::erase_if(held_, [&](const auto& it) {
    const bool kept =
        but != nullptr && std::find(but->begin(), but->end(), it.first.second) != but->end();
    return it.second == thread && it.first.first == port && !kept;
  });
}

std::vector<std::uint32_t> Model::held_by(std::uint32_t thread) {
  std::vector<std::uint32_t> keys;
  for (const auto& [place, holder] : held_) {
    if (holder == thread) keys.push_back(place.second);
  }
  return keys;
}

// ---- connections ------------------------------------------------------------------------------

Conn* Model::conn(std::uint32_t key) {
  const auto found = conns_.find(key);
  return found == conns_.end() ? nullptr : found->second.get();
}

Conn& Model::add_conn(HandleId id, std::uint32_t key, std::uint64_t connection, int side,
                      std::uint32_t port) {
  auto& place = conns_[key];
  place = std::make_unique<Conn>();
  place->id = id;
  place->key = key;
  place->number = connection;
  place->side = side;
  place->where = port;
  return *place;
}

// ---- messages ---------------------------------------------------------------------------------

double Model::post_value(std::uint32_t producer) {
  return static_cast<double>(producer) * 4294967296.0 + ++next_message_[producer];
}

void Model::on_message(std::uint32_t port, std::uint32_t key, double value, bool in_order) {
  ++delivered_[port];
  if (!messages_.insert(value).second) fail(kOnce, format("message %.0f came twice", value));
  const auto producer = static_cast<std::uint32_t>(value / 4294967296.0);
  const auto count = static_cast<std::uint32_t>(value - producer * 4294967296.0);
  std::uint32_t& last = last_message_[{port, producer, key}];
  if (in_order && count <= last) {
    fail(kOrder, format("message %u of producer %u under key %u comes after %u", count, producer,
                        key, last));
  }
  last = count;
}

}  // namespace cp::test
