// Where a document ends in a stream of bytes: after as many as a number before it says, or at a
// delimiter.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace cp::stage {

class Framing {
 public:
  enum class Kind : std::uint8_t {
    kU8,
    kU16be,
    kU32be,
    kU32le,
    kVarint,  ///< base 128, the least significant group first, at most ten bytes
    kDelimiter,
  };

  /// How far a connection is in what its framing looks at.
  struct Progress {
    std::uint64_t number = 0;
    std::uint8_t head = 0;      ///< bytes of the length seen
    std::uint32_t matched = 0;  ///< bytes of the delimiter seen
  };

  enum class Verdict : std::uint8_t { kMore, kDone, kMalformed };

  explicit Framing(Kind kind, std::vector<std::uint8_t> delimiter = {});

  bool delimited() const { return kind_ == Kind::kDelimiter; }
  std::size_t delimiter_size() const { return delimiter_.size(); }

  /// Looks at `size` bytes of a length and says how many belong to it. kDone: it is in `number`.
  Verdict read_length(Progress& progress, const std::uint8_t* bytes, std::size_t size,
                      std::size_t& used) const;

  /// A whole document at the beginning of some bytes.
  struct Whole {
    std::uint64_t start = 0;   ///< of the document, behind its length
    std::uint64_t length = 0;  ///< of the document
    std::uint64_t size = 0;    ///< with what is before and behind it; 0: there is none
  };
  /// Looks for one that begins with `bytes`.
  Whole find(const std::uint8_t* bytes, std::size_t size) const;

  /// How many of `size` bytes belong to the document, its delimiter included. `found`: the last of
  /// them ends it.
  std::size_t scan(Progress& progress, const std::uint8_t* bytes, std::size_t size,
                   bool& found) const;

 private:
  Verdict read_byte(Progress& progress, std::uint8_t byte) const;

  Kind kind_;
  std::vector<std::uint8_t> delimiter_;
  /// Knuth, Morris, Pratt: how much of the delimiter still matches after a byte that does not.
  std::vector<std::uint32_t> fallback_;
};

}  // namespace cp::stage
