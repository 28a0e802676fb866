// The native stage as a whole: its listener, and its end.
#include <doctest/doctest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "support/documents.h"

namespace {

using namespace cp;
using namespace cp::stage;
using namespace cp::test;

// ---- listening ---------------------------------------------------------------------------------

PORT_TEST("many connections at once are all served") {
  NEEDS_DRIVER();
  constexpr std::size_t kClients = 300;
  FramesPipeline it(D::name);
  std::vector<Peer> peers;
  for (std::size_t i = 0; i < kClients; ++i) peers.push_back(it.connect());
  for (std::size_t i = 0; i < kClients; ++i) peers[i].write(framed(std::to_string(i)));
  for (std::size_t i = 0; i < kClients; ++i) {
    const Arrival arrival = it.take();
    CHECK(it.answer(arrival, arrival.text + "!") == 0);
  }
  for (std::size_t i = 0; i < kClients; ++i) {
    const std::string expected = std::to_string(i) + "!";
    CHECK(peers[i].read(expected.size()) == expected);
  }
  CHECK(it.frames->stats().connections == kClients);
  peers.clear();
  CHECK(eventually([&] { return it.empty(); }));
}

PORT_TEST("a connection beyond the records is closed at once") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name, [](FramesSetup& setup) { setup.records = 1; });
  Peer first = it.connect();
  CHECK(eventually([&] { return it.records->live() == 1; }));
  Peer second = it.connect();
  CHECK(read_to_end(second) == "");
  CHECK(it.port->stats().refused == 1);
  first.shut();
  CHECK(eventually([&] { return it.empty(); }));
  Peer third = it.connect();
  third.write(framed("third"));
  CHECK(it.take().text == "third");
}

PORT_TEST("accepting goes on after a connection that failed before it was accepted") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name);
  driver::ListenOptions options;
  options.address = any_loopback();
  // A listener that accepts nothing yet, and the end of an accept that failed.
  const driver::Result descriptor = it.port->driver().listen(options);
  HandleId id = 0;
  Handle* handle =
      it.port->create_handle(HandleKind::kListener, true, FramesStage::kListener, nullptr, id);
  handle->accept_keyed = true;
  Port::adopt(*handle, it.port->driver(), descriptor);
  Port::publish(*handle, id);
  Packet packet;
  packet.kind = PacketKind::kAccept;
  packet.key = FramesStage::kListener;
  packet.handle = handle->id;
  packet.error = -ECONNABORTED;
  const driver::SocketAddress address = address_of(*it.port, handle->id);
  it.port->dispatcher().push(packet, nullptr);
  Peer peer(address);
  peer.write(framed("document"));
  CHECK(it.take().text == "document");
}

PORT_TEST("the stage of a port that has ended can't listen") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name);
  it.port->close();
  CHECK(eventually([&] { return !Port::find(it.port->id()); }));
  driver::ListenOptions options;
  options.address = any_loopback();
  CHECK(it.frames->listen(options) == kErrorPortClosed);
}

// ---- stopping ----------------------------------------------------------------------------------

PORT_TEST("a stage that stops with everything in flight leaves nothing behind") {
  NEEDS_DRIVER();
  for (const bool spool : {false, true}) {
    FramesPipeline it(D::name, [&](FramesSetup& setup) {
      setup.frames.spool_to_file = spool;
      setup.frames.in_memory = 1000;
      setup.frames.queue = 3;
      setup.frames.max = 1 << 20;
      tell(setup.frames.too_large, "too large");
    });
    std::vector<Peer> peers;  // ends before the pipeline does
    const auto client = [&](const std::string& bytes) {
      peers.push_back(it.connect());
      peers.back().write(bytes);
    };
    client("");
    client("\x01");
    client(framed(text_of(100'000)).substr(0, 50'000));
    client(framed(text_of(2'000'000)).substr(0, 10'000));
    for (int i = 0; i < 6; ++i) client(framed(text_of(20'000)) + framed("more") + "\x01");
    const Arrival memory = it.take(), file = it.take(), stays = it.take();
    CHECK(eventually([&] { return it.frames->stats().waiting == 3; }));
    CHECK(it.answer(memory, text_of(10'000'000)) == 0);
    it.give_file(file.key, text_of(10'000'000), 10'000'000);
    CHECK(it.hand_back(file.key) == 0);
    it.give_memory(*it.member, stays.key, "never sent");
    it.frames->stop();
  }
}

PORT_TEST("a document stays whole at the next stage when the stage that received it has stopped") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name);
  Peer peer = it.connect();
  const std::string text = text_of(50'000);
  peer.write(framed(text));
  const Arrival arrival = it.take();
  it.frames->stop();
  CHECK(it.arrival(arrival.key).text == text);
  CHECK(it.port->pool().allocated_bytes() > 0);
  CHECK(it.hand_back(arrival.key) == kErrorPortClosed);
  it.close(*it.member, arrival);
  CHECK(it.port->pool().allocated_bytes() == 0);
}

PORT_TEST("stopping at any moment while clients come and go") {
  NEEDS_DRIVER();
  for (int round = 0; round < 10; ++round) {
    FramesPipeline it(D::name, [&](FramesSetup& setup) {
      setup.frames.spool_to_file = round % 2 == 1;
      setup.frames.in_memory = 500;
    });
    std::atomic<bool> over{false};
    std::thread clients([&] {
      while (!over) {
        Peer peer(it.address);
        if (!peer.connected) continue;
        peer.write(framed(text_of(3000)));
        if (round % 3 == 0) peer.reset();
      }
    });
    for (int i = 0; i < 20 + 7 * round; ++i) {
      const Arrival arrival = it.take();
      if (arrival.key != 0) it.answer(arrival, "k");
    }
    it.frames->stop();
    over = true;
    clients.join();
  }
}

}  // namespace
