// Where a document ends, however the stream that carries it is cut.
#include "stage/framing.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "support/verdict.h"

namespace {

using namespace cp::stage;
using namespace cp::test;
using Kind = Framing::Kind;
using Verdict = Framing::Verdict;

constexpr std::uint64_t kNone = UINT64_MAX;

const std::uint8_t* bytes_of(const std::string& text) {
  return reinterpret_cast<const std::uint8_t*>(text.data());
}

Framing delimited(const std::string& delimiter) {
  return Framing(Kind::kDelimiter, {delimiter.begin(), delimiter.end()});
}

/// The number at the beginning of `stream`, given in pieces of at most `step` bytes; `used`: bytes
/// of it.
Verdict read_number(const Framing& framing, const std::string& stream, std::size_t step,
                    std::uint64_t& number, std::size_t& used) {
  Framing::Progress progress;
  for (used = 0; used < stream.size();) {
    const std::size_t size = std::min(step, stream.size() - used);
    std::size_t taken = 0;
    const Verdict verdict = framing.read_length(progress, bytes_of(stream) + used, size, taken);
    used += taken;
    number = progress.number;
    if (verdict != Verdict::kMore) return verdict;
    if (taken != size) return Verdict::kMalformed;  // not asked for, and not the end
  }
  return Verdict::kMore;
}

/// Where the first document of `stream` ends, given in pieces of at most `step` bytes.
std::uint64_t end_of(const Framing& framing, const std::string& stream, std::size_t step) {
  Framing::Progress progress;
  for (std::size_t at = 0; at < stream.size();) {
    bool found = false;
    const std::size_t size = std::min(step, stream.size() - at);
    const std::size_t taken = framing.scan(progress, bytes_of(stream) + at, size, found);
    at += taken;
    if (found) return at;
    if (taken != size) return kNone - 1;
  }
  return kNone;
}

void check_number(Kind kind, const std::string& head, std::uint64_t expected) {
  const Framing framing(kind);
  for (std::size_t step = 1; step <= head.size() + 1; ++step) {
    CAPTURE(step);
    std::uint64_t number = 0;
    std::size_t used = 0;
    CHECK(read_number(framing, head + "rest", step, number, used) == Verdict::kDone);
    CHECK(number == expected);
    CHECK(used == head.size());
  }
  // One byte less is not enough.
  std::uint64_t number = 0;
  std::size_t used = 0;
  const std::string short_head = head.substr(0, head.size() - 1);
  CHECK(read_number(framing, short_head, 1, number, used) == Verdict::kMore);
}

TEST_CASE("a length is read from any pieces, and nothing behind it") {
  using namespace std::string_literals;
  check_number(Kind::kU8, "\x00"s, 0);
  check_number(Kind::kU8, "\xff"s, 255);
  check_number(Kind::kU16be, "\x01\x02"s, 0x0102);
  check_number(Kind::kU16be, "\xff\xff"s, 0xffff);
  check_number(Kind::kU32be, "\x01\x02\x03\x04"s, 0x01020304);
  check_number(Kind::kU32be, "\xff\xff\xff\xff"s, 0xffffffff);
  check_number(Kind::kU32le, "\x01\x02\x03\x04"s, 0x04030201);
  check_number(Kind::kU32le, "\xff\xff\xff\xff"s, 0xffffffff);
  check_number(Kind::kVarint, "\x00"s, 0);
  check_number(Kind::kVarint, "\x7f"s, 127);
  check_number(Kind::kVarint, "\x80\x01"s, 128);
  check_number(Kind::kVarint, "\xac\x02"s, 300);
  check_number(Kind::kVarint, "\x80\x00"s, 0);  // longer than need be
  check_number(Kind::kVarint, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"s, UINT64_MAX);
}

TEST_CASE("a varint that does not fit 64 bits is malformed") {
  using namespace std::string_literals;
  const Framing framing(Kind::kVarint);
  for (const std::string& head :
       {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"s, "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80"s,
        "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"s}) {
    for (std::size_t step = 1; step <= head.size(); ++step) {
      std::uint64_t number = 0;
      std::size_t used = 0;
      CHECK(read_number(framing, head, step, number, used) == Verdict::kMalformed);
      CHECK(used == 10);
    }
  }
}

TEST_CASE("a delimiter is found where it ends first, however it is cut or overlaps itself") {
  struct Case {
    std::string delimiter, stream;
    std::uint64_t end;
  };
  const std::vector<Case> cases = {
      {"\n", "\n", 1},
      {"\n", "one\ntwo\n", 4},
      {"\r\n", "one\r\r\n", 6},
      {"\r\n\r\n", "GET\r\n\r\r\n\r\n\r\n", 10},
      {"aab", "aaab", 4},
      {"aabaaa", "aabaabaaa", 9},
      {"aabaaac", "aabaaabaaac", 11},
      {"abab", "abaabab", 7},
      {"abcabd", "abcabcabd", 9},
      {"--", "-x-", kNone},
      {"abc", "ababab", kNone},
  };
  for (const Case& it : cases) {
    const Framing framing = delimited(it.delimiter);
    for (std::size_t step = 1; step <= it.stream.size(); ++step) {
      CAPTURE(it.delimiter);
      CAPTURE(it.stream);
      CAPTURE(step);
      CHECK(end_of(framing, it.stream, step) == it.end);
    }
  }
}

TEST_CASE("after a delimiter the next document begins anew") {
  const Framing framing = delimited("aa");
  Framing::Progress progress;
  const std::string stream = "aaaaa";
  bool found = false;
  CHECK(framing.scan(progress, bytes_of(stream), 5, found) == 2);
  CHECK(found);
  CHECK(framing.scan(progress, bytes_of(stream) + 2, 3, found) == 2);
  CHECK(found);
  CHECK(framing.scan(progress, bytes_of(stream) + 4, 1, found) == 1);
  CHECK_FALSE(found);
}

TEST_CASE("a delimiter is found wherever a plain search finds it") {
  Random random(seed("framing"));
  for (int round = 0; round < 20'000; ++round) {
    std::string delimiter, stream;
    for (std::uint32_t n = 1 + random(6); n-- > 0;) {
      delimiter += static_cast<char>('a' + random(2));
    }
    for (std::uint32_t n = random(40); n-- > 0;) stream += static_cast<char>('a' + random(2));
    const std::size_t at = stream.find(delimiter);
    const std::uint64_t expected = at == std::string::npos ? kNone : at + delimiter.size();
    const std::size_t step = 1 + random(8);
    CAPTURE(delimiter);
    CAPTURE(stream);
    CAPTURE(step);
    REQUIRE(end_of(delimited(delimiter), stream, step) == expected);
  }
}

}  // namespace
