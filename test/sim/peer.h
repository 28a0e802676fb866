// Somebody of the world at the other end of a connection: it sends, reads, ends, stalls, or goes
// away without a word.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "driver/sim/world.h"

namespace cp::test {

using driver::sim::Connection;
using driver::sim::End;
using driver::sim::World;

/// What the world's end of a connection does.
struct PeerPlan {
  std::vector<std::uint8_t> sends;
  enum class Reads : std::uint8_t { kAll, kSlowly, kNothing } reads = Reads::kAll;
  /// What it does when all is sent.
  enum class Ends : std::uint8_t { kOrderly, kCloses, kResets, kStays } ends = Ends::kOrderly;
  bool vanishes = false;  ///< somewhere in the middle it does nothing any more
};

class Peer : public std::enable_shared_from_this<Peer> {
 public:
  Peer(World& world, PeerPlan plan) : world_(world), plan_(std::move(plan)) {}
  /// Each byte it receives, and the end or the reset behind the last.
  std::function<void(const std::uint8_t*, std::size_t)> on_bytes;
  std::function<void(bool reset)> on_end;

  void begin(End& end);
  /// Sends these as well.
  void send(const std::vector<std::uint8_t>& bytes);
  void close();
  End* end() const { return end_; }
  std::size_t sent() const { return sent_; }
  bool ended() const { return heard_end_; }

 private:
  void step();
  void later();
  void write();
  void read();

  World& world_;
  PeerPlan plan_;
  End* end_ = nullptr;
  std::size_t sent_ = 0;
  bool finished_ = false;
  bool heard_end_ = false;
  bool scheduled_ = false;
};

}  // namespace cp::test
