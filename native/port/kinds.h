// Every kind of operation and of packet, in one table: what the port, the addon and the stages have
// to know of it. lib/native/kinds.ts has the same for JavaScript (test/sources.test.ts holds both
// equal); what a kind means to the kernel stands in each driver's operations, by its opcode.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "driver/operation.h"

namespace cp {

/// What a submission asks for and what a packet answers. The numbers are part of the boundary.
enum class PacketKind : std::uint8_t {
  kNone = 0,
  kOpen = 1,
  kClose = 2,
  kRead = 3,
  kWrite = 4,
  kSync = 5,
  kDataSync = 6,
  kTruncate = 7,
  kAllocate = 8,
  kStat = 9,
  kAccept = 10,
  kConnect = 11,
  kReceive = 12,
  kSend = 13,
  kShutdown = 14,
  kTimer = 15,
  kPosted = 16,
  kCancelToken = 17,
  kCancelHandle = 18,
  kHandOff = 19,
  kAbandoned = 20,
  kRoom = 21,
  kRelease = 22,
  kSendFile = 23,
  kDrain = 24,
  kSetMode = 25,
  kSetOwner = 26,
  kSetTimes = 27,
  kSendHandle = 28,
  kReceiveHandle = 29,
  kNotice = 30,
  kMessage = 31,
};

enum class HandleKind : std::uint8_t { kFile, kListener, kSocket, kTimer };

/// How an operation begins.
enum class Begins : std::uint8_t {
  kNever,       ///< no operation: a packet that tells of something, or a command
  kOnHandle,    ///< submitted for a handle
  kWithHandle,  ///< by the call that makes its handle
};

/// Which queue of its handle an operation waits in (rule O7).
enum class Flow : std::uint8_t {
  kNone,  ///< begins at once
  kIn,
  kOut,
  kInOfStream,  ///< where the descriptor has no positions; else it begins at once
  kOutOfStream,
};

/// What a record of the submission array asks of the port itself.
enum class Command : std::uint8_t {
  kNone,  ///< it is an operation
  kCancelToken,
  kCancelHandle,
  kHandOff,
  kForward,  ///< a message follows its connection to another port
  kRelease,
};

struct KindTraits {
  PacketKind kind = PacketKind::kNone;
  Begins begins = Begins::kNever;
  /// The kind of its handle; empty: any, or none.
  std::optional<HandleKind> handle = {};
  /// Empty: the port does it without a driver.
  std::optional<driver::Opcode> code = {};
  Flow flow = Flow::kNone;
  /// Goes on by itself until all bytes are moved, however few each call takes (rule O7).
  bool continues = false;
  /// Its bytes count among what the handle has to send (rule M4).
  bool outgoing = false;
  /// May bring many packets, each with a buffer or a handle of its own.
  bool multishot = false;
  Command command = Command::kNone;
};

inline constexpr auto kKinds = std::to_array<KindTraits>({
    {.kind = PacketKind::kNone},
    {.kind = PacketKind::kOpen,
     .begins = Begins::kWithHandle,
     .handle = HandleKind::kFile,
     .code = driver::Opcode::kOpen},
    {.kind = PacketKind::kClose, .begins = Begins::kOnHandle, .code = driver::Opcode::kClose},
    {.kind = PacketKind::kRead,
     .begins = Begins::kOnHandle,
     .handle = HandleKind::kFile,
     .code = driver::Opcode::kRead,
     .flow = Flow::kInOfStream},
    {.kind = PacketKind::kWrite,
     .begins = Begins::kOnHandle,
     .handle = HandleKind::kFile,
     .code = driver::Opcode::kWrite,
     .flow = Flow::kOutOfStream,
     .continues = true},
    {.kind = PacketKind::kSync,
     .begins = Begins::kOnHandle,
     .handle = HandleKind::kFile,
     .code = driver::Opcode::kSync},
    {.kind = PacketKind::kDataSync,
     .begins = Begins::kOnHandle,
     .handle = HandleKind::kFile,
     .code = driver::Opcode::kDataSync},
    {.kind = PacketKind::kTruncate,
     .begins = Begins::kOnHandle,
     .handle = HandleKind::kFile,
     .code = driver::Opcode::kTruncate},
    {.kind = PacketKind::kAllocate,
     .begins = Begins::kOnHandle,
     .handle = HandleKind::kFile,
     .code = driver::Opcode::kAllocate},
    {.kind = PacketKind::kStat,
     .begins = Begins::kOnHandle,
     .handle = HandleKind::kFile,
     .code = driver::Opcode::kStat},
    {.kind = PacketKind::kAccept,
     .begins = Begins::kOnHandle,
     .handle = HandleKind::kListener,
     .code = driver::Opcode::kAccept,
     .flow = Flow::kIn,
     .multishot = true},
    {.kind = PacketKind::kConnect,
     .begins = Begins::kWithHandle,
     .handle = HandleKind::kSocket,
     .code = driver::Opcode::kConnect},
    {.kind = PacketKind::kReceive,
     .begins = Begins::kOnHandle,
     .handle = HandleKind::kSocket,
     .code = driver::Opcode::kReceive,
     .flow = Flow::kIn,
     .multishot = true},
    {.kind = PacketKind::kSend,
     .begins = Begins::kOnHandle,
     .handle = HandleKind::kSocket,
     .code = driver::Opcode::kSend,
     .flow = Flow::kOut,
     .continues = true,
     .outgoing = true},
    {.kind = PacketKind::kShutdown,
     .begins = Begins::kOnHandle,
     .handle = HandleKind::kSocket,
     .code = driver::Opcode::kShutdown,
     .flow = Flow::kOut},
    {.kind = PacketKind::kTimer, .begins = Begins::kOnHandle, .handle = HandleKind::kTimer},
    {.kind = PacketKind::kPosted, .command = Command::kForward},
    {.kind = PacketKind::kCancelToken, .command = Command::kCancelToken},
    {.kind = PacketKind::kCancelHandle, .command = Command::kCancelHandle},
    {.kind = PacketKind::kHandOff, .command = Command::kHandOff},
    {.kind = PacketKind::kAbandoned},
    {.kind = PacketKind::kRoom},
    {.kind = PacketKind::kRelease, .command = Command::kRelease},
    {.kind = PacketKind::kSendFile,
     .begins = Begins::kOnHandle,
     .handle = HandleKind::kSocket,
     .code = driver::Opcode::kSendFile,
     .flow = Flow::kOut,
     .continues = true,
     .outgoing = true},
    {.kind = PacketKind::kDrain, .handle = HandleKind::kSocket},
    {.kind = PacketKind::kSetMode,
     .begins = Begins::kOnHandle,
     .handle = HandleKind::kFile,
     .code = driver::Opcode::kSetMode},
    {.kind = PacketKind::kSetOwner,
     .begins = Begins::kOnHandle,
     .handle = HandleKind::kFile,
     .code = driver::Opcode::kSetOwner},
    {.kind = PacketKind::kSetTimes,
     .begins = Begins::kOnHandle,
     .handle = HandleKind::kFile,
     .code = driver::Opcode::kSetTimes},
    {.kind = PacketKind::kSendHandle,
     .begins = Begins::kOnHandle,
     .handle = HandleKind::kSocket,
     .code = driver::Opcode::kSendHandles,
     .flow = Flow::kOut,
     .continues = true,
     .outgoing = true},
    {.kind = PacketKind::kReceiveHandle,
     .begins = Begins::kOnHandle,
     .handle = HandleKind::kSocket,
     .code = driver::Opcode::kReceiveHandles,
     .flow = Flow::kIn},
    {.kind = PacketKind::kNotice},
    {.kind = PacketKind::kMessage, .command = Command::kForward},
});

consteval bool in_order() {
  for (std::size_t i = 0; i < kKinds.size(); ++i) {
    if (static_cast<std::size_t>(kKinds[i].kind) != i) return false;
  }
  return true;
}
static_assert(in_order(), "one row for each kind, in the order of their numbers");

/// Of what is no kind, which a program can have written: those of kNone.
constexpr const KindTraits& traits(PacketKind kind) {
  const auto row = static_cast<std::size_t>(kind);
  return kKinds[row < kKinds.size() ? row : 0];
}

}  // namespace cp
