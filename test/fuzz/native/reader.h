// The documents in a stream, found by one who has the whole of it and knows nothing of pieces: what
// the library finds is held against this.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "stage/framing.h"

namespace cp::test {

inline const std::uint8_t* bytes_of(const std::string& text) {
  return reinterpret_cast<const std::uint8_t*>(text.data());
}

/// A number at the beginning of some bytes.
struct Number {
  stage::Framing::Verdict verdict = stage::Framing::Verdict::kMore;
  std::uint64_t value = 0;
  std::size_t size = 0;
};

inline Number fixed(const std::string& stream, std::size_t size, bool little) {
  if (stream.size() < size) return {};
  Number number{stage::Framing::Verdict::kDone, 0, size};
  for (std::size_t i = 0; i < size; ++i) {
    const std::size_t at = little ? size - 1 - i : i;
    number.value = number.value * 256 + bytes_of(stream)[at];
  }
  return number;
}

/// Base 128; what does not fit into 64 bits is malformed.
inline Number varint(const std::string& stream) {
  using Verdict = stage::Framing::Verdict;
  unsigned __int128 value = 0;
  for (std::size_t i = 0; i < stream.size(); ++i) {
    const std::uint8_t byte = bytes_of(stream)[i];
    value |= static_cast<unsigned __int128>(byte & 127) << (7 * i);
    const bool last = (byte & 128) == 0;
    if (value >> 64 != 0 || (i == 9 && !last)) return {Verdict::kMalformed};
    if (last) return {Verdict::kDone, static_cast<std::uint64_t>(value), i + 1};
  }
  return {};
}

inline Number number_at_front(stage::Framing::Kind kind, const std::string& stream) {
  using Kind = stage::Framing::Kind;
  switch (kind) {
    case Kind::kU8:
      return fixed(stream, 1, false);
    case Kind::kU16be:
      return fixed(stream, 2, false);
    case Kind::kU32be:
      return fixed(stream, 4, false);
    case Kind::kU32le:
      return fixed(stream, 4, true);
    case Kind::kVarint:
      return varint(stream);
    case Kind::kDelimiter:
      break;
  }
  return {};
}

struct Found {
  std::vector<std::string> documents;
  bool malformed = false;
  friend bool operator==(const Found&, const Found&) = default;
};

inline Found by_the_whole(stage::Framing::Kind kind, const std::string& delimiter,
                          std::string stream) {
  using Kind = stage::Framing::Kind;
  using Verdict = stage::Framing::Verdict;
  Found found;
  for (;;) {
    if (kind == Kind::kDelimiter) {
      const std::size_t end = stream.find(delimiter);
      if (end == std::string::npos) return found;
      found.documents.push_back(stream.substr(0, end));
      stream.erase(0, end + delimiter.size());
      continue;
    }
    const Number number = number_at_front(kind, stream);
    found.malformed = number.verdict == Verdict::kMalformed;
    if (number.verdict != Verdict::kDone || number.value > stream.size() - number.size) {
      return found;
    }
    found.documents.push_back(stream.substr(number.size, number.value));
    stream.erase(0, number.size + number.value);
  }
}

}  // namespace cp::test
