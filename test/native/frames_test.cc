// The native stage, from a client's bytes to the next stage and back.
#include "support/frames.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <deque>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace cp;
using namespace cp::stage;
using namespace cp::test;

constexpr std::int64_t kMillisecond = 1'000'000;
/// For what must not come.
constexpr std::int64_t kNotWithin = 60 * kMillisecond;

void tell(std::vector<std::uint8_t>& what, const std::string& text) {
  what.assign(text.begin(), text.end());
}

Framing framing_of(Framing::Kind kind, const std::string& delimiter = "") {
  return Framing(kind, {delimiter.begin(), delimiter.end()});
}

/// Everything until the end of the stream.
std::string read_to_end(Peer& peer) {
  constexpr std::size_t kPart = 65536;
  std::string all, part;
  do {
    part = peer.read(kPart);
    all += part;
  } while (part.size() == kPart);
  return all;
}

// ---- receiving --------------------------------------------------------------------------------

struct Style {
  Framing::Kind kind;
  const char* delimiter;
  std::string (*frame)(const std::string&);
};
const Style kStyles[] = {
    {Framing::Kind::kU8, "",
     [](const std::string& t) { return std::string(1, static_cast<char>(t.size())) + t; }},
    {Framing::Kind::kU16be, "", [](const std::string& t) { return u32be(t.size()).substr(2) + t; }},
    {Framing::Kind::kU32be, "", framed},
    {Framing::Kind::kU32le, "",
     [](const std::string& t) {
       const std::string head = u32be(t.size());
       return std::string(head.rbegin(), head.rend()) + t;
     }},
    {Framing::Kind::kVarint, "",
     [](const std::string& t) {
       std::string head;
       for (std::size_t n = t.size();; n >>= 7) {
         head += static_cast<char>(n > 127 ? (n & 127) | 128 : n);
         if (n <= 127) return head + t;
       }
     }},
    {Framing::Kind::kDelimiter, "\r\n\r\n", [](const std::string& t) { return t + "\r\n\r\n"; }},
};

PORT_TEST("documents arrive whole and in order, however the stream is cut") {
  NEEDS_DRIVER();
  for (const Style& style : kStyles) {
    for (const bool spool : {false, true}) {
      FramesPipeline it(D::name, [&](FramesSetup& setup) {
        setup.frames.framing = framing_of(style.kind, style.delimiter);
        setup.frames.spool_to_file = spool;
        setup.frames.in_memory = 10;
      });
      for (const std::size_t step : {1u, 2u, 3u, 7u, 50u, 100'000u}) {
        CAPTURE(static_cast<int>(style.kind));
        CAPTURE(step);
        const std::vector<std::string> texts = {"", "one", std::string(200, 'x'), "\r", ""};
        std::string stream;
        for (const std::string& text : texts) stream += style.frame(text);
        Peer peer = it.connect();
        std::thread writer([&] {
          for (std::size_t at = 0; at < stream.size(); at += step) {
            peer.write(stream.substr(at, step));
          }
        });
        for (std::size_t i = 0; i < texts.size(); ++i) {
          const Arrival arrival = it.take();
          REQUIRE(arrival.key != 0);
          CHECK(arrival.text == texts[i]);
          CHECK(arrival.number == i + 1);
          CHECK(arrival.in_file == (spool && texts[i].size() > 10));
          CHECK(it.answer(arrival, "ok") == 0);
        }
        CHECK(peer.read(10) == "okokokokok");
        writer.join();
      }
      CHECK(eventually([&] { return it.empty(); }));
    }
  }
}

PORT_TEST("many documents in one segment are answered one after the other") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name);
  Peer peer = it.connect();
  std::string stream, answers;
  for (int i = 0; i < 100; ++i) stream += framed("document " + std::to_string(i));
  peer.write(stream);
  for (int i = 0; i < 100; ++i) {
    const Arrival arrival = it.take();
    CHECK(arrival.text == "document " + std::to_string(i));
    const std::string answer = "answer " + std::to_string(i) + "\n";
    answers += answer;
    CHECK(it.answer(arrival, answer) == 0);
  }
  CHECK(peer.read(answers.size()) == answers);
  CHECK(it.frames->stats().documents == 100);
  CHECK(eventually([&] { return it.frames->stats().replies == 100; }));
}

