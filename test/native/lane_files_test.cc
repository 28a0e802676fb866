// Files on a lane of each driver.
#include <doctest/doctest.h>

#include <cstring>
#include <string>
#include <vector>

#include "support/lane.h"

namespace {

using namespace cp::test;

LANE_TEST("a file is written, synced, read, truncated, changed, allocated, described and closed") {
  LANE(lane);
  TemporaryFiles files;
  const std::string path = files.name();
  const Handle file =
      open_or_fail(lane, opening(path, kOpenRead | kOpenWrite | kOpenCreate | kOpenExclusive),
                   FileKind::kRegular);

  std::string text = "completion";
  std::vector<Slice> out{slice(text)};
  Operation write = moving(file, Opcode::kWrite, out, 5);
  CHECK(lane.run(write) == 10);
  for (const Opcode code : {Opcode::kSync, Opcode::kDataSync}) {
    Operation sync = on(file, code);
    CHECK(lane.run(sync) == 0);
  }
  Bytes back(32);
  std::vector<Slice> in{slice(back)};
  Operation read = moving(file, Opcode::kRead, in, 5);
  CHECK(lane.run(read) == 10);
  CHECK(std::memcmp(back.data(), text.data(), 10) == 0);

  Operation truncate = on(file, Opcode::kTruncate);
  truncate.offset = 7;
  CHECK(lane.run(truncate) == 0);
  FileStatus status;
  Operation stat = on(file, Opcode::kStat);
  stat.status = &status;
  CHECK(lane.run(stat) == 0);
  CHECK(status.size == 7);
  CHECK(status.links == 1);
  CHECK((status.mode & 0170000) == 0100000);  // S_IFREG
  CHECK(status.modified > 1'000'000'000'000'000'000);

  Operation mode = on(file, Opcode::kSetMode);
  mode.offset = 0400;
  CHECK(lane.run(mode) == 0);
  Operation owner = on(file, Opcode::kSetOwner);
  owner.offset = owner.length = UINT32_MAX;
  CHECK(lane.run(owner) == 0);
  Operation times = on(file, Opcode::kSetTimes);
  times.offset = 1'000'002;
  times.length = static_cast<std::uint64_t>(std::int64_t{-3});
  CHECK(lane.run(times) == 0);
  CHECK(lane.run(stat) == 0);
  CHECK((status.mode & 0700) == 0400);
  if (!under_wine()) CHECK(status.accessed == 1'000'002'000);
  CHECK(status.modified == -3000);

  Operation allocate = on(file, Opcode::kAllocate);
  allocate.offset = 0;
  allocate.length = 10'000;
  const Result allocated = lane.run(allocate);
  if (allocated != -EOPNOTSUPP) {
    CHECK(allocated == 0);
    CHECK(lane.run(stat) == 0);
    CHECK(status.size == 10'000);
  }
  mode.offset = 0600;  // Windows deletes nothing that is not to be written
  CHECK(lane.run(mode) == 0);
  close_all(lane, {file}, false);
}

LANE_TEST("what is allocated of a sparse file cuts nothing off") {
  LANE(lane);
  TemporaryFiles files;
  const std::string path = files.name();
  const Handle file =
      open_or_fail(lane, opening(path, kOpenRead | kOpenWrite | kOpenCreate), FileKind::kRegular);
  constexpr std::int64_t kSize = 1 << 30;
  Operation truncate = on(file, Opcode::kTruncate);
  truncate.offset = kSize;
  CHECK(lane.run(truncate) == 0);
  Operation allocate = on(file, Opcode::kAllocate);
  allocate.length = 1 << 20;
  const Result allocated = lane.run(allocate);
  if (allocated != -EOPNOTSUPP) CHECK(allocated == 0);
  FileStatus status;
  Operation stat = on(file, Opcode::kStat);
  stat.status = &status;
  CHECK(lane.run(stat) == 0);
  CHECK(status.size == kSize);
  close_all(lane, {file}, false);
}

LANE_TEST("a file without the system's buffers is opened for writing") {
  LANE(lane);
  TemporaryFiles files;
  const std::string path = files.name();
  Operation open = opening(path, kOpenWrite | kOpenCreate | kOpenDirect);
  const Result opened = lane.run(open);
#ifndef _WIN32
  if (opened == -EINVAL) return;  // the file system has none
#endif
  REQUIRE(opened >= 0);
  close_all(lane, {handle(opened)}, false);
}

LANE_TEST("vectored transfers go through the slices in order") {
  LANE(lane);
  TemporaryFiles files;
  const std::string path = files.name();
  const Handle file =
      open_or_fail(lane, opening(path, kOpenRead | kOpenWrite | kOpenCreate), FileKind::kRegular);
  std::string a = "one", b = "", c = "three";
  std::vector<Slice> out{slice(a), slice(b), slice(c)};
  Operation write = moving(file, Opcode::kWrite, out);
  // A driver may take a part, and the port goes on with the rest.
  const Result written = lane.run(write);
  REQUIRE((written == 8 || written == 3));
  if (written == 3) {
    std::vector<Slice> rest{slice(c)};
    Operation more = moving(file, Opcode::kWrite, rest, written);
    CHECK(lane.run(more) == 5);
  }
  std::string x(2, '.'), y(6, '.');
  std::vector<Slice> in{slice(x), slice(y)};
  Operation read = moving(file, Opcode::kRead, in);
  CHECK(lane.run(read) == 8);
  CHECK(x + y == "onethree");
  close_all(lane, {file}, false);
}

LANE_TEST("O8: reading at the end of a file is a result of 0") {
  LANE(lane);
  TemporaryFiles files;
  const std::string path = files.name();
  const Handle file =
      open_or_fail(lane, opening(path, kOpenRead | kOpenWrite | kOpenCreate), FileKind::kRegular);
  Bytes back(8);
  std::vector<Slice> in{slice(back)};
  Operation read = moving(file, Opcode::kRead, in, 100);
  CHECK(lane.run(read) == 0);
  close_all(lane, {file}, false);
}

LANE_TEST("opening fails as open(2) does") {
  LANE(lane);
  TemporaryFiles files;
  const std::string missing = files.name();
  Operation absent = opening(missing, kOpenRead);
  CHECK(lane.run(absent) == -ENOENT);
  Operation twice = opening(missing, kOpenWrite | kOpenCreate | kOpenExclusive);
  const Result fd = lane.run(twice);
  CHECK(fd >= 0);
  CHECK(lane.run(twice) == -EEXIST);
  close_all(lane, {handle(fd)}, false);
}

LANE_TEST("many file operations at once complete once each") {
  LANE(lane);
  TemporaryFiles files;
  const std::string path = files.name();
  const Handle file =
      open_or_fail(lane, opening(path, kOpenRead | kOpenWrite | kOpenCreate), FileKind::kRegular);
  constexpr std::size_t kCount = 200, kSize = 100;
  Bytes content = random_bytes(kCount * kSize, 1);
  std::vector<std::vector<Slice>> slices;
  std::vector<Operation> writes;
  for (std::size_t i = 0; i < kCount; ++i) {
    slices.push_back({{content.data() + i * kSize, kSize}});
  }
  for (std::size_t i = 0; i < kCount; ++i) {
    writes.push_back(moving(file, Opcode::kWrite, slices[i], static_cast<Result>(i * kSize)));
  }
  for (auto& write : writes) lane.submit(write);
  for (auto& write : writes) CHECK(lane.next(write).result == kSize);
  Bytes back(content.size());
  std::vector<Slice> in{slice(back)};
  Operation read = moving(file, Opcode::kRead, in);
  CHECK(lane.run(read) == static_cast<Result>(content.size()));
  CHECK(back == content);
  close_all(lane, {file}, false);
}

LANE_TEST("O4: cancelled file operations complete once, either way") {
  LANE(lane);
  TemporaryFiles files;
  const std::string path = files.name();
  const Handle file =
      open_or_fail(lane, opening(path, kOpenRead | kOpenWrite | kOpenCreate), FileKind::kRegular);
  std::vector<Operation> syncs(100, on(file, Opcode::kSync));
  for (auto& sync : syncs) lane.submit(sync);
  lane.poll();
  for (auto& sync : syncs) lane.lane->cancel(&sync);
  for (auto& sync : syncs) {
    const Result result = lane.next(sync).result;
    CHECK((result == 0 || result == -ECANCELED));
  }
  lane.expect_silence();
  close_all(lane, {file}, false);
}

}  // namespace
