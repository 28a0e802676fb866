// The records of a pipeline: names, deadlines, and what travels with a connection.
#include "stage/record_table.h"

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <memory>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "port/thread.h"
#include "support/member.h"

namespace {

using namespace cp;
using namespace cp::stage;
using namespace cp::test;

constexpr std::int64_t kMillisecond = 1'000'000;

void set_deadline(RecordTable& table, std::uint32_t name, double milliseconds) {
  const double now = static_cast<double>(driver::now()) / 1e6;
  table.set_deadline(name, *table.header(name), milliseconds == 0 ? 0 : now + milliseconds);
}

TEST_CASE("a record's name is unlike any that is in use or was before it") {
  const auto table = RecordTable::make(4, 128);
  std::set<std::uint32_t> names;
  for (int i = 0; i < 4; ++i) names.insert(table->create(1, 2));
  CHECK(names.size() == 4);
  CHECK(names.count(0) == 0);
  CHECK(table->create(1, 2) == 0);
  for (const std::uint32_t name : names) {
    REQUIRE(table->header(name) != nullptr);
    CHECK(table->header(name)->port == 1);
    CHECK(table->header(name)->handle == 2);
  }
  CHECK(table->header(0) == nullptr);
  CHECK(table->header(*names.begin() + (1u << 20)) == nullptr);
}

PORT_TEST("a released record's name is stale, and its memory is clean for the next") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options());
  Member member(*port);
  const auto table = RecordTable::make(1, 128);
  std::set<std::uint32_t> names;
  for (int i = 0; i < 5000; ++i) {
    const std::uint32_t name = table->create(1, 2);
    REQUIRE(name != 0);
    REQUIRE(name != 0xffffffff);
    std::uint8_t* memory = table->memory();
    REQUIRE(memory[127] == 0);
    memory[127] = 1;
    if (i < 4000) REQUIRE(names.insert(name).second);
    REQUIRE(table->release(name, *member.thread));
    CHECK_FALSE(table->release(name, *member.thread));
    CHECK(table->header(name) == nullptr);
    CHECK(table->cargo(name) == nullptr);
  }
}

PORT_TEST("what a record has is freed with it") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options());
  Member member(*port);
  const auto table = RecordTable::make(1, 128);
  const std::uint32_t name = table->create(1, 2);
  Cargo* cargo = table->cargo(name);
  REQUIRE(member.thread->allocate(5000, cargo->document.place));
  Piece piece;
  REQUIRE(member.thread->allocate(5000, piece.place));
  cargo->stash.push_back(piece);
  REQUIRE(member.thread->allocate(5000, cargo->reply.memory.place));
  struct Told final : Lease {
    explicit Told(bool& over) : over_(over) {}
    ~Told() override { over_ = true; }
    bool& over_;
  };
  bool over = false;
  cargo->document.lease = std::make_unique<Told>(over);
  CHECK(port->pool().allocated_bytes() > 0);
  table->release(name, *member.thread);
  CHECK(port->pool().allocated_bytes() == 0);
  CHECK(over);
}

PORT_TEST("a deadline that passes is told to the port of its record, once") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options());
  Member member(*port);
  const auto table = RecordTable::make(8, 128);
  const std::uint32_t other = table->create(port->id(), 5);
  const std::uint32_t name = table->create(port->id(), 6);
  set_deadline(*table, other, 3'600'000);
  set_deadline(*table, name, 1);
  const auto packet = member.next();
  CHECK(packet.kind == PacketKind::kTimer);
  CHECK(packet.key == name);
  CHECK(packet.handle == 6);
  CHECK(table->header(name)->deadline == kExpired);
  CHECK(member.next(100 * kMillisecond).kind == PacketKind::kNone);
}

PORT_TEST(
    "a deadline that is set anew counts, be it later or earlier, and one that is cleared doesn't") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options());
  Member member(*port);
  const auto table = RecordTable::make(8, 128);
  const std::uint32_t later = table->create(port->id(), 1);
  const std::uint32_t earlier = table->create(port->id(), 2);
  const std::uint32_t cleared = table->create(port->id(), 3);
  const std::uint32_t gone = table->create(port->id(), 4);
  set_deadline(*table, later, 50);
  set_deadline(*table, later, 3'600'000);
  set_deadline(*table, cleared, 50);
  set_deadline(*table, cleared, 0);
  set_deadline(*table, gone, 50);
  REQUIRE(table->release(gone, *member.thread));
  set_deadline(*table, earlier, 3'600'000);
  set_deadline(*table, earlier, 100);
  CHECK(member.next().key == earlier);
  CHECK(member.next(100 * kMillisecond).kind == PacketKind::kNone);
  set_deadline(*table, later, 20);
  CHECK(member.next().key == later);
  set_deadline(*table, later, 20);
  CHECK(member.next().key == later);
}

PORT_TEST("what lib/stage writes into a record is watched when it asks for that") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options());
  Member member(*port);
  const auto table = RecordTable::make(8, 128);
  const std::uint32_t name = table->create(port->id(), 1);
  const auto write = [&](double deadline) { table->header(name)->deadline = deadline; };
  CHECK(table->header(name)->watched == 0);
  write(static_cast<double>(driver::now()) / 1e6 + 30);
  table->watch(name);
  CHECK(table->header(name)->watched != 0);
  CHECK(member.next().key == name);
  CHECK(table->header(name)->watched == 0);
  table->watch(name + (1u << 20));  // no such record
  for (const double nonsense : {-5.0, 1e300, std::nan("")}) {
    write(nonsense);
    table->watch(name);
    CHECK(table->header(name)->watched == 0);
  }
  CHECK(member.next(50 * kMillisecond).kind == PacketKind::kNone);
}