PORT_TEST("a long document is kept in memory, or in a file from a length on") {
  NEEDS_DRIVER();
  for (const bool spool : {false, true}) {
    FramesPipeline it(D::name, [&](FramesSetup& setup) {
      setup.frames.spool_to_file = spool;
      if (spool) setup.frames.in_memory = 100'000;
    });
    Peer peer = it.connect();
    for (const std::size_t length : {4096u, 100'000u, 100'001u, 3'000'000u}) {
      const std::string text = text_of(length);
      std::thread writer([&] { peer.write(framed(text)); });
      const Arrival arrival = it.take();
      writer.join();
      CHECK(arrival.text == text);
      CHECK(arrival.in_file == (spool && length > 100'000));
      CHECK(it.answer(arrival, "k") == 0);
      CHECK(peer.read(1) == "k");
    }
    CHECK(it.frames->stats().bytes == 4096u + 100'000u + 100'001u + 3'000'000u);
    CHECK(it.frames->stats().spooled == (spool ? 2u : 0u));
  }
}

PORT_TEST("a delimited document grows, and moves to a file when it is too long for memory") {
  NEEDS_DRIVER();
  for (const bool spool : {false, true}) {
    FramesPipeline it(D::name, [&](FramesSetup& setup) {
      setup.frames.framing = framing_of(Framing::Kind::kDelimiter, "aab");
      setup.frames.spool_to_file = spool;
      if (spool) setup.frames.in_memory = 50'000;
    });
    Peer peer = it.connect();
    std::string text(200'000, 'c');
    for (std::size_t i = 0; i < text.size(); i += 100) text[i] = text[i + 1] = 'a';
    for (std::size_t round = 0; round < 5; ++round) {
      text += 'a';  // the delimiter lies elsewhere in the receive buffers
      std::thread writer([&] { peer.write(text + "aab"); });
      const Arrival arrival = it.take();
      writer.join();
      CHECK(arrival.text == text);
      CHECK(arrival.in_file == spool);
      CHECK(it.answer(arrival, "k") == 0);
      CHECK(peer.read(1) == "k");
    }
  }
}

PORT_TEST("the longest document is taken, a longer one is refused") {
  NEEDS_DRIVER();
  for (const Style& style : {kStyles[2], kStyles[4], kStyles[5]}) {
    FramesPipeline it(D::name, [&](FramesSetup& setup) {
      setup.frames.framing = framing_of(style.kind, style.delimiter);
      setup.frames.max = 1000;
      tell(setup.frames.too_large, "too large");
    });
    Peer peer = it.connect();
    const std::string text(1000, 'x');
    peer.write(style.frame(text));
    const Arrival arrival = it.take();
    CHECK(arrival.text == text);
    CHECK(it.answer(arrival, "k") == 0);
    CHECK(peer.read(1) == "k");
    peer.write(style.frame(text + 'y'));
    CHECK(read_to_end(peer) == "too large");
    CHECK(peer.ended);
    peer.shut();
    CHECK(eventually([&] { return it.empty(); }));
    CHECK(it.frames->stats().too_large == 1);
  }
}

PORT_TEST("a malformed length ends the connection") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name, [](FramesSetup& setup) {
    setup.frames.framing = framing_of(Framing::Kind::kVarint);
  });
  Peer peer = it.connect();
  peer.write(std::string(20, '\xff'));
  CHECK(read_to_end(peer) == "");
  CHECK(eventually([&] { return it.empty(); }));
}

// ---- memory and files -------------------------------------------------------------------------

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
  it.member->close(handle);
  it.flush();
  CHECK(read_to_end(second) == "");
  CHECK(it.answer(holder, "k") == 0);
  const Arrival other = it.take();
  CHECK(other.text == "third");
  CHECK(it.answer(other, "k") == 0);
  CHECK(third.read(1) == "k");
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

// ---- time -------------------------------------------------------------------------------------

PORT_TEST("a connection that idles for too long is closed without a word") {
  NEEDS_DRIVER();
  for (const Style& style : {kStyles[2], kStyles[5]}) {
    FramesPipeline it(D::name, [&](FramesSetup& setup) {
      setup.frames.framing = framing_of(style.kind, style.delimiter);
      setup.frames.idle_timeout = 30;
      tell(setup.frames.timed_out, "timed out");
    });
    Peer never = it.connect();
    CHECK(read_to_end(never) == "");
    CHECK(never.ended);
    CHECK(eventually([&] { return it.empty(); }));
    CHECK(it.frames->stats().timed_out == 0);
  }
}

PORT_TEST("between documents a client may take its time, whatever a document may take") {
  NEEDS_DRIVER();
  for (const Style& style : {kStyles[2], kStyles[5]}) {
    FramesPipeline it(D::name, [&](FramesSetup& setup) {
      setup.frames.framing = framing_of(style.kind, style.delimiter);
      setup.frames.document_timeout = 30'000;
    });
    Peer peer = it.connect();
    for (int i = 0; i < 2; ++i) {
      CHECK(it.take(3 * kNotWithin).key == 0);
      CHECK(it.frames->stats().timed_out == 0);
      peer.write(style.frame("a document"));
      const Arrival arrival = it.take();
      CHECK(arrival.text == "a document");
      CHECK(it.answer(arrival, "k") == 0);
      CHECK(peer.read(1) == "k");
    }
  }
}

PORT_TEST("a client that stalls in the middle of a document is told, and closed") {
  NEEDS_DRIVER();
  const std::string streams[] = {framed("x").substr(0, 2), framed(text_of(1000)).substr(0, 500),
                                 framed(text_of(100'000)).substr(0, 50'000)};
  for (const bool spool : {false, true}) {
    for (const std::string& stream : streams) {
      FramesPipeline it(D::name, [&](FramesSetup& setup) {
        setup.frames.spool_to_file = spool;
        setup.frames.in_memory = 10;
        setup.frames.stall_timeout = 50;
        tell(setup.frames.timed_out, "timed out");
      });
      Peer peer = it.connect();
      peer.write(stream);
      CHECK(read_to_end(peer) == "timed out");
      CHECK(peer.ended);
      peer.shut();
      CHECK(eventually([&] { return it.empty(); }));
      CHECK(it.frames->stats().timed_out == 1);
    }
  }
}

PORT_TEST("a document that takes too long is given up although something always comes") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name, [](FramesSetup& setup) {
    setup.frames.stall_timeout = 30'000;
    setup.frames.document_timeout = 200;
    tell(setup.frames.timed_out, "timed out");
  });
  Peer peer = it.connect();
  std::atomic<bool> told{false};
  peer.write(u32be(1 << 20));
  std::thread trickle([&] {
    while (!told && peer.write("x")) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  });
  CHECK(peer.read(9) == "timed out");
  told = true;
  trickle.join();
  peer.shut();
  CHECK(eventually([&] { return it.empty(); }));
}

