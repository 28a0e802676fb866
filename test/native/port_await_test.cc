// What is awaited while threads die.
#include <doctest/doctest.h>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "support/streams.h"

namespace {

using namespace cp;
using namespace cp::test;

/// Awaits many things of connections that wander between two ports, cancels some, and counts.
class Waiter {
 public:
  Waiter(Port& port, std::vector<HandleId> handles, Verdict& verdict, std::uint64_t number)
      : member_(port), handles_(std::move(handles)), verdict_(verdict), random_(number) {}

  void step() {
    const HandleId handle = handles_[random_(static_cast<std::uint32_t>(handles_.size()))];
    switch (random_(8)) {
      case 0:
        return look(true);
      case 1:
        return member_.thread->cancel_token(1 + random_(kTokens));
      case 2:
        if (random_.one_in(10)) member_.thread->cancel_handle(handle);
        return;
      case 3:
        return member_.receive(handle, false, begin(), timeout());
      default:
        send(handle);
    }
    look(false);
  }
  void look(bool waits) {
    const Packet packet = member_.next(waits ? kMillisecond : 0);
    if (packet.kind == PacketKind::kReceive) contents(packet);
    if (packet.token == 0) return;
    verdict_.expect(awaited_[packet.token], "O1 an answer more");
    awaited_[packet.token] = false;
    --count_;
  }
  std::size_t count() const { return count_; }
  Member& member() { return member_; }

 private:
  static constexpr std::uint32_t kTokens = 64;

  /// 0, which awaits nothing, when everything is taken.
  std::uint32_t begin() {
    const std::uint32_t token = 1 + random_(kTokens);
    if (awaited_[token]) return 0;
    awaited_[token] = true;
    ++count_;
    return token;
  }
  std::uint32_t timeout() { return random_.one_in(3) ? 1 + random_(20) : 0; }
  void send(HandleId handle) {
    Request* head = request(PacketKind::kSend, begin());
    head->timeout = timeout();
    const std::string bytes(1 + random_(random_.one_in(4) ? 400'000 : 2000), 'x');
    member_.allocate(bytes.data(), bytes.size(), *head);
    if (random_.one_in(4)) {
      head->chain = request(PacketKind::kSend, begin());
      head->chain->timeout = timeout();
      member_.allocate(bytes.data(), 1, *head->chain);
    }
    member_.thread->submit(head, handle);
  }

  Member member_;
  const std::vector<HandleId> handles_;
  Verdict& verdict_;
  Random random_;
  bool awaited_[kTokens + 1] = {};
  std::size_t count_ = 0;
};

PORT_TEST("T1 O1 whatever is awaited is answered once while threads die and handles wander") {
  NEEDS_DRIVER();
  const std::uint64_t number = seed("awaited");
  INFO("CP_SEED=", number);
  const std::size_t descriptors = open_descriptors(), handles = open_handles();
  {
    const PortHold ports[3] = {make_port(D::name, options(2)), make_port(D::name, options(2)),
                               make_port(D::name, options(2))};
    REQUIRE(ports[1]->enter());  // has threads that die, and now and then none
    Verdict verdict;
    std::vector<Peer> peers;
    std::vector<HandleId> names;
    Member stayer(*ports[0]);
    const HandleId listening = listener(stayer, true);
    for (int i = 0; i < 4; ++i) {
      Connection c = connection(*ports[0], stayer, listening);
      peers.push_back(std::move(c.peer));
      names.push_back(c.handle);
    }
    std::atomic<bool> over{false}, still{false};
    std::atomic<int> done{0};
    std::vector<std::thread> threads, readers;
    for (Peer& peer : peers) {
      readers.emplace_back([&peer] {
        while (peer.read(50'000).size() > 0) {
        }
      });
    }
    for (const std::uint32_t at : {0u, 2u}) {
      threads.emplace_back([&, at] {
        Waiter waiter(*ports[at], names, verdict, number * 10 + at);
        while (!over) waiter.step();
        ++done;
        while (!still) waiter.look(true);
        const auto end = driver::now() + kPatience;
        while (waiter.count() > 0 && driver::now() < end) waiter.look(true);
        verdict.expect(waiter.count() == 0, "O1 never answered: " + std::to_string(waiter.count()));
        ++done;
        while (done < 4) waiter.look(true);
      });
    }
    std::vector<std::thread> dying;
    for (std::uint32_t t = 0; t < 3; ++t) {
      dying.emplace_back([&, t] {
        Random random(number * 10 + 5 + t);
        while (!over) {
          const std::uint32_t at = t == 0 ? 0 : 1;
          Waiter waiter(*ports[at], names, verdict, number + random(1000));
          for (std::uint32_t i = random(40); i-- > 0;) waiter.step();
          const HandleId name = names[random(4)];
          if (random.one_in(2)) ports[at]->hand_off(name, *ports[1 - at], 70 + random(4));
          waiter.member().leave(true);
          if (t > 0) std::this_thread::sleep_for(std::chrono::microseconds(random(500)));
        }
      });
    }
    const auto end = driver::now() + 1500 * kMillisecond;
    while (driver::now() < end && verdict.good()) {
      const Packet packet = stayer.next(kMillisecond);
      if (packet.kind == PacketKind::kReceive) contents(packet);
    }
    over = true;
    for (auto& thread : dying) thread.join();
    while (done < 2) stayer.next(kMillisecond);
    ports[1]->leave();
    for (const HandleId name : names) stayer.close(name);
    still = true;
    while (done < 4) stayer.next(kMillisecond);
    for (auto& thread : threads) thread.join();
    for (auto& reader : readers) reader.join();
    CHECK(verdict.first() == "");
    stayer.leave(true);
    for (const PortHold& port : ports) CHECK(port->pool().allocated_bytes() == 0);
  }
  CHECK(open_handles() == handles);
  CHECK(eventually([&] { return open_descriptors() == descriptors; }));
}

}  // namespace
