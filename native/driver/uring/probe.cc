#include "driver/uring/probe.h"

#include <sys/mman.h>

#include <cerrno>

#include "driver/uring/provided_buffers.h"
#include "driver/uring/registered_chunks.h"
#include "driver/uring/ring.h"

namespace cp::driver::uring {
namespace {

struct NeededOperation {
  Op op;
  const char* name;
  const char* since;
};
constexpr NeededOperation kNeeded[] = {
    {kOpReadv, "READV", "5.1"},
    {kOpWritev, "WRITEV", "5.1"},
    {kOpFsync, "FSYNC", "5.1"},
    {kOpReadFixed, "READ_FIXED", "5.1"},
    {kOpWriteFixed, "WRITE_FIXED", "5.1"},
    {kOpPollAdd, "POLL_ADD", "5.1"},
    {kOpSendmsg, "SENDMSG", "5.3"},
    {kOpRecvmsg, "RECVMSG", "5.3"},
    {kOpTimeout, "TIMEOUT", "5.4"},
    {kOpTimeoutRemove, "TIMEOUT_REMOVE", "5.5"},
    {kOpAccept, "ACCEPT", "5.5"},
    {kOpAsyncCancel, "ASYNC_CANCEL", "5.5"},
    {kOpConnect, "CONNECT", "5.5"},
    {kOpFallocate, "FALLOCATE", "5.6"},
    {kOpOpenat, "OPENAT", "5.6"},
    {kOpClose, "CLOSE", "5.6"},
    {kOpRead, "READ", "5.6"},
    {kOpWrite, "WRITE", "5.6"},
    {kOpSend, "SEND", "5.6"},
    {kOpRecv, "RECV", "5.6"},
    {kOpSendZc, "SEND_ZC", "6.0"},
};

/// Fills `found`; 0 or a negative errno.
Result ask_operations(const Ring& ring, Probe& found) {
  return register_(ring.fd(), kRegisterProbe, &found, 256) < 0 ? -errno : 0;
}

bool has(const Probe& found, Op op) {
  return op <= found.last_opcode && (found.operations[op].flags & kProbeSupported);
}

Result probe_operations(const Ring& ring, std::string& reason) {
  Probe found{};
  if (ask_operations(ring, found) < 0) {
    reason = "the kernel does not tell which operations it has";
    return -EINVAL;
  }
  for (const NeededOperation& needed : kNeeded) {
    if (has(found, needed.op)) continue;
    reason = std::string("the kernel lacks IORING_OP_") + needed.name + " (Linux " + needed.since +
             " has it)";
    return -EINVAL;
  }
  return 0;
}

std::string explain(Result error) {
  switch (error) {
    case -EPERM:
      return "EPERM (forbidden by seccomp or kernel.io_uring_disabled)";
    case -ENOSYS:
      return "ENOSYS (not in this kernel, or hidden by seccomp)";
    case -EINVAL:
      return "EINVAL (Linux 6.0 or later is needed)";
    case -ENOMEM:
      return "ENOMEM";
    case -EMFILE:
      return "EMFILE";
    case -ENFILE:
      return "ENFILE";
    default:
      return "errno " + std::to_string(-error);
  }
}

/// A pool of one chunk, none of whose memory is lent.
class OneChunk final : public BufferSource {
 public:
  static constexpr std::size_t kSize = 1u << 20;

  OneChunk()
      : memory_(mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {}
  ~OneChunk() override {
    if (memory_ != MAP_FAILED) munmap(memory_, kSize);
  }
  bool take(Buffer&) override { return false; }
  void give_back(const Buffer&) override {}
  std::uint32_t allowance(std::uint32_t) override { return 0; }
  bool available() const override { return false; }
  std::uint32_t buffer_size() const override { return 0; }
  bool chunk(std::uint32_t, Slice& out) const override {
    out = {memory_, kSize};
    return memory_ != MAP_FAILED;
  }

 private:
  void* const memory_;
};

Result register_chunk(const Ring& ring, BufferSource& source) {
  errno = 0;
  if (RegisteredChunks(ring, source).index_of(0) >= 0) return 0;
  return errno != 0 ? -errno : -ENOMEM;
}

Result lend_buffers(const Ring& ring, BufferSource& source) {
  return ProvidedBuffers(source).open(ring);
}

void add_operations(const Ring& ring, std::vector<Capability>& out) {
  Probe found{};
  const Result asked = ask_operations(ring, found);
  out.push_back({"IORING_REGISTER_PROBE", "5.6", true, asked});
  if (asked < 0) return;
  for (const NeededOperation& needed : kNeeded) {
    const Result result = has(found, needed.op) ? 0 : -EINVAL;
    out.push_back({std::string("IORING_OP_") + needed.name, needed.since, true, result});
  }
}

}  // namespace

Result probe(std::string& reason) {
  Ring ring;
  const Result opened = ring.open(8, 16);
  if (opened == 0) return probe_operations(ring, reason);
  reason = "io_uring_setup: " + explain(opened);
  return opened;
}

std::vector<Capability> capabilities() {
  // Declared before the ring: the kernel has let go of the memory when it is unmapped.
  OneChunk memory;
  Ring ring;
  const Result opened = ring.open(8, 16);
  std::vector<Capability> out{{"io_uring_setup", "6.0", true, opened}};
  if (opened < 0) return out;
  add_operations(ring, out);
  out.push_back({"IORING_REGISTER_PBUF_RING", "5.19", true, lend_buffers(ring, memory)});
  const auto flag = [&ring](Setup bit) { return ring.flags() & bit ? Result{0} : -EINVAL; };
  out.push_back({"IORING_SETUP_DEFER_TASKRUN", "6.1", false, flag(kSetupDeferTaskrun)});
  out.push_back({"IORING_SETUP_NO_SQARRAY", "6.6", false, flag(kSetupNoSqArray)});
  const Result idle = ring.features() & kFeatureNoIowait ? 0 : -EINVAL;
  out.push_back({"IORING_ENTER_NO_IOWAIT", "6.15", false, idle});
  out.push_back({"IORING_REGISTER_RING_FDS", "5.18", false, ring.registered() ? 0 : -EINVAL});
  out.push_back({"IORING_REGISTER_BUFFERS2", "5.19", false, register_chunk(ring, memory)});
  return out;
}

}  // namespace cp::driver::uring
