#include "driver/sim/sim_driver.h"

#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "driver/blocking/blocking_calls.h"
#include "driver/blocking/blocking_thread.h"
#include "driver/choose.h"
#include "driver/doorbell.h"
#include "driver/half_close.h"
#include "driver/sim/sim_lane.h"
#include "system/switch_point.h"

namespace cp::driver::sim {
namespace {

class SimDriver final : public Driver {
 public:
  explicit SimDriver(World& world) : world_(world) {}

  const char* name() const override { return "sim"; }

  std::unique_ptr<Lane> make_lane(BufferSource& buffers, Result& error) override {
    const Turn turn;
    error = world_.fault(Fault::kNoLane) ? -EMFILE : 0;
    if (error < 0) return nullptr;
    return std::make_unique<SimLane>(world_, pool_, buffers);
  }

  Result associate(Descriptor) override { return 0; }
  Result listen(const ListenOptions& options) override {
    const Turn turn;
    return world_.listen(options.address, options.backlog);
  }
  Result set_option(Descriptor socket, SocketOption option, int value) override {
    const Turn turn;
    Entry* entry = world_.at(socket);
    if (entry == nullptr) return -EBADF;
    if (option == SocketOption::kLinger && entry->end != nullptr) {
      entry->end->resets_at_close = value != 0;
    }
    return 0;
  }
  Result option(Descriptor, SocketOption) override { return -ENOPROTOOPT; }
  Result address(Descriptor socket, bool peer, SocketAddress& out) override {
    const Turn turn;
    const Entry* entry = world_.at(socket);
    if (entry == nullptr) return -EBADF;
    if (entry->listener && peer) return -ENOTCONN;
    if (entry->file) return -ENOTSOCK;
    const End* end = entry->end;
    out = entry->listener ? entry->listener->address
                          : end->connection->addresses[peer ? 1 - end->side : end->side];
    return 0;
  }
  bool ended_in_order(Descriptor socket, std::uint64_t) override {
    const Turn turn;
    Entry* entry = world_.at(socket);
    if (entry == nullptr || entry->end == nullptr) return true;
    return !entry->end->reset || entry->end->in().end_arrived;
  }
  std::int64_t acknowledged(Descriptor socket) override { return acknowledged_bytes(socket); }
  void shut_down(Descriptor socket) override {
    const Turn turn;
    Entry* entry = world_.at(socket);
    if (entry != nullptr && entry->end != nullptr) world_.shut_down(*entry->end, SHUT_RDWR);
  }
  void discard(Descriptor descriptor) override { close_file(descriptor); }
  Result duplicate_socket(Descriptor socket, SocketKind& kind) override {
    const Turn turn;
    Entry* entry = world_.at(socket);
    if (entry == nullptr || entry->file) return -ENOTSOCK;
    kind.listens = entry->listener != nullptr;
    return world_.copy(socket);
  }
  /// It is none of the world's.
  Result own_connection(Descriptor) override { return -ENOTSUP; }
  bool lets_go() const override { return true; }
  void remove_socket_file(const std::string&) override {}
  Result temporary_file(const char* directory) override {
    const Turn turn;
    return make_temporary(world_, directory);
  }
  Result duplicate(Descriptor descriptor, FileKind& kind) override {
    const Turn turn;
    return copy_file(world_, descriptor, kind);
  }
  Result duplicate_own(Descriptor file, FileKind& kind) override { return duplicate(file, kind); }

 private:
  World& world_;
  BlockingPool pool_;
};

}  // namespace

std::unique_ptr<Driver> make_sim_driver(World& world) { return std::make_unique<SimDriver>(world); }

}  // namespace cp::driver::sim

// ---- what the library asks of the system without a lane or a driver ----------------------------

namespace cp::driver {

using sim::Entry;
using sim::Turn;
using sim::World;

std::int64_t acknowledged_bytes(Descriptor socket) {
  const Turn turn;
  Entry* entry = World::current().at(socket);
  if (entry == nullptr || entry->end == nullptr) return -1;
  return static_cast<std::int64_t>(entry->end->out().delivered);
}

bool half_closes(Descriptor) { return true; }

std::int64_t traffic(Descriptor socket) {
  const Turn turn;
  Entry* entry = World::current().at(socket);
  if (entry == nullptr || entry->end == nullptr) return -1;
  return static_cast<std::int64_t>(entry->end->out().delivered + entry->end->in().delivered);
}

Result receive_now(Descriptor socket, const Slice& into) {
  const Turn turn;
  Entry* entry = World::current().at(socket);
  if (entry == nullptr || entry->end == nullptr) return -ENOTSOCK;
  return World::current().receive(*entry->end, static_cast<std::uint8_t*>(into.base), into.length);
}

}  // namespace cp::driver
