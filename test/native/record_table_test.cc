// The records of a pipeline: names, deadlines, and what travels with a connection.
#include "stage/record_table.h"

#include <doctest/doctest.h>

#include <set>

#include "port/thread.h"
#include "support/member.h"

namespace {

using namespace cp;
using namespace cp::stage;
using namespace cp::test;

constexpr std::int64_t kMillisecond = 1'000'000;

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
  table->header(other)->deadline = static_cast<double>(driver::now()) / 1e6 + 3'600'000;
  table->header(name)->deadline = static_cast<double>(driver::now()) / 1e6 + 1;
  const auto packet = member.next();
  CHECK(packet.kind == PacketKind::kTimer);
  CHECK(packet.key == name);
  CHECK(packet.handle == 6);
  CHECK(table->header(name)->deadline == kExpired);
  CHECK(member.next(100 * kMillisecond).kind == PacketKind::kNone);
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