PORT_TEST("a client that was sent away and stays is closed") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name, [](FramesSetup& setup) {
    setup.frames.max = 10;
    setup.frames.farewell_timeout = 50;
    tell(setup.frames.too_large, "too large");
  });
  Peer peer = it.connect();
  peer.write(framed(text_of(1000)));
  CHECK(peer.read(9) == "too large");
  CHECK(eventually([&] { return it.empty(); }));
}

PORT_TEST("no deadline runs while a document is at the next stage") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name, [](FramesSetup& setup) {
    setup.frames.idle_timeout = setup.frames.stall_timeout = setup.frames.document_timeout = 100;
  });
  Peer peer = it.connect();
  peer.write(framed("document"));
  const Arrival arrival = it.take();
  REQUIRE(arrival.key != 0);
  CHECK(it.header(arrival.key).deadline == 0);
  CHECK(it.member->next(5 * kNotWithin).kind == PacketKind::kNone);
  CHECK(it.answer(arrival, "k") == 0);
  CHECK(peer.read(1) == "k");
}

// ---- ends -------------------------------------------------------------------------------------

PORT_TEST("an end or a reset in any phase gives everything back") {
  NEEDS_DRIVER();
  for (const bool spool : {false, true}) {
    FramesPipeline it(D::name, [&](FramesSetup& setup) {
      setup.frames.spool_to_file = spool;
      setup.frames.in_memory = 100;
    });
    const std::string stream = framed(text_of(500'000));
    for (const std::size_t sent : {0u, 1u, 4u, 5u, 300u, 20'000u, 400'000u}) {
      for (const bool reset : {false, true}) {
        Peer peer = it.connect();
        peer.write(stream.substr(0, sent));
        reset ? peer.reset() : peer.shut();
        CHECK(eventually([&] { return it.empty(); }));
      }
    }
    CHECK(it.frames->stats().documents == 0);
  }
}

PORT_TEST("a reset while the answer goes out gives everything back") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name);
  const std::string text = text_of(20'000'000);
  for (const bool file : {false, true}) {
    Peer peer = it.connect();
    peer.write(framed("document"));
    const Arrival arrival = it.take();
    if (file) {
      it.give_file(arrival.key, text, text.size());
      CHECK(it.hand_back(arrival.key) == 0);
    } else {
      CHECK(it.answer(arrival, text) == 0);
    }
    CHECK(peer.read(100) == text.substr(0, 100));
    peer.reset();
    CHECK(eventually([&] { return it.empty() && it.next->pool().allocated_bytes() == 0; }));
  }
}

PORT_TEST("a client that has ended its side gets the answers to what it had sent") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name);
  Peer peer = it.connect();
  peer.write(framed("one") + framed("two") + framed("half").substr(0, 6));
  peer.end_writing();
  for (const char* text : {"one", "two"}) {
    const Arrival arrival = it.take();
    CHECK(arrival.text == text);
    CHECK(it.answer(arrival, text) == 0);
  }
  CHECK(read_to_end(peer) == "onetwo");
  CHECK(peer.ended);
  CHECK(eventually([&] { return it.empty(); }));
}

