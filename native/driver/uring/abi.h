// The kernel's io_uring interface, as far as it is used here. Our own copy: a source install must
// build where the system's headers are older than the kernel. io_uring_setup(2), io_uring_enter(2),
// io_uring_register(2).
#pragma once

#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>

namespace cp::driver::uring {

struct SqOffsets {
  std::uint32_t head, tail, ring_mask, ring_entries, flags, dropped, array, reserved;
  std::uint64_t user_address;
};
struct CqOffsets {
  std::uint32_t head, tail, ring_mask, ring_entries, overflow, cqes, flags, reserved;
  std::uint64_t user_address;
};
struct Params {
  std::uint32_t sq_entries, cq_entries, flags, sq_thread_cpu, sq_thread_idle, features, wq_fd;
  std::uint32_t reserved[3];
  SqOffsets sq;
  CqOffsets cq;
};
static_assert(sizeof(Params) == 120 && offsetof(Params, sq) == 40 && offsetof(Params, cq) == 80);

struct Sqe {
  std::uint8_t opcode, flags;
  std::uint16_t ioprio;
  std::int32_t fd;
  std::uint64_t offset;  ///< also: addr2
  std::uint64_t address;
  std::uint32_t length;
  std::uint32_t op_flags;  ///< rw_flags, msg_flags, accept_flags, timeout_flags, …
  std::uint64_t user_data;
  std::uint16_t buffer;  ///< index of a registered buffer, or group of provided ones
  std::uint16_t personality;
  std::int32_t splice_fd;
  std::uint64_t reserved[2];
};
static_assert(sizeof(Sqe) == 64 && offsetof(Sqe, user_data) == 32 && offsetof(Sqe, buffer) == 40);

/// As the kernel wants it in its structures.
inline std::uint64_t address_of(const void* pointer) {
  return reinterpret_cast<std::uint64_t>(pointer);
}

struct Cqe {
  std::uint64_t user_data;
  std::int32_t result;
  std::uint32_t flags;
};
static_assert(sizeof(Cqe) == 16);

struct Timespec {
  std::int64_t seconds, nanoseconds;
};

struct GetEventsArgument {
  std::uint64_t signal_mask;
  std::uint32_t signal_mask_size, min_wait_usec;
  std::uint64_t timespec;
};
static_assert(sizeof(GetEventsArgument) == 24);

/// An entry of a ring of provided buffers. The ring's tail lies in `reserved` of the first.
struct BufferEntry {
  std::uint64_t address;
  std::uint32_t length;
  std::uint16_t id, reserved;
};
static_assert(sizeof(BufferEntry) == 16 && offsetof(BufferEntry, reserved) == 14);

struct BufferRingRegistration {
  std::uint64_t ring_address;
  std::uint32_t ring_entries;
  std::uint16_t group, flags;
  std::uint64_t reserved[3];
};
static_assert(sizeof(BufferRingRegistration) == 40);

struct ResourceRegistration {
  std::uint32_t count, flags;
  std::uint64_t reserved, data, tags;
};
static_assert(sizeof(ResourceRegistration) == 32);

struct ResourceUpdate {
  std::uint32_t offset, reserved;
  std::uint64_t data;
};
struct ResourceUpdate2 {
  std::uint32_t offset, reserved;
  std::uint64_t data, tags;
  std::uint32_t count, reserved2;
};
static_assert(sizeof(ResourceUpdate) == 16 && sizeof(ResourceUpdate2) == 32);

struct ProbeOperation {
  std::uint8_t opcode, reserved;
  std::uint16_t flags;
  std::uint32_t reserved2;
};
struct Probe {
  std::uint8_t last_opcode, count;
  std::uint16_t reserved;
  std::uint32_t reserved2[3];
  ProbeOperation operations[256];
};
static_assert(offsetof(Probe, operations) == 16 && sizeof(ProbeOperation) == 8);

enum Setup : std::uint32_t {
  kSetupCqSize = 1u << 3,
  kSetupClamp = 1u << 4,
  kSetupSubmitAll = 1u << 7,      // 5.18
  kSetupCoopTaskrun = 1u << 8,    // 5.19
  kSetupTaskrunFlag = 1u << 9,    // 5.19
  kSetupSingleIssuer = 1u << 12,  // 6.0
  kSetupDeferTaskrun = 1u << 13,  // 6.1
  kSetupNoSqArray = 1u << 16,     // 6.6
};
enum Feature : std::uint32_t {
  kFeatureSingleMmap = 1u << 0,
  kFeatureNoDrop = 1u << 1,
  kFeatureExtArg = 1u << 8,
  kFeatureNoIowait = 1u << 17,  // 6.15
};
enum Enter : std::uint32_t {
  kEnterGetEvents = 1u << 0,
  kEnterExtArg = 1u << 3,
  kEnterRegisteredRing = 1u << 4,  // 5.18
  kEnterNoIowait = 1u << 7,
};
enum SqFlag : std::uint32_t { kSqCqOverflow = 1u << 1, kSqTaskrun = 1u << 2 };
enum CqFlag : std::uint32_t { kCqEventfdDisabled = 1u << 0 };
enum SqeFlag : std::uint8_t { kSqeBufferSelect = 1u << 5 };
enum CqeFlag : std::uint32_t {
  kCqeBuffer = 1u << 0,
  kCqeMore = 1u << 1,
  kCqeSockNonEmpty = 1u << 2
};
inline constexpr unsigned kCqeBufferShift = 16;

enum Register : std::uint32_t {
  kRegisterEventfd = 4,
  kRegisterProbe = 8,
  kRegisterBuffers2 = 15,
  kRegisterBuffersUpdate = 16,
  kRegisterIowqMaxWorkers = 19,
  kRegisterRingFds = 20,
  kUnregisterRingFds = 21,
  kRegisterBufferRing = 22,
};
inline constexpr std::uint32_t kResourceSparse = 1;
inline constexpr std::uint16_t kProbeSupported = 1;

enum Op : std::uint8_t {
  kOpNop = 0,
  kOpReadv = 1,
  kOpWritev = 2,
  kOpFsync = 3,
  kOpReadFixed = 4,
  kOpWriteFixed = 5,
  kOpPollAdd = 6,
  kOpSendmsg = 9,
  kOpRecvmsg = 10,
  kOpTimeout = 11,
  kOpTimeoutRemove = 12,
  kOpAccept = 13,
  kOpAsyncCancel = 14,
  kOpConnect = 16,
  kOpFallocate = 17,
  kOpOpenat = 18,
  kOpClose = 19,
  kOpRead = 22,
  kOpWrite = 23,
  kOpSend = 26,
  kOpRecv = 27,
  kOpSendZc = 47,  // not used; tells 6.0, which brought the multishot receive
};
inline constexpr std::uint32_t kFsyncDatasync = 1;
inline constexpr std::uint32_t kPollMultishot = 1;    // in `length`
inline constexpr std::uint16_t kAcceptMultishot = 1;  // in `ioprio`, 5.19
inline constexpr std::uint16_t kReceivePollFirst = 1;
inline constexpr std::uint16_t kReceiveMultishot = 2;
inline constexpr std::uint32_t kTimeoutAbsolute = 1;
inline constexpr std::uint32_t kTimeoutUpdate = 2;

inline int setup(std::uint32_t entries, Params* params) {
  return static_cast<int>(syscall(SYS_io_uring_setup, entries, params));
}
inline int enter(int fd, std::uint32_t submit, std::uint32_t wait, std::uint32_t flags,
                 const void* argument, std::size_t size) {
  return static_cast<int>(syscall(SYS_io_uring_enter, fd, submit, wait, flags, argument, size));
}
inline int register_(int fd, std::uint32_t opcode, void* argument, std::uint32_t count) {
  return static_cast<int>(syscall(SYS_io_uring_register, fd, opcode, argument, count));
}

}  // namespace cp::driver::uring
