// The submission array as no library would write it: any kinds, flags, names, places and numbers,
// for handles of every sort. Nothing but packets may come of it: no use of memory that is not the
// thread's, and at the end every operation, block, handle and descriptor has come back.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <optional>
#include <vector>

#include "addon/submission.h"
#include "asserts.h"
#include "input.h"
#include "stage/record_table.h"
#include "support/member.h"

namespace {

using namespace cp;
using namespace cp::test;
using addon::Submission;

constexpr std::size_t kRecords = 64;
constexpr rlim_t kLongestFile = 1 << 20;

/// What a program would have open, and what it would have allocated.
class World {
 public:
  World() {
    PortOptions made = options(1, 8, 512);
    made.buffers.memory_limit = 1 << 22;
    port_ = make_port("epoll", made);
    other_ = make_port("epoll", made);
    records_ = stage::RecordTable::make(16, 128);
    member_.emplace(*port_);
    others_member_.emplace(*other_);
    thread().port().set_key_source(records_);
    int pair[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
    peer_ = pair[1];
    names_.push_back(named(thread().adopt_socket(pair[0], keyed(7))));
    ::close(pair[0]);
    const driver::Result file = port_->driver().temporary_file(temporary_directory().c_str());
    names_.push_back(named(thread().adopt_file(file, driver::FileKind::kRegular, keyed(8))));
    names_.push_back(listener(*member_, true, 9));
    names_.push_back(named(thread().timer(keyed(10))));
    int pipe[2];
    REQUIRE(::pipe2(pipe, O_NONBLOCK | O_CLOEXEC) == 0);
    writer_ = pipe[1];
    names_.push_back(named(thread().adopt_file(pipe[0], driver::FileKind::kStream, {})));
    for (const std::uint64_t size : {1u, 5000u}) {
      Place place;
      REQUIRE(thread().allocate(size, place));
      places_.push_back(place);
    }
  }

  void submit(std::vector<Submission>& records) {
    for (Submission& record : records) give_names(record);
    {
      const auto held = thread().hold_lane();
      addon::submit_all(thread(), records.data(), records.size(), records_.get());
    }
    take();
  }

  void peer(const std::string& bytes) {
    static_cast<void>(::send(peer_, bytes.data(), bytes.size(), MSG_NOSIGNAL));
    static_cast<void>(::write(writer_, bytes.data(), bytes.size()));
    take();
  }

  /// As a program ends that has forgotten everything; each port ends with its only thread.
  void end() {
    ::close(peer_);
    ::close(writer_);
    member_->leave(false);
    for (const Place& place : places_) BufferPool::release(place);
    others_member_->leave(false);
    CHECK(other_->pool().allocated_bytes() == 0);
    CHECK(port_->pool().allocated_bytes() == 0);
  }

 private:
  Thread& thread() { return *member_->thread; }
  static Thread::Association keyed(std::uint32_t key) {
    Thread::Association association;
    association.keyed = true;
    association.key = key;
    return association;
  }
  static HandleId named(std::int64_t handle) {
    REQUIRE(handle > 0);
    return static_cast<HandleId>(handle);
  }

  /// Small numbers stand for names that there are, others for themselves.
  void give_names(Submission& record) const {
    name(record.handle);
    name(record.feeder);
    // The thread remembers each; above what it takes they are refused.
    if (record.token < 1u << 24) record.token &= 0xffff;
    if (record.chunk < 2 * places_.size()) {
      const Place& place = places_[record.chunk / 2];
      if (record.chunk % 2 == 0) record.start += place.offset;
      record.chunk = place.chunk;
    }
    const auto kind = static_cast<PacketKind>(record.kind);
    if (kind == PacketKind::kSendFile && record.start < names_.size()) {
      const HandleId source = names_[record.start];
      record.start = static_cast<std::uint32_t>(source);
      record.bytes = static_cast<std::uint32_t>(source >> 32);
    }
    const bool to_port = kind == PacketKind::kHandOff || kind == PacketKind::kPosted;
    if (to_port && record.tag < 2) record.tag = record.tag == 0 ? port_->id() : other_->id();
  }
  void name(HandleId& handle) const {
    if (handle < names_.size()) handle = names_[handle];
  }

  /// What has come, as a program takes it that keeps nothing.
  void take() {
    for (int i = 0; i < 300; ++i) {
      const Packet packet = member_->next(0);
      if (packet.kind == PacketKind::kNone) return;
      if (packet.chunk != driver::kNoChunk) BufferPool::release({packet.chunk, packet.offset});
      if (packet.accepted != 0) names_.push_back(packet.accepted);
      const bool brings_descriptor = packet.kind == PacketKind::kClose && packet.error == 0;
      if (brings_descriptor && packet.result > 0) ::close(static_cast<int>(packet.result) - 1);
    }
  }

  PortHold port_, other_;
  std::shared_ptr<stage::RecordTable> records_;
  std::optional<Member> member_, others_member_;
  std::vector<HandleId> names_;
  std::vector<Place> places_;
  int peer_ = -1, writer_ = -1;
};

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  end_where_a_check_fails();
  // A file of any length would be made, and its blocks.
  const rlimit limit{kLongestFile, kLongestFile};
  setrlimit(RLIMIT_FSIZE, &limit);
  std::signal(SIGXFSZ, SIG_IGN);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input(data, size);
  const std::size_t handles = open_handles(), descriptors = open_descriptors();
  const std::size_t ports = Port::count(), pools = BufferPool::count();
  {
    World world;
    while (input.more()) {
      std::vector<Submission> records(input.below(kRecords));
      for (Submission& record : records) input.read(&record, sizeof record);
      world.submit(records);
      world.peer(input.text(input.byte()));
    }
    world.end();
  }
  CHECK(eventually([&] { return open_handles() == handles; }));
  CHECK(eventually([&] { return open_descriptors() == descriptors; }));
  CHECK(eventually([&] { return Port::count() == ports && BufferPool::count() == pools; }));
  return 0;
}