PORT_TEST("a connection that the program closes while its document waits gives everything back") {
  NEEDS_DRIVER();
  for (const bool spool : {false, true}) {
    FramesPipeline it(D::name, [&](FramesSetup& setup) {
      setup.frames.spool_to_file = spool;
      setup.frames.in_memory = 100;
      setup.frames.queue = 1;
    });
    Peer first = it.connect();
    first.write(framed(text_of(5000)));
    const Arrival arrival = it.take();
    Peer second = it.connect();
    second.write(framed(text_of(5000)));
    CHECK(eventually([&] { return it.frames->stats().waiting == 1; }));
    for (const HandleId id : it.port->handles()) {
      const HandleView view = Port::look_up(id);
      if (view.kind == HandleKind::kSocket) it.member->close(id);
    }
    it.flush();
    CHECK(read_to_end(second) == "");
    CHECK(eventually([&] { return it.records->live() == 1; }));
    it.close(*it.member, arrival);
    CHECK(eventually([&] { return it.empty(); }));
    // Nobody's place is lost.
    Peer third = it.connect();
    third.write(framed("third"));
    const Arrival last = it.take();
    CHECK(last.text == "third");
    CHECK(it.answer(last, "k") == 0);
    CHECK(third.read(1) == "k");
  }
}

// ---- the next stage ---------------------------------------------------------------------------

PORT_TEST("documents wait for a place in the next stage, and go there in the order they came") {
  NEEDS_DRIVER();
  constexpr std::size_t kClients = 8;
  FramesPipeline it(D::name, [](FramesSetup& setup) { setup.frames.queue = 2; });
  std::vector<Peer> peers;
  std::vector<Arrival> here;
  for (std::size_t i = 0; i < kClients; ++i) {
    peers.push_back(it.connect());
    // More follows each: it is left where it is.
    peers.back().write(framed("document " + std::to_string(i)) + framed("more"));
    if (i < 2) here.push_back(it.take());
    const std::size_t waiting = i < 2 ? 0 : i - 1;
    CHECK(eventually([&] { return it.frames->stats().waiting == waiting; }));
  }
  CHECK(it.frames->stats().queued == 2);
  CHECK(it.take(kNotWithin).key == 0);
  // Each closes, so that no second document comes in between.
  for (std::size_t i = 0; i < kClients; ++i) {
    REQUIRE(i < here.size());
    CHECK(here[i].text == "document " + std::to_string(i));
    it.close(*it.member, here[i]);
    if (here.size() < kClients) here.push_back(it.take());
  }
  CHECK(eventually([&] { return it.empty(); }));
}

PORT_TEST("a connection that the next stage closes gives its place and memory back") {
  NEEDS_DRIVER();
  for (const bool spool : {false, true}) {
    FramesPipeline it(D::name, [&](FramesSetup& setup) {
      setup.frames.queue = 1;
      setup.frames.spool_to_file = spool;
      setup.frames.in_memory = 100;
    });
    for (int i = 0; i < 5; ++i) {
      Peer peer = it.connect();
      peer.write(framed(text_of(10'000)) + framed(text_of(2000)));
      const Arrival arrival = it.take();
      CHECK(arrival.text == text_of(10'000));
      it.give_file(arrival.key, "never sent", 10);
      it.close(*it.member, arrival);
      CHECK(read_to_end(peer) == "");
      CHECK(eventually([&] { return it.empty(); }));
    }
  }
}

PORT_TEST("a connection may come back without an answer") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name);
  Peer peer = it.connect();
  peer.write(framed("one") + framed("two"));
  const Arrival first = it.take();
  REQUIRE(first.key != 0);
  CHECK(it.hand_back(first.key) == 0);
  const Arrival second = it.take();
  CHECK(second.text == "two");
  CHECK(it.answer(second, "k") == 0);
  CHECK(peer.read(1) == "k");
  CHECK(eventually([&] { return it.frames->stats().replies == 1; }));
}

PORT_TEST("a connection is closed when the next stage is not there any more") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name);
  it.member->leave(false);
  Peer peer = it.connect();
  peer.write(framed("one"));
  CHECK(read_to_end(peer) == "");
  CHECK(eventually([&] { return it.empty(); }));
}

PORT_TEST("an answer is memory, a part of a file, both, or nothing") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name);
  Peer peer = it.connect();
  const std::string long_text = text_of(1'500'000, 7), short_text = text_of(100, 8);
  struct Case {
    const std::string memory, file;
    std::uint64_t offset;
  };
  const Case cases[] = {
      {short_text, "", 0},   {long_text, "", 0},         {"", short_text, 0},
      {"", long_text, 5000}, {short_text, long_text, 0}, {long_text, short_text, 5'000'000'000},
      {"", "", 0},           {short_text, short_text, 1}};
  for (const Case& one : cases) {
    std::thread writer([&] { peer.write(framed("document")); });
    const Arrival arrival = it.take();
    REQUIRE(arrival.key != 0);
    it.give_memory(*it.member, arrival.key, one.memory);
    if (!one.file.empty()) it.give_file(arrival.key, one.file, one.file.size(), one.offset);
    CHECK(it.hand_back(arrival.key) == 0);
    const std::string expected = one.memory + one.file;
    CHECK(peer.read(expected.size()) == expected);
    writer.join();
  }
  CHECK(eventually([&] { return it.frames->stats().replies == std::size(cases); }));
  CHECK(eventually([&] { return it.next->pool().allocated_bytes() == 0; }));
}

