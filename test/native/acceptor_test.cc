// Connections that are accepted for several threads, without Node.js.
#include "driver/acceptor.h"

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "support/sockets.h"
#include "support/system.h"

namespace {

using namespace cp;
using driver::Acceptor;

struct Bell final : driver::SeatBell {
  void ring() override { ++rings; }
  void silence() override {}
  std::atomic<int> rings{0};
};

struct Thread {
  explicit Thread(const std::shared_ptr<driver::SharedListener>& listener)
      : seat(Acceptor::instance().join(listener, bell)) {}
  ~Thread() { Acceptor::instance().leave(*seat); }
  Bell bell;
  std::shared_ptr<driver::Seat> seat;
};

/// Held until the end of the block.
struct Shared {
  Shared() {
    driver::ListenOptions options;
    options.address = test::any_loopback();
    driver::Result error = 0;
    const driver::Result socket = driver::open_shared_socket(options);
    REQUIRE(socket >= 0);
    listener = Acceptor::instance().share("", static_cast<driver::Descriptor>(socket), "",
                                          driver::AcceptPolicy::kLeastConnections, error);
    REQUIRE(listener != nullptr);
    Acceptor::instance().with_socket(*listener, [&](driver::Descriptor descriptor) {
      return driver::address_of_listener(descriptor, address);
    });
  }
  ~Shared() { Acceptor::instance().release(*listener); }
  std::shared_ptr<driver::SharedListener> listener;
  driver::SocketAddress address;
};

template <typename Condition>
bool comes_true(Condition condition) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::seconds(30);
  while (!condition()) {
    if (Clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

TEST_CASE("a connection that nobody comes for is offered to each thread again and again") {
  Shared shared;
  Thread first(shared.listener);
  Thread second(shared.listener);
  const test::Socket client = test::socket_to(shared.address);
  REQUIRE(client >= 0);
  CHECK(comes_true([&] { return first.bell.rings > 2 && second.bell.rings > 2; }));
  CHECK(Acceptor::instance().stats(*shared.listener).waiting == 1);
  test::shut(client);
}

TEST_CASE("of connections that come together each is accepted") {
  Shared shared;
  Thread only(shared.listener);
  std::vector<test::Socket> clients;
  for (std::uint32_t i = 0; i < 200; ++i) clients.push_back(test::socket_to(shared.address));
  const auto waiting = [&] { return Acceptor::instance().stats(*shared.listener).waiting; };
  CHECK(comes_true([&] { return waiting() == clients.size(); }));
  for (const test::Socket client : clients) test::shut(client);
}

TEST_CASE("what waits for a thread that leaves goes to another") {
  Shared shared;
  auto first = std::make_unique<Thread>(shared.listener);
  const test::Socket client = test::socket_to(shared.address);
  REQUIRE(client >= 0);
  REQUIRE(comes_true([&] { return first->bell.rings > 0; }));
  Thread second(shared.listener);
  first.reset();
  CHECK(comes_true([&] { return Acceptor::instance().waits(*second.seat); }));
  const driver::Descriptor connection = Acceptor::instance().take(*second.seat);
  REQUIRE(connection != driver::kNoDescriptor);
  CHECK_FALSE(Acceptor::instance().waits(*second.seat));
  driver::close_socket(connection);
  test::shut(client);
}

TEST_CASE("a listener that is closed tells its threads, and is known to nobody") {
  Shared shared;
  Thread only(shared.listener);
  const std::uint32_t id = Acceptor::id(*shared.listener);
  Acceptor::instance().close(*shared.listener);
  CHECK(only.bell.rings > 0);
  CHECK(Acceptor::instance().closed(*shared.listener));
  CHECK(Acceptor::instance().find(id) == nullptr);
  Bell bell;
  CHECK(Acceptor::instance().join(shared.listener, bell) == nullptr);
}

}  // namespace
