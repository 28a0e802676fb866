// What the program of a simulation knows: what it asked for, what came, and what may not come.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "driver/sim/world.h"
#include "port/packet.h"
#include "port/thread.h"

namespace cp::test {

// The properties. Each has a planted fault that breaks it (docs/reliability.md).
inline constexpr const char* kOneFinal = "one final packet for each operation";
inline constexpr const char* kDeadHandle = "nothing of a dead handle";
inline constexpr const char* kKeyOnce = "a key is never held twice";
inline constexpr const char* kOrder = "first in, first out";
inline constexpr const char* kWork = "work conservation";
inline constexpr const char* kLimit = "limit of concurrency";
inline constexpr const char* kBytes = "each byte in its place";
inline constexpr const char* kReset = "a reset is never told as an end";
inline constexpr const char* kBack = "buffers and handles come back";
inline constexpr const char* kBounded = "queues are bounded";
inline constexpr const char* kProgress = "progress";
inline constexpr const char* kWaker = "no wait without a waker";
inline constexpr const char* kDurable = "what was synced stays";
inline constexpr const char* kReleased = "every record is released";
inline constexpr const char* kAnswered = "each document is answered once";
inline constexpr const char* kOnce = "a message comes once";

/// What travels in one direction of a connection, written down by whoever sends it.
struct Stream {
  std::vector<std::uint8_t> bytes;
  std::size_t checked = 0;
  /// What is sent from now on may leave a gap: nobody sends any more.
  bool closed = false;
};

struct Op {
  PacketKind kind = PacketKind::kNone;
  HandleId handle = 0;
  std::uint32_t thread = 0;
  bool awaited = false;
  bool optional = false;  ///< may be unanswered: its thread died, or it is a second close
  bool linked = false;
  std::uint32_t packets = 0;
  bool over = false;
};

struct Conn {
  HandleId id = 0;
  std::uint32_t key = 0;
  std::uint64_t number = 0;  ///< of the world's connection
  int side = 0;
  std::atomic<std::uint32_t> where{0};
  bool receiving = false;
  bool ended = false;
  bool closing = false;
  bool shut = false;
  bool fed = false;  ///< what it sends may keep it from receiving
};

/// The model is as simple as it looks: nobody is interrupted in it, since it has no switch point.
class Model {
 public:
  std::uint32_t new_tag() { return ++last_tag_; }
  Op& begin(PacketKind kind, std::uint32_t tag, HandleId handle, std::uint32_t thread);
  /// One that is answered to a token, under which its thread awaits it.
  Op& begin_opening(PacketKind kind, std::uint32_t thread, std::uint32_t token);
  /// It waits for another one: where that is refused, it is cancelled.
  void make_linked(std::uint32_t tag) { ops_[tag].linked = true; }
  void make_optional(std::uint32_t tag) { ops_[tag].optional = true; }
  /// Null: the packet answers no operation.
  Op* on_packet(const PacketSlot& packet, std::uint32_t thread);

  Stream& stream(std::uint64_t number, int to) { return streams_[{number, to}]; }
  void check_bytes(std::uint64_t number, int to, const std::uint8_t* bytes, std::size_t length);
  void check_end(std::uint64_t number, int to, std::int32_t error);

  void hold(std::uint32_t port, std::uint32_t key, std::uint32_t thread);
  void let_go(std::uint32_t port, std::uint32_t key, std::uint32_t thread);
  /// All but those.
  void let_go_all(std::uint32_t thread, std::uint32_t port, const std::vector<std::uint32_t>* but);
  std::vector<std::uint32_t> held_by(std::uint32_t thread);

  /// A thread has died, or left, with it.
  void expect_abandoned(std::uint32_t port, std::uint32_t key) { ++abandoned_[{port, key}]; }
  void abandoned(std::uint32_t port, std::uint32_t key) { abandoned_.erase({port, key}); }
  std::size_t abandoned_open() const { return abandoned_.size(); }

  Conn* conn(std::uint32_t key);
  Conn& add_conn(HandleId id, std::uint32_t key, std::uint64_t number, int side,
                 std::uint32_t port);
  std::map<std::uint32_t, std::unique_ptr<Conn>>& conns() { return conns_; }
  void lose(std::uint32_t thread);

  std::size_t open_operations(std::string* text = nullptr) const;

  // Messages.
  double post_value(std::uint32_t producer);
  void posted(std::uint32_t port) { ++posted_[port]; }
  void unposted(std::uint32_t port) { --posted_[port]; }
  void on_message(std::uint32_t port, std::uint32_t key, double value, bool in_order);
  std::int64_t undelivered(std::uint32_t port) { return posted_[port] - delivered_[port]; }

 private:
  std::uint32_t last_tag_ = 0;
  std::map<std::uint32_t, Op> ops_;
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::uint32_t> openings_;
  std::set<HandleId> dead_;
  std::map<std::pair<std::uint64_t, int>, Stream> streams_;
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::uint32_t> held_;  ///< port, key: thread
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::uint32_t> abandoned_;
  std::map<std::uint32_t, std::unique_ptr<Conn>> conns_;
  std::map<std::uint32_t, std::int64_t> posted_, delivered_;
  std::map<std::uint32_t, std::uint32_t> next_message_;
  std::map<std::tuple<std::uint32_t, std::uint32_t, std::uint32_t>, std::uint32_t> last_message_;
  std::set<double> messages_;
};

}  // namespace cp::test