PORT_TEST("a file that is shorter than it was said to be ends the connection") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name);
  Peer peer = it.connect();
  peer.write(framed("document"));
  const Arrival arrival = it.take();
  it.give_file(arrival.key, "short", 100);
  CHECK(it.hand_back(arrival.key) == 0);
  CHECK(read_to_end(peer) == "short");
  CHECK(eventually([&] { return it.empty(); }));
}

PORT_TEST("answers from files wait for memory, too") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name, [](FramesSetup& setup) {
    setup.port.buffers.memory_limit = 400'000;
    setup.frames.max = 262'144;
  });
  Peer first = it.connect(), second = it.connect();
  const std::string text = text_of(250'000);
  second.write(framed("document"));
  const Arrival to = it.take();
  first.write(framed(text));
  const Arrival holder = it.take();
  CHECK(holder.text == text);
  it.give_file(to.key, text, text.size());
  CHECK(it.hand_back(to.key) == 0);
  CHECK(it.take(kNotWithin).key == 0);
  CHECK(it.answer(holder, "k") == 0);
  CHECK(second.read(text.size()) == text);
  CHECK(first.read(1) == "k");
}

PORT_TEST("a client that does not read its answer is closed after a while") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name, [](FramesSetup& setup) { setup.frames.stall_timeout = 200; });
  for (const bool file : {false, true}) {
    Peer peer = it.connect();
    peer.write(framed("document"));
    const Arrival arrival = it.take();
    const std::string text = text_of(30'000'000);
    if (file) {
      it.give_file(arrival.key, text, text.size());
      CHECK(it.hand_back(arrival.key) == 0);
    } else {
      CHECK(it.answer(arrival, text) == 0);
    }
    CHECK(eventually([&] { return it.empty(); }));
  }
  CHECK(it.frames->stats().timed_out == 2);
}

// ---- connections of another stage -------------------------------------------------------------

/// A connection that the next stage has accepted itself.
struct Foreign {
  Peer peer;
  std::uint32_t key;
  HandleId handle;
};
Foreign accept_at_next(FramesPipeline& it) {
  it.next->set_key_source(it.records);
  const HandleId id = listener(*it.member, true, FramesStage::kListener);
  Connection made = connection(*it.next, *it.member, id);
  it.member->close(id);
  stage::RecordHeader& header = it.header(made.key);
  header.stage = kNextStage;
  return {std::move(made.peer), made.key, made.handle};
}

void stash(FramesPipeline& it, std::uint32_t key, const std::string& bytes) {
  Piece piece;
  REQUIRE(it.member->thread->allocate(bytes.size(), piece.place));
  BufferPool::assign(piece.place, 0);
  std::memcpy(Chunk::find(piece.place.chunk)->base() + piece.place.offset, bytes.data(),
              bytes.size());
  piece.length = static_cast<std::uint32_t>(bytes.size());
  it.records->cargo(key)->stash.push_back(piece);
  it.header(key).stashed += piece.length;
}

PORT_TEST("a connection that another stage has accepted brings what it had received") {
  NEEDS_DRIVER();
  for (const bool spool : {false, true}) {
    FramesPipeline it(D::name, [&](FramesSetup& setup) {
      setup.frames.spool_to_file = spool;
      setup.frames.in_memory = 100;
    });
    {
      Foreign one = accept_at_next(it);
      const std::string stream = framed("one") + framed(text_of(9000)) + framed("three");
      for (std::size_t at = 0; at < 8000; at += 1000) stash(it, one.key, stream.substr(at, 1000));
      CHECK(it.hand_back(one.key) == 0);
      one.peer.write(stream.substr(8000));
      for (const std::string& text : {std::string("one"), text_of(9000), std::string("three")}) {
        const Arrival arrival = it.take();
        CHECK(arrival.text == text);
        CHECK(it.answer(arrival, "k") == 0);
      }
      CHECK(one.peer.read(3) == "kkk");
      CHECK(it.header(one.key).stashed == 0);
    }
    CHECK(eventually([&] { return it.records->live() == 0; }));
  }
}

PORT_TEST("a receive that another stage had begun keeps its place in the stream") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name);
  Foreign one = accept_at_next(it);
  const std::string big = text_of(50'000, 3);
  const std::string stream = framed("one") + framed("two") + framed(big);
  stash(it, one.key, stream.substr(0, 9));
  it.member->receive(one.handle, false);
  it.flush();
  CHECK(it.hand_back(one.key) == 0);
  const Arrival first = it.take();
  CHECK(first.text == "one");
  // It answers while a document is at the next stage, or an answer goes out.
  CHECK(it.answer(first, "k") == 0);
  std::thread writer([&] { one.peer.write(stream.substr(9)); });
  const Arrival second = it.take();
  CHECK(second.text == "two");
  CHECK(it.answer(second, "k") == 0);
  const Arrival third = it.take();
  CHECK(third.text == big);
  CHECK(it.answer(third, "k") == 0);
  CHECK(one.peer.read(3) == "kkk");
  writer.join();
}

