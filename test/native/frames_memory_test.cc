// The native stage when memory or files are short: who waits, who is sent away.
#include <doctest/doctest.h>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "support/documents.h"

namespace {

using namespace cp;
using namespace cp::stage;
using namespace cp::test;

// ---- memory and files --------------------------------------------------------------------------

PORT_TEST("a document that finds no memory waits for it, and so does each that comes after") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name, [](FramesSetup& setup) {
    setup.port.buffers.memory_limit = 65536;
    setup.frames.max = 65536;
  });
  Peer first = it.connect(), second = it.connect(), third = it.connect();
  const std::string long_one = text_of(60'000), short_one = text_of(30'000);
  first.write(framed(long_one));
  const Arrival holder = it.take();
  CHECK(holder.text == long_one);
  std::thread writer([&] {
    second.write(framed(short_one));
    third.write(framed(short_one));
  });
  CHECK(it.take(kNotWithin).key == 0);
  CHECK(it.answer(holder, "k") == 0);
  // Both fit now, so neither has to wait for the other's end.
  const Arrival one = it.take(), other = it.take();
  CHECK(one.text == short_one);
  CHECK(other.text == short_one);
  writer.join();
  CHECK(it.answer(one, "k") == 0);
  CHECK(it.answer(other, "k") == 0);
  for (Peer* peer : {&first, &second, &third}) CHECK(peer->read(1) == "k");
}

