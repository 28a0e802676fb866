// One request to the kernel, as every driver sees it: what to do, on which descriptor, with
// which memory. The port owns operations and their memory; a lane borrows them from `submit`
// until it reports the final completion (contract O2).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace cp::driver {

/// A file descriptor on Linux, a HANDLE or SOCKET on Windows.
using Descriptor = std::intptr_t;
inline constexpr Descriptor kNoDescriptor = -1;

/// What the kernel is asked to do. Beside each: io_uring | epoll | IOCP.
enum class Opcode : std::uint8_t {
  kOpen,         ///< OPENAT | pool: open | CreateFileW with FILE_FLAG_OVERLAPPED
  kClose,        ///< CLOSE | close, files on the pool | CloseHandle, closesocket
  kRead,         ///< READ, READV, READ_FIXED | pool: preadv; readv when ready | ReadFile
  kWrite,        ///< WRITE, WRITEV, WRITE_FIXED | pool: pwritev; writev when ready | pool:
                 ///< WriteFile; without the pool if it is unbuffered and inside of the file
  kSync,         ///< FSYNC | pool: fsync | pool: FlushFileBuffers
  kDataSync,     ///< FSYNC with DATASYNC | pool: fdatasync | pool: FlushFileBuffers
  kTruncate,     ///< pool: ftruncate | pool: ftruncate | pool: SetFileInformationByHandle
  kAllocate,     ///< FALLOCATE | pool: fallocate | pool: SetFileInformationByHandle
  kSetMode,      ///< pool: fchmod (all three; io_uring has none) | SetFileInformationByHandle
  kSetOwner,     ///< pool: fchown | pool: fchown | pool: nothing, Windows has no such owner
  kSetTimes,     ///< pool: futimens | pool: futimens | pool: SetFileInformationByHandle
  kStat,         ///< STATX | pool: fstat | pool: GetFileInformationByHandle
  kAccept,       ///< ACCEPT, multishot | accept4 when ready | AcceptEx
  kConnect,      ///< socket, CONNECT | socket, connect, wait for writable | ConnectEx
  kReceive,      ///< RECV with a provided buffer, multishot | recv when ready | WSARecv
  kSend,         ///< SEND, SENDMSG | sendmsg, wait for writable | WSASend
  kSendFile,     ///< sendfile when ready, what is not cached on the pool (both) | ReadFile, WSASend
                 // Of a named pipe, IOCP's kAccept to kSendFile are ConnectNamedPipe, CreateFileW
                 // on the pool, ReadFile, WriteFile; its kShutdown is a mark (iocp/pipe.h).
  kSendHandles,  ///< SENDMSG with SCM_RIGHTS | sendmsg | ENOTSUP
  kReceiveHandles,  ///< RECVMSG into the operation's memory | recvmsg when ready | ENOTSUP
  kShutdown,        ///< shutdown | shutdown | shutdown (none of them blocks)
};

/// Layout-compatible with `struct iovec` (asserted by the Linux drivers); WSABUF is filled from it.
struct Slice {
  void* base = nullptr;
  std::size_t length = 0;
};

/// Storage for a sockaddr_in, sockaddr_in6 or sockaddr_un, without the system's headers.
struct alignas(8) SocketAddress {
  std::uint8_t bytes[112] = {};
  std::uint32_t length = 0;
};

/// The numbers are part of the boundary (lib/native/layout.ts). Beside each: Linux | Windows.
enum class SocketOption : std::uint8_t {
  kNoDelay = 0,  ///< TCP_NODELAY: 0 or 1
  /// SO_KEEPALIVE: 0 off, else on with this many seconds before the first probe, a second between
  /// the others and ten of them: TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT | SIO_KEEPALIVE_VALS
  kKeepAlive = 1,
  kReceiveBuffer = 2,      ///< SO_RCVBUF, bytes; Linux makes it twice as many, and says so
  kSendBuffer = 3,         ///< SO_SNDBUF, likewise
  kLinger = 4,             ///< SO_LINGER: 1: closing resets the connection; 0: it does not
  kKeepAliveInterval = 5,  ///< TCP_KEEPINTVL, seconds; after kKeepAlive
  kKeepAliveCount = 6,     ///< TCP_KEEPCNT; after kKeepAlive
  kUserTimeout = 7,        ///< TCP_USER_TIMEOUT, milliseconds | TCP_MAXRT, whole seconds
  kTypeOfService = 8,      ///< IP_TOS, IPV6_TCLASS | ENOTSUP
  kDeferAccept = 9,        ///< TCP_DEFER_ACCEPT, seconds | ENOTSUP
  kFastOpen = 10,          ///< TCP_FASTOPEN of a listener: requests in its queue | 0 or more
  kFastOpenConnect = 11,   ///< TCP_FASTOPEN_CONNECT | ENOTSUP
  /// Who may connect to a path, PipeAccess: not here, the file's mode says it | access list of the
  /// pipe, of a listener alone
  kPipeAccess = 12,
};