PORT_TEST("what another stage's receive brings comes behind what it had left") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name, [](FramesSetup& setup) { setup.frames.queue = 1; });
  Peer holder = it.connect();
  holder.write(framed("holder"));
  const Arrival held = it.take();
  Foreign one = accept_at_next(it);
  const std::string stream = framed("one") + framed("two") + framed("three");
  stash(it, one.key, stream.substr(0, 10));
  it.member->receive(one.handle, false);
  it.flush();
  CHECK(it.hand_back(one.key) == 0);
  // Its first document waits for a place, and a piece of the next lies in the stash.
  CHECK(eventually([&] { return it.frames->stats().waiting == 1; }));
  one.peer.write(stream.substr(10));
  CHECK(it.take(kNotWithin).key == 0);
  CHECK(it.answer(held, "k") == 0);
  for (const char* text : {"one", "two", "three"}) {
    const Arrival arrival = it.take();
    CHECK(arrival.text == text);
    CHECK(it.answer(arrival, "k") == 0);
  }
  CHECK(one.peer.read(3) == "kkk");
}

/// The connection that is there when there is one.
std::uint32_t only_key(FramesPipeline& it) {
  std::uint32_t key = 0;
  CHECK(eventually([&] {
    it.records->for_each([&](const RecordHeader& header) { key = header.name; });
    return key != 0;
  }));
  return key;
}

/// Told once more of a hand-off to the frames stage.
void repeat_notice(FramesPipeline& it, std::uint32_t key) {
  Packet notice;
  notice.kind = PacketKind::kHandOff;
  notice.key = key;
  notice.handle = it.header(key).handle;
  it.port->dispatcher().push(notice, nullptr);
}

PORT_TEST("a notice of a hand-off for a connection that is not away is ignored") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name);
  Peer peer = it.connect();
  peer.write(framed("one") + framed("two") + framed("three"));
  const Arrival first = it.take();
  repeat_notice(it, first.key);  // while it is elsewhere
  const std::string long_answer = text_of(6'000'000);
  CHECK(it.answer(first, long_answer) == 0);
  // While the answer goes out.
  const auto answering = static_cast<std::uint8_t>(FrameState::kAnswering);
  CHECK(eventually([&] { return std::atomic_ref(it.header(first.key).state) == answering; }));
  for (int i = 0; i < 3; ++i) repeat_notice(it, first.key);
  CHECK(it.take(kNotWithin).key == 0);
  CHECK(peer.read(long_answer.size()) == long_answer);
  for (const char* text : {"two", "three"}) {
    const Arrival arrival = it.take();
    CHECK(arrival.text == text);
    CHECK(it.answer(arrival, text) == 0);
    repeat_notice(it, first.key);
  }
  CHECK(peer.read(8) == "twothree");
  peer.end_writing();
  CHECK(read_to_end(peer) == "");
  CHECK(it.frames->stats().replies == 3);
}

PORT_TEST("a connection that comes for the first time is begun where another one has ended") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name, [](FramesSetup& setup) { setup.records = 1; });
  for (int i = 0; i < 3; ++i) {
    {
      Peer peer = it.connect();
      peer.write(framed("one"));
      const Arrival arrival = it.take();
      CHECK(arrival.text == "one");
      it.close(*it.member, arrival);
    }
    Foreign other = accept_at_next(it);
    CHECK(it.hand_back(other.key) == 0);
    other.peer.write(framed("other"));
    const Arrival arrival = it.take();
    CHECK(arrival.text == "other");
    it.close(*it.member, arrival);
  }
}

/// What the next stage is told of a visit.
std::vector<double> take_messages(FramesPipeline& it, const Arrival& arrival) {
  REQUIRE(arrival.key != 0);
  std::deque<double>& messages = it.records->cargo(arrival.key)->messages;
  std::vector<double> taken(messages.begin(), messages.end());
  messages.clear();
  return taken;
}
bool has_document(FramesPipeline& it, const Arrival& arrival) {
  return (it.header(arrival.key).flags & kRecordHasDocument) != 0;
}

PORT_TEST("messages to a connection that rests reach the next stage (rule Q2)") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name);
  Peer peer = it.connect();
  const std::uint32_t key = only_key(it);
  constexpr int kRounds = 20, kMessages = 5;
  std::vector<double> posted, told;
  for (int round = 0; round < kRounds; ++round) {
    for (int i = 0; i < kMessages; ++i) {
      posted.push_back(round * kMessages + i);
      it.port->post(key, posted.back());
    }
    // As lib/stage/run/runner.ts does: one that comes when the connection is gone follows it.
    while (told.size() < posted.size()) {
      const Packet packet = it.member->next();
      REQUIRE(packet.kind != PacketKind::kNone);
      CHECK(packet.key == key);
      const bool here = it.header(key).port == it.next->id();
      if (packet.kind == PacketKind::kPosted) {
        if (here) told.push_back(packet.result);
        if (!here) it.port->post(key, packet.result, false);
      }
      if (packet.kind != PacketKind::kHandOff || !here) continue;
      const Arrival arrival = it.arrival(key);
      CHECK(!has_document(it, arrival));
      for (const double message : take_messages(it, arrival)) told.push_back(message);
      CHECK(it.hand_back(key) == 0);
    }
  }
  std::sort(told.begin(), told.end());
  CHECK(told == posted);
  // The client's bytes have kept their order, and its receives have not become more.
  peer.write(framed("one"));
  const Arrival arrival = it.take();
  CHECK(arrival.text == "one");
  CHECK(arrival.number == 1);
  CHECK(it.answer(arrival, "k") == 0);
  CHECK(peer.read(1) == "k");
  CHECK(eventually([&] { return Port::look_up(it.header(key).handle).in_flight == 1; }));
}

