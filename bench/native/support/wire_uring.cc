#include <sys/socket.h>

#include <cerrno>
#include <vector>

#include "support/process.h"
#include "support/raw_ring.h"
#include "support/socket.h"
#include "support/wire.h"

namespace cp::bench {
namespace {

constexpr std::uint32_t kEntries = 1024;
constexpr std::uint32_t kCompletions = 16384;
constexpr std::uint32_t kBuffers = 1024;
constexpr std::uint32_t kBufferSize = 16384;
constexpr std::uint64_t kSent = 1ull << 63;  // of user_data: a send; the rest is the connection

class UringWire final : public Wire {
 public:
  UringWire() : ring_(kEntries, kCompletions), buffers_(ring_, kBuffers, kBufferSize) {}
  ~UringWire() override {
    for (const int socket : sockets_) {
      reset_on_close(socket);
      close(socket);
    }
  }

  void add(int socket) override {
    sockets_.push_back(socket);
    receive(static_cast<std::uint32_t>(sockets_.size() - 1));
  }

  void send(std::uint32_t connection, const std::uint8_t* data, std::size_t size) override {
    uring::Sqe& entry = ring_.next();
    entry.opcode = uring::kOpSend;
    entry.fd = sockets_[connection];
    entry.flags = kSqeSkipSuccess;
    entry.address = reinterpret_cast<std::uint64_t>(data);
    entry.length = static_cast<std::uint32_t>(size);
    entry.op_flags = MSG_WAITALL | MSG_NOSIGNAL;
    entry.user_data = kSent | connection;
  }

  void wait(std::int64_t deadline, Receiver& receiver) override {
    ring_.enter(deadline <= now() ? 0 : 1, deadline);
    const std::uint32_t count = ring_.drain([&](const uring::Cqe& cqe) { settle(cqe, receiver); });
    if (count == 0) return;
    buffers_.publish();
    for (const std::uint32_t connection : starved_) receive(connection);
    starved_.clear();
  }

  const char* name() const override { return "io_uring"; }

 private:
  void receive(std::uint32_t connection) {
    uring::Sqe& entry = ring_.next();
    entry.opcode = uring::kOpRecv;
    entry.fd = sockets_[connection];
    entry.ioprio = uring::kReceiveMultishot;
    entry.flags = uring::kSqeBufferSelect;
    entry.buffer = ProvidedRing::kGroup;
    entry.user_data = connection;
  }

  void settle(const uring::Cqe& cqe, Receiver& receiver) {
    const auto connection = static_cast<std::uint32_t>(cqe.user_data);
    // A send that failed shuts down what is left, so that the receive ends and tells.
    if (cqe.user_data & kSent) {
      if (cqe.result < 0) shutdown(sockets_[connection], SHUT_RDWR);
      return;
    }
    if (cqe.result > 0) {
      const auto buffer = static_cast<std::uint16_t>(cqe.flags >> uring::kCqeBufferShift);
      receiver.received(connection, buffers_.data(buffer), static_cast<std::size_t>(cqe.result));
      buffers_.give_back(buffer);
    }
    if (cqe.flags & uring::kCqeMore) return;
    if (cqe.result > 0 || cqe.result == -ENOBUFS) {
      starved_.push_back(connection);
    } else {
      receiver.received(connection, nullptr, 0);
    }
  }

  RawRing ring_;
  ProvidedRing buffers_;
  std::vector<int> sockets_;
  std::vector<std::uint32_t> starved_;
};

}  // namespace

std::unique_ptr<Wire> make_uring_wire() { return std::make_unique<UringWire>(); }

}  // namespace cp::bench
