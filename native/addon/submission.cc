#include "addon/submission.h"

#include <algorithm>
#include <cmath>

namespace cp::addon {
namespace {

constexpr std::size_t kSlicesPerRecord = 5;
constexpr std::uint32_t kShutWrite = 1;  // SHUT_WR, SD_SEND

std::size_t records_for(std::uint16_t slices) {
  return slices <= 1 ? 0 : (slices - 1 + kSlicesPerRecord - 1) / kSlicesPerRecord;
}

/// The operation keeps the memory until its final packet.
bool add_slice(Request& request, Place place, std::uint32_t bytes) {
  std::uint8_t* base = BufferPool::use(place, bytes);
  if (base == nullptr) return false;
  request.memory.add({base, bytes}, place);
  request.total += bytes;
  return true;
}

bool add_slices(Request& request, const Submission& record) {
  if (record.slices == 0 || record.chunk == driver::kNoChunk) return true;
  if (!add_slice(request, {record.chunk, record.start}, record.bytes)) return false;
  const auto* more = reinterpret_cast<const SliceRecord*>(&record + 1);
  for (std::size_t i = 0; i + 1 < record.slices; ++i) {
    const auto& slice = more[i / kSlicesPerRecord].slices[i % kSlicesPerRecord];
    if (!add_slice(request, {slice.chunk, slice.start}, slice.bytes)) return false;
  }
  if (record.slices == 1) request.chunk = record.chunk;
  return true;
}

/// A receive has no memory of its own to give back: with kRelease it brings what the one before it
/// lent. That spares loops over received bytes a call for each.
bool takes_back(const Submission& record) {
  const auto kind = static_cast<PacketKind>(record.kind);
  return kind == PacketKind::kReceive && (record.flags & kRelease) != 0;
}

/// Rounded up, so that a short interval does not become none.
std::int64_t nanoseconds(double milliseconds) {
  constexpr double kLongest = 1e12;
  return static_cast<std::int64_t>(std::ceil(std::clamp(milliseconds, 0.0, kLongest) * 1e6));
}

/// Not usable: the block was released before, which the library does not let a program do.
Request* read(const Submission& record, bool& usable) {
  Request* request = new_request();
  request->kind = static_cast<PacketKind>(record.kind);
  request->multishot = (record.flags & kMultishot) != 0;
  request->keyed = (record.flags & kKeyed) != 0;
  (request->keyed ? request->key : request->token) = record.token;
  request->tag = record.tag;
  request->quiet = (record.flags & kQuiet) != 0;
  request->timeout = record.timeout;
  request->told_full = (record.flags & kFull) != 0;
  request->stall = (record.flags & kStall) != 0;
  if (record.flags & kFed) request->feeder = record.feeder;
  if (request->kind == PacketKind::kTimer) {
    request->offset = nanoseconds(record.offset);
    request->length = static_cast<std::uint64_t>(nanoseconds(record.length));
    request->multishot = record.length > 0;
  } else {
    request->offset = static_cast<std::int64_t>(record.offset);
    const bool dated = request->kind == PacketKind::kSetTimes;  // before 1970, too
    const double length = dated ? record.length : std::max(0.0, record.length);
    request->length = static_cast<std::uint64_t>(static_cast<std::int64_t>(length));
  }
  if (request->kind == PacketKind::kSendFile) {
    request->source = static_cast<HandleId>(record.bytes) << 32 | record.start;
  }
  if (request->kind == PacketKind::kShutdown) request->flags = kShutWrite;
  if (request->kind == PacketKind::kStat) {
    request->details = std::make_unique<Details>();
    request->status = &request->details->status;
  }
  if (takes_back(record)) {
    BufferPool::release({record.chunk, record.start});
    return request;
  }
  usable = add_slices(*request, record) && usable;
  // With the final packet the memory is free then. Two slices may lie in one block: all are in use
  // before the first is released.
  if ((record.flags & kRelease) != 0) request->memory.for_each_place(BufferPool::release);
  return request;
}

/// A record and those linked to it; returns how many records they took.
std::size_t submit_chain(Thread& thread, const Submission* records, std::size_t count) {
  Request* first = nullptr;
  Request* last = nullptr;
  bool usable = true;
  std::size_t used = 0;
  for (;;) {
    const Submission& record = records[used];
    const std::size_t taken = 1 + records_for(record.slices);
    if (used + taken > count) break;  // not written by the library: slices that are not there
    Request* request = read(record, usable);
    (last == nullptr ? first : last->chain) = request;
    last = request;
    used += taken;
    if (!(record.flags & kLinked) || used == count) break;
  }
  if (first == nullptr) return count;
  if (usable) {
    thread.submit_held(first, records[0].handle);
  } else {
    thread.refuse_held(first, records[0].handle, kErrorBufferReleased);
  }
  return used;
}

/// The error tells the packet from the notice of an arrival, which may come when the connection has
/// been begun already, for another packet, and is about to go on.
void tell_refused(Port& here, const Submission& record, std::int32_t error) {
  Packet notice;
  notice.kind = PacketKind::kHandOff;
  notice.key = record.token;
  notice.handle = record.handle;
  notice.error = error;
  here.dispatcher().push(notice, nullptr);
}

/// The port to which connections were handed that no thread was told of: one wake-up is enough for
/// all that one call hands over, and a thread that is woken by the first would take the processor
/// from the one that hands over the rest.
class Arrivals {
 public:
  ~Arrivals() { tell(); }
  Port* at(std::uint32_t number) {
    if (port_ && port_->id() == number) return &*port_;
    tell();
    port_ = Port::find(number);
    return port_ ? &*port_ : nullptr;
  }