PORT_TEST("messages wait while a document comes or an answer goes, and come before the next") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name);
  Peer peer = it.connect();
  const std::uint32_t key = only_key(it);
  peer.write(framed("one").substr(0, 5));
  const auto receiving = static_cast<std::uint8_t>(FrameState::kReceiving);
  CHECK(eventually([&] { return std::atomic_ref(it.header(key).state) == receiving; }));
  it.port->post(key, 1);
  CHECK(it.take(kNotWithin).key == 0);
  peer.write(framed("one").substr(5) + framed("two"));
  const Arrival first = it.take();
  CHECK(first.text == "one");
  CHECK(take_messages(it, first) == std::vector<double>{1});
  const std::string answer = text_of(6'000'000);
  CHECK(it.answer(first, answer) == 0);
  const auto answering = static_cast<std::uint8_t>(FrameState::kAnswering);
  CHECK(eventually([&] { return std::atomic_ref(it.header(key).state) == answering; }));
  it.port->post(key, 2);
  CHECK(it.take(kNotWithin).key == 0);
  CHECK(peer.read(answer.size()) == answer);
  const Arrival visit = it.take();
  CHECK(!has_document(it, visit));
  CHECK(take_messages(it, visit) == std::vector<double>{2});
  CHECK(it.hand_back(key) == 0);
  const Arrival second = it.take();
  CHECK(second.text == "two");
  CHECK(it.answer(second, "k") == 0);
  CHECK(peer.read(1) == "k");
}

PORT_TEST("a message to a connection that is elsewhere follows it") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name);
  Peer peer = it.connect();
  peer.write(framed("one"));
  const Arrival arrival = it.take();
  it.port->post(arrival.key, 5);
  const Packet packet = it.member->next();
  CHECK(packet.kind == PacketKind::kPosted);
  CHECK(packet.key == arrival.key);
  CHECK(packet.result == 5);
  CHECK(it.answer(arrival, "k") == 0);
  CHECK(peer.read(1) == "k");
}

PORT_TEST("a receive that the next stage has begun is the only one when the connection is back") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name);
  Peer peer = it.connect();
  for (int i = 0; i < 20; ++i) {
    peer.write(framed("text"));
    const Arrival arrival = it.take();
    CHECK(arrival.text == "text");
    stage::RecordHeader& header = it.header(arrival.key);
    if ((header.flags & kRecordReceiving) == 0) {
      header.flags = static_cast<std::uint8_t>(header.flags | kRecordReceiving);
      it.member->receive(arrival.handle, false);
      it.flush();
    }
    CHECK(it.answer(arrival, "k") == 0);
    CHECK(peer.read(1) == "k");
    CHECK(eventually([&] { return Port::look_up(arrival.handle).in_flight == 1; }));
  }
}

PORT_TEST("bytes left over do not keep the buffers that others are received into") {
  NEEDS_DRIVER();
  constexpr std::size_t kClients = 64;
  FramesPipeline it(D::name, [](FramesSetup& setup) { setup.port.buffers.buffer_count = 16; });
  std::vector<Peer> peers;
  for (std::size_t i = 0; i < kClients; ++i) {
    peers.push_back(it.connect());
    peers.back().write(framed("x") + framed("y").substr(0, 3));
  }
  std::vector<Arrival> arrivals;
  for (std::size_t i = 0; i < kClients; ++i) {
    arrivals.push_back(it.take());
    REQUIRE(arrivals.back().text == "x");
  }
  for (const Arrival& arrival : arrivals) CHECK(it.answer(arrival, "k") == 0);
  for (Peer& peer : peers) {
    CHECK(peer.read(1) == "k");
    peer.write(framed("y").substr(3));
  }
  for (std::size_t i = 0; i < kClients; ++i) {
    const Arrival arrival = it.take();
    CHECK(arrival.text == "y");
    CHECK(it.answer(arrival, "k") == 0);
  }
}