/// Bits of kPipeAccess: what everyone may do.
enum PipeAccess : int { kReadableAll = 1, kWritableAll = 2 };

struct SocketSetting {
  SocketOption option;
  int value;
};

/// Where a socket is to connect to, and how.
struct ConnectTarget {
  SocketAddress peer;
  SocketAddress local;    ///< of length 0: the system's choice
  bool messages = false;  ///< SOCK_SEQPACKET
  /// The file that `peer` names, where it names one; of a named pipe, which has no address, its
  /// name.
  std::string path;
  /// Set, in this order, before it connects: a buffer's size is told to the peer then.
  std::vector<SocketSetting> settings;
};

/// What kind of thing a descriptor opened by path turned out to be.
enum class FileKind : std::uint8_t {
  kRegular,  ///< has positions
  kDirectory,
  kStream,  ///< FIFO, terminal, socket: no positions; the driver may wait for readiness
  kDevice,  ///< character or block device: has positions (which /dev/zero ignores)
};

/// Result of kStat. Times in nanoseconds since the epoch.
struct FileStatus {
  std::uint64_t size = 0, blocks = 0, inode = 0, device = 0, links = 0;
  std::uint32_t mode = 0, uid = 0, gid = 0, block_size = 0;
  std::int64_t accessed = 0, modified = 0, changed = 0, created = 0;
};

/// Flags of kOpen, the same numbers on every driver; each driver maps them.
enum OpenFlag : std::uint32_t {
  kOpenRead = 1,
  kOpenWrite = 2,
  kOpenAppend = 4,
  kOpenCreate = 8,
  kOpenTruncate = 16,
  kOpenExclusive = 32,
  kOpenDirect = 64,
  kOpenSync = 128,
};

/// Room a lane needs for some operations, such as a message header in the kernel's format: made
/// when first asked for, since every idle connection holds an operation. It stays where it is while
/// the kernel looks at it; assigning another operation leaves it alone, and a copy gets its own.
class Scratch {
 public:
  static constexpr std::size_t kSize = 64;

  Scratch() = default;
  Scratch(const Scratch&) {}
  Scratch& operator=(const Scratch&) { return *this; }

  void* make() {
    if (!bytes_) bytes_ = std::make_unique<Bytes>();
    return bytes_->data;
  }
  /// After `make`.
  void* get() const { return bytes_->data; }

 private:
  struct alignas(16) Bytes {
    std::uint8_t data[kSize];
  };
  std::unique_ptr<Bytes> bytes_;
};

class PassedDescriptors;
struct SourceFile;

/// A transfer of as many bytes takes longer by its bytes than by its call.
inline constexpr std::size_t kLongTransfer = 16 * 1024;
/// As many long receives in a row that left more: the peer sends faster than is received.
inline constexpr std::uint8_t kGreedy = 8;

/// Long receives in a row that left more, after one of `bytes`.
constexpr std::uint8_t long_in_a_row_after(std::uint8_t before, std::size_t bytes, bool left_more) {
  if (bytes < kLongTransfer || !left_more) return 0;
  return before < kGreedy ? static_cast<std::uint8_t>(before + 1) : before;
}

