#include "addon/submission.h"

#include <algorithm>
#include <cmath>

#include "stage/hand_off.h"

namespace cp::addon {
namespace {

constexpr std::size_t kSlicesPerRecord = 5;
constexpr std::uint32_t kShutWrite = 1;  // SHUT_WR, SD_SEND

/// Tokens are small: the library gives out the lowest that nobody uses. One above would have the
/// thread remember as many that there are not.
constexpr std::uint32_t kMostTokens = 1u << 24;

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

/// `more`: what lies behind the record.
bool add_slices(Request& request, const Submission& record, const SliceRecord* more) {
  if (record.slices == 0 || record.chunk == driver::kNoChunk) return true;
  if (!add_slice(request, {record.chunk, record.start}, record.bytes)) return false;
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

/// A number that JavaScript has written, which may be none: the nearest there is; 0 for NaN.
std::int64_t whole(double number) {
  constexpr double kEnd = 9223372036854775808.0;  // 2^63
  if (!(number >= -kEnd)) return std::isnan(number) ? 0 : INT64_MIN;
  return number < kEnd ? static_cast<std::int64_t>(number) : INT64_MAX;
}

/// In a file, or bytes of one: two of them can be added.
std::int64_t position(double number) {
  constexpr double kLast = 9007199254740992.0;  // 2^53, behind what JavaScript holds exactly
  return whole(std::clamp(number, 0.0, kLast));
}

/// Rounded up, so that a short interval does not become none.
std::int64_t nanoseconds(double milliseconds) {
  constexpr double kLongest = 1e12;
  return whole(std::ceil(std::clamp(milliseconds, 0.0, kLongest) * 1e6));
}

/// What a kSendHandle names, or room for what a kReceiveHandle brings. 0, or why there is none: no
/// memory, or a number that the library does not write.
std::int32_t add_parcel(Thread& thread, Request& request) {
  constexpr std::uint64_t kMostBytes = 1u << 20;
  request.details = std::make_unique<Details>();
  std::unique_ptr<Parcel>& parcel = request.details->parcel;
  if (request.kind == PacketKind::kSendHandle) {
    parcel = thread.take_parcel(static_cast<std::uint32_t>(request.offset));
    if (parcel == nullptr) return kErrorNotSupported;
  } else {
    parcel = std::make_unique<Parcel>();
    const auto size = std::clamp<std::uint64_t>(request.length, 1, kMostBytes);
    Place place;
    if (!thread.allocate(size, place) || !parcel->take(place, size)) return kErrorOutOfBuffers;
    request.memory.add(parcel->bytes, Place());
  }
  request.passed = &parcel->passed;
  return 0;
}

/// With memory of its own, which the first packet gives back, it is over with that.
bool is_multishot(const Submission& record) {
  const bool has_memory = record.slices > 0 && record.chunk != driver::kNoChunk;
  const bool asked = (record.flags & kMultishot) != 0;
  return asked && !has_memory && traits(static_cast<PacketKind>(record.kind)).multishot;
}

/// `error`: why it can't be carried out, which the library does not let a program do.
Request* read(Thread& thread, const Submission& record, const SliceRecord* more,
              std::int32_t& error) {
  Request* request = new_request();
  request->kind = static_cast<PacketKind>(record.kind);
  request->multishot = is_multishot(record);
  request->keyed = (record.flags & kKeyed) != 0;
  (request->keyed ? request->key : request->token) = record.token;
  if (!request->keyed && record.token >= kMostTokens) error = kErrorNotSupported;
  request->tag = record.tag;
  request->quiet = (record.flags & kQuiet) != 0;
  request->timeout = record.timeout;
  request->told_full = (record.flags & kFull) != 0;
  if (record.flags & kFed) request->feeder = record.feeder;
  if (request->kind == PacketKind::kTimer) {
    request->offset = nanoseconds(record.offset);
    request->length = static_cast<std::uint64_t>(nanoseconds(record.length));
    request->multishot = record.length > 0;
  } else if (request->kind == PacketKind::kSetTimes) {  // before 1970, too
    request->offset = whole(record.offset);
    request->length = static_cast<std::uint64_t>(whole(record.length));
  } else {
    request->offset = position(record.offset);
    request->length = static_cast<std::uint64_t>(position(record.length));
  }
  if (request->kind == PacketKind::kSendFile) {
    request->source = static_cast<HandleId>(record.bytes) << 32 | record.start;
  }
  if (request->kind == PacketKind::kShutdown) {
    request->flags = kShutWrite;
    request->stall = (record.flags & kStall) != 0;
  }
  if (request->kind == PacketKind::kClose) request->keeps = (record.flags & kKeepOpen) != 0;
  if (request->kind == PacketKind::kStat) {
    request->details = std::make_unique<Details>();
    request->status = &request->details->status;
  }
  if (request->kind == PacketKind::kSendHandle || request->kind == PacketKind::kReceiveHandle) {
    if (const std::int32_t none = add_parcel(thread, *request); none != 0) error = none;
  }
  if (takes_back(record)) {
    BufferPool::release({record.chunk, record.start});
    return request;
  }
  // It has room of its own.
  if (request->kind == PacketKind::kReceiveHandle) return request;
  if (!add_slices(*request, record, more)) error = kErrorBufferReleased;
  // With the final packet the memory is free then. Two slices may lie in one block: all are in use
  // before the first is released.
  if ((record.flags & kRelease) != 0) request->memory.for_each_place(BufferPool::release);
  return request;
}

/// Whether `record`, a send, is followed by a file or the end on the same connection.
bool more_follows(const Submission& record, std::span<const Submission> following) {
  if (following.empty() || static_cast<PacketKind>(record.kind) != PacketKind::kSend) return false;
  const Submission& next = following.front();
  const auto kind = static_cast<PacketKind>(next.kind);
  const bool more = kind == PacketKind::kSendFile || kind == PacketKind::kShutdown;
  return more && next.handle == record.handle;
}

/// A record and those linked to it; returns how many records they took.
std::size_t submit_chain(Thread& thread, const Submission* records, std::size_t count) {
  Request* first = nullptr;
  Request* last = nullptr;
  std::int32_t error = 0;
  std::size_t used = 0;
  for (;;) {
    const Submission record = records[used];  // a copy: what was checked is what is used
    const std::size_t taken = 1 + records_for(record.slices);
    if (used + taken > count) break;  // not written by the library: slices that are not there
    Request* request =
        read(thread, record, reinterpret_cast<const SliceRecord*>(&records[used + 1]), error);
    (last == nullptr ? first : last->chain) = request;
    last = request;
    used += taken;
    request->more_follows = more_follows(record, {&records[used], count - used});
    if (!(record.flags & kLinked) || used == count) break;
  }
  if (first == nullptr) return count;
  if (error == 0) {
    thread.submit_held(first, records[0].handle);
  } else {
    thread.refuse_held(first, records[0].handle, error);
  }
  return used;
}

/// `token`: the key it is for; `timeout`: what its bytes mean.
Packet message_of(const Submission& record) {
  Packet message;
  message.kind = static_cast<PacketKind>(record.kind);
  message.key = record.token;
  message.result = record.offset;
  if (message.kind != PacketKind::kMessage) return message;
  message.token = record.timeout;
  message.result = record.bytes;
  message.chunk = record.chunk;
  message.offset = record.start;
  return message;
}

/// A received buffer, or bytes of a message that were retained.
void release(Thread& thread, Place place) {
  if (!BufferPool::release(place)) thread.let_go(place);
}

/// One record, with those linked to it and those its slices take; returns how many.
std::size_t submit_next(Thread& thread, const Submission* records, std::size_t count,
                        stage::RecordTable* table, stage::HandOffs& hand_offs) {
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
      if (table == nullptr) break;
      // `token`: the key of a connection; `tag`: the number of the port it goes to.
      hand_offs.hand_off(thread.port(), record.handle, record.token, record.tag, *table);
      break;
    case Command::kForward:
      stage::forward(message_of(record), record.tag);
      break;
    case Command::kRelease:
      release(thread, {record.chunk, record.start});
      break;
  }
  return 1;
}

}  // namespace

void submit_all(Thread& thread, const Submission* records, std::size_t count,
                stage::RecordTable* table) {
  stage::HandOffs hand_offs;
  for (std::size_t i = 0; i < count;) {
    i += submit_next(thread, records + i, count - i, table, hand_offs);
  }
}

bool may_begin_early(const Submission& record) {
  const Command command = traits(static_cast<PacketKind>(record.kind)).command;
  return command != Command::kHandOff && command != Command::kForward;
}

std::size_t submit_early(Thread& thread, const Submission* records, std::size_t count) {
  stage::HandOffs none;
  std::size_t i = 0;
  while (i < count && may_begin_early(records[i])) {
    i += submit_next(thread, records + i, count - i, nullptr, none);
  }
  return i;
}

}  // namespace cp::addon
