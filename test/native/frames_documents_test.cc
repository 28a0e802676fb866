// The native stage, from a client's bytes to a document: framing, deadlines, ends.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "support/documents.h"

namespace {

using namespace cp;
using namespace cp::stage;
using namespace cp::test;

// ---- receiving ---------------------------------------------------------------------------------

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

// ---- time --------------------------------------------------------------------------------------

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
  for (const double time : {50.0, 0.0}) {
    FramesPipeline it(D::name, [=](FramesSetup& setup) {
      setup.frames.max = 10;
      setup.frames.farewell_timeout = time;
      tell(setup.frames.too_large, "too large");
    });
    Peer peer = it.connect();
    peer.write(framed(text_of(1000)));
    if (time > 0) CHECK(peer.read(9) == "too large");  // else there may be none to read it
    CHECK(eventually([&] { return it.frames->stats().too_large == 1 && it.empty(); }));
  }
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

// ---- ends --------------------------------------------------------------------------------------

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
      if (view.kind == HandleKind::kSocket) it.close_there(id);
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

}  // namespace