PORT_TEST("what was left over goes into a file like everything else") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name, [](FramesSetup& setup) {
    setup.frames.spool_to_file = true;
    setup.frames.in_memory = 10;
  });
  Peer peer = it.connect();
  const std::string text = text_of(9000);
  peer.write(framed("x") + framed(text).substr(0, 500));
  const Arrival first = it.take();
  CHECK(it.answer(first, "k") == 0);
  CHECK(peer.read(1) == "k");
  peer.write(framed(text).substr(500));
  const Arrival second = it.take();
  CHECK(second.text == text);
  CHECK(second.in_file);
  CHECK(it.answer(second, "k") == 0);
}

PORT_TEST("a stage that ends closes connections between documents, and the others when answered") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name);
  Peer idle = it.connect(), busy = it.connect(), away = it.connect(), stalls = it.connect();
  busy.write(framed("document").substr(0, 6));
  away.write(framed("away") + framed("not begun"));
  stalls.write(framed("stalls").substr(0, 6));
  const Arrival first = it.take();
  CHECK(first.text == "away");
  const auto receives = [&] {
    int count = 0;
    const auto receiving = static_cast<std::uint8_t>(FrameState::kReceiving);
    it.records->for_each(
        [&](RecordHeader& header) { count += std::atomic_ref(header.state) == receiving; });
    return count;
  };
  CHECK(eventually([&] { return receives() == 2; }));
  it.frames->end_connections();
  CHECK(read_to_end(idle) == "");
  CHECK(idle.ended);
  CHECK(it.answer(first, "answer") == 0);
  CHECK(read_to_end(away) == "answer");
  CHECK(away.ended);
  busy.write(framed("document").substr(6));
  const Arrival second = it.take();
  CHECK(second.text == "document");
  CHECK(it.answer(second, "answer") == 0);
  CHECK(read_to_end(busy) == "answer");
  // One that comes now is not received from.
  Peer late = it.connect();
  late.write(framed("late"));
  CHECK(read_to_end(late) == "");
  CHECK(it.take(kNotWithin).key == 0);
  CHECK(it.frames->stats().documents == 2);
}

// ---- admission --------------------------------------------------------------------------------

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

// ---- documents together -----------------------------------------------------------------------

/// All that came with a packet.
std::vector<std::string> texts_of(FramesPipeline& it, const Arrival& arrival) {
  const Document& document = it.records->cargo(arrival.key)->document;
  if (document.parts.empty()) return {arrival.text};
  std::vector<std::string> texts;
  for (const Part& part : document.parts) {
    const std::uint8_t* base = BufferPool::use(document.place, 1);
    REQUIRE(base != nullptr);
    texts.emplace_back(reinterpret_cast<const char*>(base) + part.start, part.length);
    BufferPool::unuse(document.place);
  }
  return texts;
}

PORT_TEST("documents that come together are handed over together, whole and in order") {
  NEEDS_DRIVER();
  for (const Style& style : kStyles) {
    for (const std::size_t most : {2u, 7u, 1000u}) {
      FramesPipeline it(D::name, [&](FramesSetup& setup) {
        setup.frames.framing = framing_of(style.kind, style.delimiter);
        setup.frames.pipelined = static_cast<std::uint32_t>(most);
      });
      Peer peer = it.connect();
      std::vector<std::string> sent;
      std::string stream;
      for (std::size_t i = 0; i < 300; ++i) {
        sent.push_back(text_of(i * 7 % 200, static_cast<std::uint32_t>(i)));
        std::replace(sent.back().begin(), sent.back().end(), '\n', 'x');
        stream += style.frame(sent.back());
      }
      std::thread writer([&] { peer.write(stream); });
      std::size_t came = 0, packets = 0, longest = 0;
      while (came < sent.size()) {
        const Arrival arrival = it.take();
        REQUIRE(arrival.key != 0);
        const std::vector<std::string> texts = texts_of(it, arrival);
        ++packets;
        longest = std::max(longest, texts.size());
        for (const std::string& text : texts) CHECK(text == sent[came++]);
        CHECK(arrival.number == came);
        CHECK(it.answer(arrival, std::string(texts.size(), 'k')) == 0);
      }
      writer.join();
      CHECK(longest <= most);
      CHECK(packets < sent.size());
      CHECK(peer.read(sent.size()) == std::string(sent.size(), 'k'));
      CHECK(it.frames->stats().documents == sent.size());
    }
  }
}

PORT_TEST("deadlines follow a connection from stage to stage") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name, [](FramesSetup& setup) { setup.frames.idle_timeout = 50; });
  Foreign one = accept_at_next(it);
  CHECK(it.hand_back(one.key) == 0);
  CHECK(read_to_end(one.peer) == "");
  CHECK(eventually([&] { return it.records->live() == 0; }));
}

PORT_TEST("what has a key but no connection is not kept by the stage") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name);
  const std::uint32_t task = it.records->create(it.next->id(), 0);
  it.next->hand_off_key(*it.port, task, it.header(task).port);
  CHECK(eventually([&] { return it.records->live() == 0; }));
}

// ---- listening --------------------------------------------------------------------------------

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

// ---- stopping ---------------------------------------------------------------------------------

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
