// A packet: one completion or posted message, waiting in the port or taken from it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "port/kinds.h"

namespace cp {

class Consumer;

/// Names a handle, in the whole process and for ever; 0 names none. A whole number that JavaScript
/// holds exactly: see HandleTable.
using HandleId = std::uint64_t;

enum PacketFlag : std::uint8_t {
  kPacketMore = 1,     ///< more packets of this operation follow
  kPacketAwaited = 2,  ///< for `target` alone: the answer to an operation it awaits
};

/// Errors of the library itself, where a negative errno stands otherwise.
enum LibraryError : std::int32_t {
  kErrorHandleClosed = -20001,
  kErrorPortClosed = -20002,
  kErrorQueueFull = -20003,
  kErrorAlreadyAssociated = -20004,
  kErrorNotSupported = -20005,
  kErrorOutOfBuffers = -20006,
  kErrorOperationsPending = -20007,
  kErrorNotOverlapped = -20008,  ///< driver::kNotOverlapped
  kErrorBufferReleased = -20009,
  kErrorTimedOut =
      -20010,  ///< the time given with the operation is over; the system says ETIMEDOUT
};

struct Packet {
  PacketKind kind = PacketKind::kNone;
  std::uint8_t flags = 0;
  std::uint32_t key = 0;
  HandleId handle = 0;
  std::int32_t error = 0;
  std::uint32_t token = 0;  ///< of a kMessage: what its bytes mean, known to who posts and takes
  double result = 0;        ///< of a kMessage: how many bytes
  /// Received bytes, or a message's: where they lie in the pool; kNoChunk when there are none. The
  /// packet of a message has a hold of their block (BufferPool::hold), that of a receive owns it.
  std::uint32_t chunk = 0xffffffff;
  std::uint32_t offset = 0;
  HandleId accepted = 0;
  std::uint32_t accepted_key = 0;
  std::uint32_t tag = 0;

  /// When it was queued: nanoseconds on the monotonic clock; given by the dispatcher, no two of one
  /// thread alike.
  std::int64_t queued_at = 0;
  /// The only consumer that may take it; null: any.
  Consumer* target = nullptr;

  bool awaited() const { return (flags & kPacketAwaited) != 0; }
  /// Whether it counts for the bound of messages (rule Q2).
  bool posted() const { return kind == PacketKind::kPosted || kind == PacketKind::kMessage; }
  /// Whether it holds memory that others may hold, too.
  bool shares() const { return kind == PacketKind::kMessage && chunk != 0xffffffff; }
};

/// The packet as JavaScript sees it, in the completion array.
struct PacketSlot {
  std::uint32_t state;  ///< SlotState; accessed atomically
  std::uint8_t kind;
  std::uint8_t flags;
  std::uint16_t reserved0;
  std::uint32_t key;
  std::uint32_t accepted_key;
  std::int32_t error;
  std::uint32_t token;
  double result;
  std::uint32_t chunk;
  std::uint32_t offset;
  HandleId accepted;
  std::uint32_t tag;
  std::uint32_t age;  ///< microseconds it had waited when it was taken
  HandleId handle;
};
static_assert(sizeof(PacketSlot) == 64);
static_assert(offsetof(PacketSlot, kind) == 4 && offsetof(PacketSlot, flags) == 5);
static_assert(offsetof(PacketSlot, key) == 8 && offsetof(PacketSlot, accepted_key) == 12);
static_assert(offsetof(PacketSlot, error) == 16 && offsetof(PacketSlot, token) == 20);
static_assert(offsetof(PacketSlot, result) == 24 && offsetof(PacketSlot, chunk) == 32);
static_assert(offsetof(PacketSlot, offset) == 36 && offsetof(PacketSlot, accepted) == 40);
static_assert(offsetof(PacketSlot, tag) == 48 && offsetof(PacketSlot, age) == 52);
static_assert(offsetof(PacketSlot, handle) == 56);

/// Life of a slot. The owner moves Ready → Claimed → Done; a thief moves Ready → Stolen. Both by
/// compare-and-swap from Ready, so that exactly one of them gets the packet (rule D7). Claimed →
/// Kept instead of Done: the packet has been looked at, but its key stays with the owner beyond the
/// batch, until `Dispatcher::release_key` (rule D8 for a handler that awaits something).
enum SlotState : std::uint32_t {
  kSlotFree = 0,
  kSlotReady = 1,
  kSlotClaimed = 2,
  kSlotDone = 3,
  kSlotStolen = 4,
  kSlotKept = 5,
};

}  // namespace cp
