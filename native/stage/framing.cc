#include "stage/framing.h"

#include <cstring>
#include <utility>

namespace cp::stage {
namespace {

constexpr std::uint8_t kGroupBits = 7;
constexpr std::uint8_t kLastGroup = 9;  // the tenth has room for one bit

std::uint8_t size_of(Framing::Kind kind) {
  switch (kind) {
    case Framing::Kind::kU8:
      return 1;
    case Framing::Kind::kU16be:
      return 2;
    default:
      return 4;
  }
}

}  // namespace

Framing::Framing(Kind kind, std::vector<std::uint8_t> delimiter)
    : kind_(kind), delimiter_(std::move(delimiter)), fallback_(delimiter_.size()) {
  for (std::uint32_t i = 1, matched = 0; i < delimiter_.size(); ++i) {
    while (matched > 0 && delimiter_[i] != delimiter_[matched]) matched = fallback_[matched - 1];
    if (delimiter_[i] == delimiter_[matched]) ++matched;
    fallback_[i] = matched;
  }
}

Framing::Verdict Framing::read_byte(Progress& progress, std::uint8_t byte) const {
  const std::uint8_t index = progress.head++;
  if (kind_ == Kind::kVarint) {
    if (index == kLastGroup && byte > 1) return Verdict::kMalformed;
    progress.number |= static_cast<std::uint64_t>(byte & 0x7f) << (kGroupBits * index);
    return byte & 0x80 ? Verdict::kMore : Verdict::kDone;
  }
  if (kind_ == Kind::kU32le) {
    progress.number |= static_cast<std::uint64_t>(byte) << (8 * index);
  } else {
    progress.number = progress.number << 8 | byte;
  }
  return progress.head == size_of(kind_) ? Verdict::kDone : Verdict::kMore;
}

Framing::Verdict Framing::read_length(Progress& progress, const std::uint8_t* bytes,
                                      std::size_t size, std::size_t& used) const {
  for (used = 0; used < size;) {
    const Verdict verdict = read_byte(progress, bytes[used++]);
    if (verdict != Verdict::kMore) return verdict;
  }
  return Verdict::kMore;
}

Framing::Whole Framing::find(const std::uint8_t* bytes, std::size_t size) const {
  Progress progress;
  if (delimited()) {
    bool found = false;
    const std::size_t end = scan(progress, bytes, size, found);
    return found ? Whole{0, end - delimiter_.size(), end} : Whole{};
  }
  std::size_t used = 0;
  const bool done = read_length(progress, bytes, size, used) == Verdict::kDone;
  if (!done || progress.number > size - used) return {};
  return {used, progress.number, used + progress.number};
}

std::size_t Framing::scan(Progress& progress, const std::uint8_t* bytes, std::size_t size,
                          bool& found) const {
  std::uint32_t& matched = progress.matched;
  found = false;
  for (std::size_t i = 0; i < size; ++i) {
    if (matched == 0) {
      const void* first = std::memchr(bytes + i, delimiter_[0], size - i);
      if (first == nullptr) return size;
      i = static_cast<std::size_t>(static_cast<const std::uint8_t*>(first) - bytes);
    }
    while (matched > 0 && bytes[i] != delimiter_[matched]) matched = fallback_[matched - 1];
    if (bytes[i] == delimiter_[matched]) ++matched;
    if (matched < delimiter_.size()) continue;
    matched = 0;
    found = true;
    return i + 1;
  }
  return size;
}

}  // namespace cp::stage
