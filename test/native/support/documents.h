// What the tests of the native stage share: documents and how they are framed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "frames.h"

namespace cp::test {

inline constexpr std::int64_t kMillisecond = 1'000'000;
/// For what must not come.
inline constexpr std::int64_t kNotWithin = 60 * kMillisecond;

inline void tell(std::vector<std::uint8_t>& what, const std::string& text) {
  what.assign(text.begin(), text.end());
}

inline stage::Framing framing_of(stage::Framing::Kind kind, const std::string& delimiter = "") {
  return stage::Framing(kind, {delimiter.begin(), delimiter.end()});
}

/// Everything until the end of the stream.
inline std::string read_to_end(Peer& peer) {
  constexpr std::size_t kPart = 65536;
  std::string all, part;
  do {
    part = peer.read(kPart);
    all += part;
  } while (part.size() == kPart);
  return all;
}

/// Each way in which a document's length is told.
struct Style {
  stage::Framing::Kind kind;
  const char* delimiter;
  std::string (*frame)(const std::string&);
};
inline const Style kStyles[] = {
    {stage::Framing::Kind::kU8, "",
     [](const std::string& t) { return std::string(1, static_cast<char>(t.size())) + t; }},
    {stage::Framing::Kind::kU16be, "",
     [](const std::string& t) { return u32be(t.size()).substr(2) + t; }},
    {stage::Framing::Kind::kU32be, "", framed},
    {stage::Framing::Kind::kU32le, "",
     [](const std::string& t) {
       const std::string head = u32be(t.size());
       return std::string(head.rbegin(), head.rend()) + t;
     }},
    {stage::Framing::Kind::kVarint, "",
     [](const std::string& t) {
       std::string head;
       for (std::size_t n = t.size();; n >>= 7) {
         head += static_cast<char>(n > 127 ? (n & 127) | 128 : n);
         if (n <= 127) return head + t;
       }
     }},
    {stage::Framing::Kind::kDelimiter, "\r\n\r\n",
     [](const std::string& t) { return t + "\r\n\r\n"; }},
};

}  // namespace cp::test
