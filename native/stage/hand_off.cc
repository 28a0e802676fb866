#include "stage/hand_off.h"

namespace cp::stage {
namespace {

/// The error tells the packet from the notice of an arrival, which may come when the connection has
/// been begun already, for another packet, and is about to go on.
void tell_refused(Port& here, HandleId handle, std::uint32_t key, std::int32_t error) {
  Packet notice;
  notice.kind = PacketKind::kHandOff;
  notice.key = key;
  notice.handle = handle;
  notice.error = error;
  here.dispatcher().push(notice, nullptr);
}

}  // namespace

void HandOffs::hand_off(Port& here, HandleId handle, std::uint32_t key, std::uint32_t target,
                        const RecordTable& records) {
  constexpr auto kLater = Dispatcher::Tell::kLater;
  Port* next = find(target);
  RecordHeader* header = records.header(key);
  if (next == nullptr || header == nullptr) return;
  const std::int32_t error = handle == 0 ? here.hand_off_key(*next, key, header->port, kLater)
                                         : here.hand_off(handle, *next, key, &header->port, kLater);
  if (error != 0 && header->port == here.id()) tell_refused(here, handle, key, error);
}

Port* HandOffs::find(std::uint32_t number) {
  if (port_ && port_->id() == number) return &*port_;
  tell();
  port_ = Port::find(number);
  return port_ ? &*port_ : nullptr;
}

void HandOffs::tell() const {
  if (port_) port_->tell_of_arrivals();
}

void forward(const Packet& message, std::uint32_t target) {
  const PortHold port = Port::find(target);
  if (!port) return;
  const Place place{message.chunk, message.offset};
  if (message.shares()) {
    // What the program says of it is looked at once more.
    if (!BufferPool::hold(place, static_cast<std::uint64_t>(message.result))) return;
  }
  if (!port->pass_on(message) && message.shares()) BufferPool::let_go(place);
}

}  // namespace cp::stage