struct Operation {
  Opcode code = Opcode::kRead;
  /// kAccept, kReceive: keep producing completions until cancelled or failed.
  bool multishot = false;
  /// kRead, kWrite: the descriptor has no positions; `offset` is ignored.
  bool stream = false;
  /// kRead, kWrite on a stream: the descriptor was opened non-blocking and can be waited for by
  /// readiness. When false the epoll driver runs it on the pool.
  bool pollable = false;
  /// kReceive: true when the last receive left the socket empty, so that waiting for readiness
  /// first is cheaper than an attempt that fails.
  bool likely_empty = false;
  /// kReceive: how many before it were long transfers and left more, up to kGreedy. A lane sees to
  /// it that the next, which will be another, does not keep those waiting that are short. A
  /// multishot one may end with a result, and is then submitted again.
  std::uint8_t long_in_a_row = 0;
  /// kReceive, kSend: of a socket that keeps the borders of messages. One that is received and has
  /// no room is -EMSGSIZE, and gone; one without bytes is not sent, since it would read as the end.
  bool messages = false;
  /// kSend: a file or the end follows at once. The kernel keeps what fills no segment for it
  /// (MSG_MORE): a header goes out with the beginning of its file, and the last bytes with the FIN.
  /// Should that be cancelled before it begins, they go out by the retransmission timer, after 200
  /// ms or more.
  bool more_follows = false;

  Descriptor descriptor = kNoDescriptor;
  /// Tells two descriptors with the same number apart (never 0 for an open handle).
  std::uint64_t descriptor_id = 0;

  /// kRead, kWrite, kAllocate, kSendFile: byte position. kTruncate: the new length. kSetMode: the
  /// bits. kSetOwner: the user, all bits of 32 for none. kSetTimes: when it was accessed,
  /// microseconds since 1970.
  std::int64_t offset = 0;
  /// kSetOwner: the group. kSetTimes: when it was modified, a signed number. kAllocate: bytes.
  /// kSendFile: bytes at most; a lane sends a part of them at a time, and its result is 0 at the
  /// end of the file. kReceive without slices: ignored (the pool's buffer size).
  std::uint64_t length = 0;
  /// kRead, kWrite, kSend: the memory. kReceive: one slice, or none: then the lane takes a buffer
  /// from its BufferSource when data is there (contract M3).
  Slice* slices = nullptr;
  std::uint32_t slice_count = 0;
  /// Chunk the single slice lies in, for registered buffers; kNoChunk where it lies elsewhere.
  std::uint32_t chunk = 0xffffffff;

  std::uint32_t flags = 0;  ///< kOpen: OpenFlag
  std::uint32_t mode = 0;   ///< kOpen: permission bits of a new file
  union {
    const char* path = nullptr;   ///< kOpen: NUL-terminated bytes
    const ConnectTarget* target;  ///< kConnect
    FileStatus* status;           ///< kStat: filled before the completion
    PassedDescriptors* passed;    ///< kSendHandles, kReceiveHandles: go along with the bytes
    SourceFile* file;             ///< kSendFile: a regular file, whose bytes go out
  };
  FileKind file_kind = FileKind::kRegular;  ///< kOpen: filled before the completion

  /// Belongs to the lane between submit and the final completion.
  Operation* lane_next = nullptr;
  Operation* lane_previous = nullptr;
  std::uint8_t lane_state = 0;
  std::uint16_t lane_generation = 0;
  Descriptor lane_descriptor = kNoDescriptor;
  Scratch lane_scratch;
};

inline constexpr std::uint32_t kNoChunk = 0xffffffff;

/// A pool buffer as a lane hands it over: `chunk` and `offset` name it to the port.
struct Buffer {
  std::uint32_t chunk = kNoChunk;
  std::uint32_t offset = 0;
  std::uint8_t* data = nullptr;
  std::uint32_t size = 0;
};

/// One completion. `result` is what the system call would have returned: bytes, a descriptor, 0,
/// or a negative errno (Linux numbers on every driver).
struct Completion {
  Operation* operation = nullptr;
  std::int64_t result = 0;
  /// The operation goes on; this is not its final completion.
  bool more = false;
  /// kReceive: the kernel has more bytes already.
  bool more_data = false;
  /// kReceive without slices and result > 0: where the bytes are; ownership passes to the reaper.
  Buffer buffer;
};

inline Completion completion_of(Operation* operation, std::int64_t result) {
  Completion completion;
  completion.operation = operation;
  completion.result = result;
  return completion;
}

}  // namespace cp::driver
