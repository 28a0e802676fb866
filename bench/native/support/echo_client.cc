#include "support/echo_client.h"

#include <algorithm>
#include <cstring>

#include "support/process.h"

namespace cp::bench {

EchoClient::EchoClient(Wire& wire, const Options& options)
    : wire_(wire),
      options_(options),
      connections_(options.connections),
      live_(options.connections) {
  for (std::size_t i = 0; i < connections_.size(); ++i) {
    connections_[i].message.resize(options.size);
    for (std::size_t n = 0; n < options.size; ++n) {
      connections_[i].message[n] = static_cast<std::uint8_t>(i * 7 + n * 13 + n / 251);
    }
  }
}

/// With a rate the messages go round all connections, each at its own time.
std::int64_t EchoClient::due(std::uint64_t message) const {
  return began_ + static_cast<std::int64_t>(static_cast<double>(message) * 1e9 / options_.rate);
}

void EchoClient::run() {
  began_ = now();
  if (options_.rate == 0) {
    for (std::uint32_t i = 0; i < connections_.size(); ++i) send(i, began_);
  }
  for (;;) {
    const std::int64_t time = now();
    if (time >= options_.end || stopping() || live_ == 0) return;
    if (options_.rate > 0) send_what_is_due(time);
    wire_.wait(options_.rate > 0 ? std::min(due(next_), options_.end) : options_.end, *this);
  }
}

/// Each message is told from the last by its first bytes.
void EchoClient::send(std::uint32_t i, std::int64_t due) {
  Connection& connection = connections_[i];
  ++connection.sent;
  const std::size_t stamp = std::min(options_.size, sizeof connection.sent);
  std::memcpy(connection.message.data(), &connection.sent, stamp);
  connection.received = 0;
  connection.busy = true;
  connection.due = due;
  wire_.send(i, connection.message.data(), options_.size);
}

void EchoClient::send_what_is_due(std::int64_t time) {
  for (; due(next_) <= time; ++next_) {
    const auto i = static_cast<std::uint32_t>(next_ % connections_.size());
    Connection& connection = connections_[i];
    // A connection that is behind sends when it is answered; its message keeps its time.
    if (connection.busy || connection.over) continue;
    send(i, due(next_));
  }
}

void EchoClient::received(std::uint32_t i, const std::uint8_t* data, std::size_t size) {
  Connection& connection = connections_[i];
  if (connection.over) return;
  const bool expected =
      size > 0 && connection.busy && connection.received + size <= options_.size &&
      std::memcmp(connection.message.data() + connection.received, data, size) == 0;
  if (!expected) {
    ++errors_;
    connection.over = true;
    --live_;
    return;
  }
  connection.received += size;
  if (connection.received == options_.size) answered(i);
}

void EchoClient::answered(std::uint32_t i) {
  Connection& connection = connections_[i];
  const std::int64_t time = now();
  ++all_;
  if (time >= options_.count_from && time < options_.end) {
    latency_.add(static_cast<std::uint64_t>(std::max<std::int64_t>(0, time - connection.due)));
  }
  connection.busy = false;
  if (time >= options_.end) return;
  if (options_.rate == 0) return send(i, time);
  // The time of this connection's next message has come already: late, and counted as late.
  const std::uint64_t message = connection.sent * connections_.size() + i;
  if (message < next_) send(i, due(message));
}

}  // namespace cp::bench
