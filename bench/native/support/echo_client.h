// The load itself: every connection has at most one message under way, and looks at each byte that
// comes back.
#pragma once

#include <cstdint>
#include <vector>

#include "support/histogram.h"
#include "support/wire.h"

namespace cp::bench {

class EchoClient final : public Receiver {
 public:
  struct Options {
    std::uint32_t connections = 1;
    std::size_t size = 64;
    std::int64_t count_from = 0;  ///< messages answered before are not counted
    std::int64_t end = 0;
    /// Messages a second in total; 0: each connection sends again as soon as it was answered.
    double rate = 0;
  };

  EchoClient(Wire& wire, const Options& options);

  /// Until `end` or stopping().
  void run();

  void received(std::uint32_t connection, const std::uint8_t* data, std::size_t size) override;

  std::uint64_t messages() const { return latency_.total(); }
  std::uint64_t errors() const { return errors_; }
  std::uint64_t all() const { return all_; }  ///< with those that are not counted
  const Histogram& latency() const { return latency_; }

 private:
  struct Connection {
    std::vector<std::uint8_t> message;
    std::size_t received = 0;
    std::int64_t due = 0;    ///< when the message under way was to be sent
    std::uint64_t sent = 0;  ///< messages so far; the n-th has its time by the rate
    bool busy = false;
    bool over = false;
  };

  void send(std::uint32_t connection, std::int64_t due);
  void send_what_is_due(std::int64_t time);
  void answered(std::uint32_t connection);
  std::int64_t due(std::uint64_t message) const;

  Wire& wire_;
  const Options options_;
  std::vector<Connection> connections_;
  std::size_t live_;
  std::int64_t began_ = 0;
  std::uint64_t next_ = 0;  ///< with a rate: the next message whose time has not come
  Histogram latency_;
  std::uint64_t all_ = 0;
  std::uint64_t errors_ = 0;
};

}  // namespace cp::bench