TEST_CASE("the clock sleeps while no deadline passes, however many records there are") {
  const auto table = RecordTable::make(1000, 128);
  for (int i = 0; i < 1000; ++i) {
    const std::uint32_t name = table->create(1, 2);
    REQUIRE(name != 0);
    if (i % 2 == 0) set_deadline(*table, name, 3'600'000 + i);
    if (i % 2 == 0) set_deadline(*table, name, 7'200'000 + i);
  }
  std::uint64_t looks = 0;
  // Whoever entered an earlier one than all before has roused it.
  CHECK(eventually([&] { return std::exchange(looks, table->looks()) == table->looks(); }));
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  looks = table->looks();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  CHECK(table->looks() <= looks + 1);
}

PORT_TEST("threads that make, put off and release records lose neither records nor deadlines") {
  NEEDS_DRIVER();
  constexpr std::size_t kRecords = 300, kThreads = 4;
  const PortHold port = make_port(D::name, options());
  Member member(*port);
  const auto table = RecordTable::make(kRecords, 128);
  std::vector<std::unique_ptr<Member>> members;
  std::atomic<std::uint32_t> expected{0}, ready{0};
  std::atomic<bool> over{false};
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      Member mine(*port);
      Random random(t + 1);
      std::vector<std::uint32_t> names;
      for (int i = 0; i < 20'000; ++i) {
        if (names.size() < kRecords / kThreads / 2 || random.one_in(2)) {
          const std::uint32_t name = table->create(0, 7);
          if (name == 0) continue;
          names.push_back(name);
        } else {
          const std::size_t at = random(static_cast<std::uint32_t>(names.size()));
          if (random.one_in(4)) {
            table->release(names[at], *mine.thread);
            names.erase(names.begin() + static_cast<std::ptrdiff_t>(at));
          } else {
            set_deadline(*table, names[at], random.one_in(8) ? 0 : 1 + random(60));
          }
        }
        if (names.size() > kRecords / kThreads) {
          table->release(names.front(), *mine.thread);
          names.erase(names.begin());
        }
      }
      // The port is none's until here, so that nobody was told.
      for (const std::uint32_t name : names) {
        set_deadline(*table, name, 0);
        table->header(name)->port = port->id();
        set_deadline(*table, name, 1 + random(40));
        ++expected;
      }
      ++ready;
      while (!over) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    });
  }
  std::set<std::uint32_t> told;
  CHECK(eventually([&] {
    const auto packet = member.next(kMillisecond);
    if (packet.kind == PacketKind::kTimer && packet.handle == 7) told.insert(packet.key);
    return ready == kThreads && told.size() == expected;
  }));
  CHECK(told.size() == table->live());
  over = true;
  for (auto& thread : threads) thread.join();
  // All are to be had again.
  table->for_each([&](const RecordHeader& header) { table->release(header.name, *member.thread); });
  std::set<std::uint32_t> names;
  for (std::size_t i = 0; i < kRecords; ++i) names.insert(table->create(1, 2));
  CHECK(names.size() == kRecords);
  CHECK(names.count(0) == 0);
  CHECK(table->create(1, 2) == 0);
}

PORT_TEST("a table that goes with the port it names connections of may come to that port") {
  NEEDS_DRIVER();
  struct Comes final : Lease {
    explicit Comes(Port& port) : port_(port) {}
    ~Comes() override { port_.stats(); }
    Port& port_;
  };
  const auto named = [](Port& port) {
    const auto table = RecordTable::make(1, 128);
    table->cargo(table->create(1, 2))->document.lease = std::make_unique<Comes>(port);
    return table;
  };
  const PortHold port = make_port(D::name, options());
  Member member(*port);
  port->set_key_source(named(*port));
  port->set_key_source(named(*port));
  member.leave(false);
  CHECK(!Port::find(port->id()));
}

PORT_TEST("a document outlives the threads of both ports, and goes with its record's table") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options());
  {
    const auto table = RecordTable::make(1, 128);
    Cargo* cargo = table->cargo(table->create(1, 2));
    {
      Member member(*port);
      REQUIRE(port->pool().allocate(5000, 0, cargo->document.place));
    }
    CHECK(port->pool().allocated_bytes() > 0);
  }
  CHECK(port->pool().allocated_bytes() == 0);
}

PORT_TEST("the file of a released document may be closed already: nobody is told") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options());
  Member member(*port);
  const auto table = RecordTable::make(1, 128);
  const std::uint32_t name = table->create(1, 2);
  const driver::Result file = port->driver().temporary_file(temporary_directory().c_str());
  REQUIRE(file >= 0);
  const std::int64_t handle = member.thread->adopt_file(file, driver::FileKind::kRegular, {});
  table->cargo(name)->document.file = static_cast<std::uint32_t>(handle);
  member.close(static_cast<std::uint32_t>(handle));
  CHECK(member.next(100 * kMillisecond).kind == PacketKind::kNone);
  CHECK(table->release(name, *member.thread));
  CHECK(member.next(100 * kMillisecond).kind == PacketKind::kNone);
}

TEST_CASE("no record is made once the table is closed") {
  const auto table = RecordTable::make(2, 128);
  REQUIRE(table->create(1, 1) != 0);
  table->close();
  table->close();
  CHECK(table->create(1, 1) == 0);
}

}  // namespace