PORT_TEST("memory that comes goes to another when the one that waited has gone") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name, [](FramesSetup& setup) {
    setup.port.buffers.memory_limit = 65536;
    setup.frames.max = 65536;
    setup.frames.threads = 1;
    setup.frames.stall_timeout = 0;
  });
  Peer first = it.connect();
  first.write(framed(text_of(60'000)));
  const Arrival holder = it.take();
  Peer second = it.connect();
  second.write(framed(text_of(60'000)).substr(0, 20'000));
  CHECK(it.take(kNotWithin).key == 0);
  HandleId handle = 0;
  for (const HandleId id : it.port->handles()) {
    if (id != it.listener) handle = id;
  }
  Peer third = it.connect();
  third.write(framed("third"));
  CHECK(it.take(kNotWithin).key == 0);
  // The program closes the one that waits first.
  it.close_there(handle);
  it.flush();
  CHECK(read_to_end(second) == "");
  CHECK(it.answer(holder, "k") == 0);
  const Arrival other = it.take();
  CHECK(other.text == "third");
  CHECK(it.answer(other, "k") == 0);
  CHECK(third.read(1) == "k");
}

PORT_TEST("memory that an operation of the next stage had in use is for the one that waits") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name, [](FramesSetup& setup) {
    setup.port.buffers.memory_limit = 65536;
    setup.frames.max = 65536;
  });
  Peer first = it.connect(), second = it.connect();
  const std::string text = text_of(60'000), filler = text_of(8 << 20, 2);
  first.write(framed(text));
  const Arrival holder = it.take();
  REQUIRE(holder.key != 0);
  // More than the system's buffers take, and behind it the document itself.
  Request* fill = request(PacketKind::kSend);
  fill->quiet = true;
  it.member->allocate(filler.data(), filler.size(), *fill);
  it.member->thread->submit(fill, holder.handle);
  const auto& memory = it.header(holder.key).document.memory;
  const Place place{memory.chunk, memory.start};
  Request* echo = request(PacketKind::kSend);
  echo->quiet = true;
  std::uint8_t* base = BufferPool::use(place, text.size());
  REQUIRE(base != nullptr);
  echo->memory.add({base, text.size()}, place);
  echo->total = text.size();
  it.member->thread->submit(echo, holder.handle);
  it.flush();
  CHECK(it.hand_back(holder.key) == 0);
  second.write(framed(text));
  CHECK(it.take(kNotWithin).key == 0);
  std::string got;
  std::thread reader([&] { got = first.read(filler.size() + text.size()); });
  const Arrival other = it.take();
  reader.join();
  CHECK((got == filler + text));
  CHECK(other.text == text);
  REQUIRE(other.key != 0);
  CHECK(it.answer(other, "k") == 0);
  CHECK(second.read(1) == "k");
}

PORT_TEST("a document that could not fit into all of the memory is refused") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name, [](FramesSetup& setup) {
    setup.port.buffers.memory_limit = 100'000;
    setup.frames.max = 1 << 20;
    tell(setup.frames.failed, "failed");
  });
  Peer peer = it.connect();
  std::thread writer([&] { peer.write(framed(text_of(200'000))); });
  CHECK(read_to_end(peer) == "failed");
  writer.join();
  peer.shut();
  CHECK(eventually([&] { return it.empty(); }));
  CHECK(it.frames->stats().failed == 1);
}

PORT_TEST("a client is told why it is sent away also when all memory is taken") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name, [](FramesSetup& setup) {
    setup.port.buffers.memory_limit = 65536;
    setup.frames.max = 65536;
    tell(setup.frames.too_large, "too large");
  });
  Peer first = it.connect();
  first.write(framed(text_of(60'000)));
  const Arrival holder = it.take();
  REQUIRE(it.port->pool().allocated_bytes() == 65536);
  Peer second = it.connect(), third = it.connect();
  for (Peer* peer : {&second, &third}) {
    peer->write(u32be(65537));
    peer->end_writing();
    CHECK(read_to_end(*peer) == "too large");
  }
  CHECK(it.answer(holder, "k") == 0);
  CHECK(first.read(1) == "k");
}

/// Documents that have begun, and will want more room than the first: 16 KiB.
std::vector<Peer> begin_documents(FramesPipeline& it, std::size_t count, const std::string& text) {
  std::vector<Peer> peers;
  for (std::size_t i = 0; i < count; ++i) {
    peers.push_back(it.connect());
    peers.back().write(framed(text).substr(0, 5));
    CHECK(eventually([&] { return it.port->pool().allocated_bytes() == (i + 1) * 16384; }));
  }
  return peers;
}

PORT_TEST("documents whose blocks fill memory do not wait for blocks that are no larger") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name, [](FramesSetup& setup) {
    setup.port.buffers.memory_limit = 2 * 65536;
    setup.frames.max = 65536;
  });
  const std::string text = text_of(60'000);
  constexpr std::size_t kBegun = 3000;
  Peer first = it.connect(), second = it.connect();
  first.write(framed(text).substr(0, kBegun));
  CHECK(eventually([&] { return it.port->pool().allocated_bytes() == 65536; }));
  second.write(framed(text).substr(0, kBegun));
  CHECK(eventually([&] { return it.port->pool().allocated_bytes() == 2 * 65536; }));
  for (Peer* peer : {&first, &second}) peer->write(framed(text).substr(kBegun));
  for (int i = 0; i < 2; ++i) {
    const Arrival arrival = it.take();
    CHECK(arrival.text == text);
    CHECK(it.answer(arrival, "k") == 0);
  }
  for (Peer* peer : {&first, &second}) CHECK(peer->read(1) == "k");
  CHECK(it.frames->stats().failed == 0);
}

PORT_TEST("documents that wait for each other's memory: some give up, the others come through") {
  NEEDS_DRIVER();
  constexpr std::size_t kClients = 16;
  const std::string text = text_of(100'000);
  FramesPipeline it(D::name, [](FramesSetup& setup) {
    setup.port.buffers.memory_limit = kClients * 16384;
    setup.frames.max = 100'000;
    setup.frames.stall_timeout = 0;
    tell(setup.frames.failed, "failed");
  });
  std::vector<Peer> peers = begin_documents(it, kClients, text);
  std::vector<std::thread> writers;
  for (Peer& peer : peers) writers.emplace_back([&] { peer.write(framed(text).substr(5)); });
  std::size_t documents = 0;
  const auto failed = [&] { return static_cast<std::size_t>(it.frames->stats().failed); };
  while (documents + failed() < kClients) {
    const Arrival arrival = it.take(10 * kMillisecond);
    if (arrival.key == 0) continue;
    ++documents;
    CHECK(arrival.text == text);
    CHECK(it.answer(arrival, "k") == 0);
  }
  for (std::thread& writer : writers) writer.join();
  CHECK(documents > 0);
  std::size_t answered = 0;
  for (Peer& peer : peers) {
    const std::string said = peer.read(1);
    if (said == "k") {
      ++answered;
    } else {
      CHECK(said == "f");
      CHECK(read_to_end(peer) == "ailed");
    }
    peer.shut();
  }
  CHECK(answered == documents);
  CHECK(eventually([&] { return it.empty(); }));
}

PORT_TEST("clients that announce much and send little do not keep the others out") {
  NEEDS_DRIVER();
  const std::string text = text_of(100'000);
  FramesPipeline it(D::name, [](FramesSetup& setup) {
    setup.port.buffers.memory_limit = 262'144;
    setup.frames.max = 100'000;
    setup.frames.stall_timeout = 0;
  });
  std::vector<Peer> silent = begin_documents(it, 16, text);
  Peer busy = it.connect();
  for (int i = 0; i < 3; ++i) {
    busy.write(framed(text));
    const Arrival arrival = it.take();
    CHECK(arrival.text == text);
    CHECK(it.answer(arrival, "k") == 0);
    CHECK(busy.read(1) == "k");
  }
  const std::uint64_t failed = it.frames->stats().failed;
  CHECK(failed >= 8);
  // Those that gave up are still there, and in step.
  std::uint64_t lost = 0;
  for (Peer& peer : silent) {
    peer.write(framed(text).substr(5) + framed("next"));
    const Arrival arrival = it.take();
    const stage::RecordHeader& header = it.header(arrival.key);
    if (header.document.memory.chunk == driver::kNoChunk) {
      ++lost;
      CHECK(header.document.memory.start == ENOMEM);
    } else {
      CHECK(arrival.text == text);
    }
    CHECK(it.answer(arrival, "k") == 0);
    const Arrival next = it.take();
    CHECK(next.text == "next");
    CHECK(it.answer(next, "k") == 0);
    CHECK(peer.read(2) == "kk");
  }
  CHECK(lost == failed);
}

PORT_TEST("delimited documents, too, give up when they wait for each other") {
  NEEDS_DRIVER();
  constexpr std::size_t kClients = 8;
  FramesPipeline it(D::name, [](FramesSetup& setup) {
    setup.port.buffers.memory_limit = kClients * 16384;
    setup.frames.framing = framing_of(Framing::Kind::kDelimiter, "\n");
    setup.frames.stall_timeout = 0;
  });
  const std::string text(30'000, 'x');
  std::vector<Peer> peers;
  for (std::size_t i = 0; i < kClients; ++i) {
    peers.push_back(it.connect());
    peers.back().write(text.substr(0, 10));
    CHECK(eventually([&] { return it.port->pool().allocated_bytes() == (i + 1) * 16384; }));
  }
  for (Peer& peer : peers) peer.write(text.substr(10) + "\n");
  std::size_t whole = 0;
  for (std::size_t i = 0; i < kClients; ++i) {
    const Arrival arrival = it.take();
    REQUIRE(arrival.key != 0);
    if (arrival.text == text) ++whole;
    CHECK(it.answer(arrival, "k") == 0);
  }
  CHECK(whole > 0);
  CHECK(whole + it.frames->stats().failed == kClients);
  for (Peer& peer : peers) CHECK(peer.read(1) == "k");
}

PORT_TEST("documents move to files when an answer needs their memory") {
  NEEDS_DRIVER();
  const std::string text = text_of(100'000), answer = text_of(200'000, 2);
  FramesPipeline it(D::name, [](FramesSetup& setup) {
    setup.port.buffers.memory_limit = 262'144;
    setup.frames.spool_to_file = true;
    setup.frames.stall_timeout = 0;
  });
  Peer first = it.connect();
  first.write(framed(""));
  const Arrival to = it.take();
  std::vector<Peer> peers = begin_documents(it, 16, text);
  it.give_file(to.key, answer, answer.size());
  CHECK(it.hand_back(to.key) == 0);
  CHECK(first.read(answer.size()) == answer);
  for (Peer& peer : peers) {
    peer.write(framed(text).substr(5));
    const Arrival arrival = it.take();
    CHECK(arrival.text == text);
    CHECK(it.answer(arrival, "k") == 0);
    CHECK(peer.read(1) == "k");
  }
  CHECK(it.frames->stats().failed == 0);
}

PORT_TEST("a document goes to a file when memory has run out") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name, [](FramesSetup& setup) {
    setup.port.buffers.memory_limit = 65536;
    setup.frames.spool_to_file = true;
  });
  Peer first = it.connect(), second = it.connect();
  const std::string text = text_of(60'000);
  for (Peer* peer : {&first, &second}) {
    peer->write(framed(text));
    const Arrival arrival = it.take();
    CHECK(arrival.text == text);
    CHECK(arrival.in_file == (peer == &second));
    if (peer == &second) CHECK(it.answer(arrival, "k") == 0);
  }
  CHECK(second.read(1) == "k");
}

PORT_TEST("a client is told when its document can't be kept") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name, [](FramesSetup& setup) {
    setup.frames.spool_to_file = true;
    setup.frames.in_memory = 100;
    setup.frames.directory = "/nowhere/at/all";
    tell(setup.frames.failed, "failed");
  });
  Peer peer = it.connect();
  peer.write(framed(std::string(50, 'x')));
  const Arrival arrival = it.take();
  CHECK(it.answer(arrival, "k") == 0);
  CHECK(peer.read(1) == "k");
  peer.write(framed(text_of(100'000)));
  CHECK(read_to_end(peer) == "failed");
  peer.shut();
  CHECK(eventually([&] { return it.empty(); }));
  CHECK(it.frames->stats().failed == 1);
}

PORT_TEST("a client that has said all it had to say is told all the same") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name, [](FramesSetup& setup) {
    setup.frames.max = 10;
    tell(setup.frames.too_large, "too large");
  });
  Peer peer = it.connect();
  peer.write(framed(text_of(1000)));
  peer.end_writing();
  CHECK(read_to_end(peer) == "too large");
  CHECK(peer.ended);
  CHECK(eventually([&] { return it.empty(); }));
}

// ---- admission ---------------------------------------------------------------------------------

PORT_TEST("short documents find memory while half-sent long ones have what they may") {
  NEEDS_DRIVER();
  constexpr std::size_t kLimit = 32u << 20, kLong = 1u << 20;
  FramesPipeline it(D::name, [](FramesSetup& setup) {
    setup.port.buffers.memory_limit = kLimit;
    setup.frames.max = kLong;
    setup.frames.stall_timeout = 0;
  });
  std::vector<Peer> silent;
  const std::string begin = u32be(kLong) + text_of(kLong / 8);
  for (std::size_t i = 0; i < kLimit / kLong; ++i) {
    silent.push_back(it.connect());
    silent.back().write(begin);
  }
  CHECK(eventually([&] { return it.port->pool().allocated_bytes() >= kLimit / 4 * 3; }));
  Peer peer = it.connect();
  for (int i = 0; i < 20; ++i) {
    peer.write(framed("short"));
    const Arrival arrival = it.take();
    CHECK(arrival.text == "short");
    CHECK(it.answer(arrival, "k") == 0);
    CHECK(peer.read(1) == "k");
  }
}

PORT_TEST("who is slower than the least rate is sent away while others wait, and only then") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name, [](FramesSetup& setup) {
    setup.port.buffers.memory_limit = 1u << 20;
    setup.frames.max = 1u << 20;
    setup.frames.stall_timeout = 0;
    setup.frames.min_rate = 1000;
    // Its memory comes back at once, though it stays.
    setup.frames.farewell_timeout = 600'000;
    tell(setup.frames.timed_out, "too slow");
  });
  const std::string text = text_of(600'000);
  Peer slow = it.connect();
  slow.write(framed(text).substr(0, 100'000));
  const auto all = [&] { return it.port->pool().allocated_bytes() == 1u << 20; };
  CHECK(eventually(all));
  // Longer than it is looked at.
  std::this_thread::sleep_for(std::chrono::milliseconds(2500));
  CHECK(it.frames->stats().timed_out == 0);
  Peer other = it.connect();
  std::thread writer([&] { other.write(framed(text)); });
  CHECK(read_to_end(slow) == "too slow");
  const Arrival arrival = it.take();
  CHECK(arrival.text == text);
  CHECK(it.answer(arrival, "k") == 0);
  writer.join();
  CHECK(other.read(1) == "k");
  CHECK(it.frames->stats().timed_out == 1);
}

PORT_TEST("who waits for memory is neither stalled nor slow") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name, [](FramesSetup& setup) {
    setup.port.buffers.memory_limit = 1u << 20;
    setup.frames.max = 1u << 20;
    setup.frames.stall_timeout = 2000;
    setup.frames.min_rate = 1000;
  });
  const std::string text = text_of(600'000);
  Peer first = it.connect(), second = it.connect();
  first.write(framed(text));
  const Arrival holds = it.take();
  std::thread writer([&] {
    const std::string bytes = framed(text);
    second.write(bytes.substr(0, 4));
    // Announced, most likely, before it comes to wait for memory.
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    second.write(bytes.substr(4));
  });
  // Longer than it may stall, and than its rate is looked at.
  std::this_thread::sleep_for(std::chrono::milliseconds(2500));
  CHECK(it.answer(holds, "1") == 0);
  const Arrival waited = it.take();
  CHECK(waited.text == text);
  CHECK(it.answer(waited, "2") == 0);
  writer.join();
  CHECK(second.read(1) == "2");
  CHECK(it.frames->stats().timed_out == 0);
}

#ifndef _WIN32
PORT_TEST("an answer that nobody reads is given up while others wait for memory") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name, [](FramesSetup& setup) {
    setup.port.buffers.memory_limit = 1u << 20;
    setup.next.buffers.memory_limit = 16u << 20;
    setup.frames.stall_timeout = 0;
    setup.frames.min_rate = 1000;
  });
  Peer peer = it.connect();
  peer.write(framed("a"));
  const Arrival first = it.take();
  CHECK(it.answer(first, text_of(16u << 20)) == 0);
  // All memory of answers is its own until it is closed: its client reads nothing.
  Place place;
  CHECK(!it.member->thread->allocate(1 << 20, place));
  CHECK(eventually([&] { return it.frames->stats().timed_out == 1; }));
  CHECK(eventually([&] { return it.records->live() == 0; }));
  CHECK(it.next->pool().allocated_bytes() == 0);
}
#endif

PORT_TEST("a long document does not starve under a steady flow of short ones") {
  NEEDS_DRIVER();
  constexpr std::size_t kClients = 12;
  FramesPipeline it(D::name, [](FramesSetup& setup) {
    setup.port.buffers.memory_limit = kClients * 16384;
    setup.frames.max = 100'000;
    setup.frames.stall_timeout = 0;
  });
  const std::string short_one = text_of(16'000), long_one = text_of(100'000);
  std::vector<Peer> peers;
  std::vector<Arrival> here;
  for (std::size_t i = 0; i < kClients; ++i) {
    peers.push_back(it.connect());
    peers.back().write(framed(short_one));
    here.push_back(it.take());
  }
  Peer peer = it.connect();
  std::thread writer([&] { peer.write(framed(long_one)); });
  CHECK(it.take(kNotWithin).key == 0);
  // Each short one is followed by another, so that there is never memory for the long one but by
  // waiting for it.
  bool came = false;
  for (std::size_t i = 0; i < 20 * kClients && !came; ++i) {
    if (here.empty()) {
      here.push_back(it.take());
      came = here.back().text == long_one;
      continue;
    }
    const Arrival arrival = here.front();
    here.erase(here.begin());
    CHECK(it.answer(arrival, "") == 0);
    peers[i % kClients].write(framed(short_one));
    for (Arrival next; (next = it.take(0)).key != 0;) {
      here.push_back(next);
      came = came || next.text == long_one;
    }
  }
  CHECK(came);
  writer.join();
}

PORT_TEST("documents in files have a limit, beyond which they are lost as on a full disk") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name, [](FramesSetup& setup) {
    setup.frames.spool_to_file = true;
    setup.frames.in_memory = 100;
    setup.frames.file_limit = 100'000;
  });
  Peer holder = it.connect(), other = it.connect();
  holder.write(framed(text_of(60'000)));
  const Arrival held = it.take();
  CHECK(held.in_file);
  CHECK(it.frames->stats().in_files == 60'000);
  other.write(framed(text_of(50'000)));
  const Arrival lost = it.take();
  CHECK(it.header(lost.key).document.memory.chunk == driver::kNoChunk);
  CHECK(it.frames->stats().failed == 1);
  CHECK(it.answer(lost, "k") == 0);
  CHECK(it.answer(held, "k") == 0);
  CHECK(holder.read(1) == "k");
  CHECK(eventually([&] { return it.frames->stats().in_files == 0; }));
  CHECK(other.read(1) == "k");
  other.write(framed(text_of(50'000)));
  const Arrival kept = it.take();
  CHECK(kept.text == text_of(50'000));
  CHECK(it.answer(kept, "k") == 0);
}

}  // namespace