 private:
  void tell() const {
    if (port_) port_->tell_of_arrivals();
  }
  PortHold port_;
};

/// `token`: the key of a connection; `tag`: the number of the port it goes to. One that is gone, or
/// was handed on before, is left alone. One that can't go is told so where it is.
void hand_off(Thread& thread, const Submission& record, stage::RecordTable* table,
              Arrivals& arrivals) {
  constexpr auto kLater = Dispatcher::Tell::kLater;
  Port* target = arrivals.at(record.tag);
  stage::RecordHeader* header = table == nullptr ? nullptr : table->header(record.token);
  if (target == nullptr || header == nullptr) return;
  Port& here = thread.port();
  const std::int32_t error =
      record.handle == 0
          ? here.hand_off_key(*target, record.token, header->port, kLater)
          : here.hand_off(record.handle, *target, record.token, &header->port, kLater);
  if (error != 0 && header->port == here.id()) tell_refused(here, record, error);
}

/// A message whose connection has gone on to another port follows it.
void forward(const Submission& record) {
  if (const PortHold target = Port::find(record.tag))
    target->post(record.token, record.offset, false);
}

/// One record, with those linked to it and those its slices take; returns how many.
std::size_t submit_next(Thread& thread, const Submission* records, std::size_t count,
                        stage::RecordTable* table, Arrivals& arrivals) {
  const Submission& record = records[0];
  switch (traits(static_cast<PacketKind>(record.kind)).command) {
    case Command::kNone:
      return submit_chain(thread, records, count);
    case Command::kCancelToken:
      thread.cancel_token_held(record.token);
      break;
    case Command::kCancelHandle:
      thread.cancel_handle_held(record.handle);
      break;
    case Command::kHandOff:
      hand_off(thread, record, table, arrivals);
      break;
    case Command::kForward:
      forward(record);
      break;
    case Command::kRelease:
      BufferPool::release({record.chunk, record.start});
      break;
  }
  return 1;
}

}  // namespace

void submit_all(Thread& thread, const Submission* records, std::size_t count,
                stage::RecordTable* table) {
  Arrivals arrivals;
  for (std::size_t i = 0; i < count;) {
    i += submit_next(thread, records + i, count - i, table, arrivals);
  }
}

bool may_begin_early(const Submission& record) {
  const Command command = traits(static_cast<PacketKind>(record.kind)).command;
  return command != Command::kHandOff && command != Command::kForward;
}

std::size_t submit_early(Thread& thread, const Submission* records, std::size_t count) {
  Arrivals none;
  std::size_t i = 0;
  while (i < count && may_begin_early(records[i])) {
    i += submit_next(thread, records + i, count - i, nullptr, none);
  }
  return i;
}

}  // namespace cp::addon
