// Documents in a stream of bytes, however it is cut: what the stage finds is what a reader finds
// that has the whole stream before it and knows nothing of pieces.
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "asserts.h"
#include "input.h"
#include "reader.h"

namespace {

using namespace cp::stage;
using namespace cp::test;
using Kind = Framing::Kind;
using Verdict = Framing::Verdict;

/// The documents of a stream that comes in pieces, as the stage reads them.
class Reader {
 public:
  explicit Reader(const Framing& framing) : framing_(framing) {}

  void read(const std::string& piece) {
    for (std::size_t at = 0; at < piece.size() && !found_.malformed;) {
      at += step(bytes_of(piece) + at, piece.size() - at);
    }
  }
  const Found& found() const { return found_; }

 private:
  std::size_t step(const std::uint8_t* bytes, std::size_t size) {
    if (framing_.delimited()) {
      bool found = false;
      const std::size_t used = framing_.scan(progress_, bytes, size, found);
      take(bytes, used);
      if (found) {
        document_.resize(document_.size() - framing_.delimiter_size());
        end();
      }
      return used;
    }
    if (in_document_) {
      const std::size_t used = static_cast<std::size_t>(std::min<std::uint64_t>(left_, size));
      take(bytes, used);
      left_ -= used;
      if (left_ == 0) end();
      return used;
    }
    std::size_t used = 0;
    const Verdict verdict = framing_.read_length(progress_, bytes, size, used);
    CHECK(used <= size);
    if (verdict == Verdict::kMalformed) found_.malformed = true;
    if (verdict == Verdict::kDone) {
      left_ = progress_.number;
      in_document_ = true;
      if (left_ == 0) end();
    }
    return used;
  }
  void take(const std::uint8_t* bytes, std::size_t count) {
    document_.append(reinterpret_cast<const char*>(bytes), count);
  }
  void end() {
    found_.documents.push_back(std::move(document_));
    document_.clear();
    progress_ = {};
    in_document_ = false;
  }

  const Framing& framing_;
  Framing::Progress progress_;
  Found found_;
  std::string document_;
  std::uint64_t left_ = 0;
  bool in_document_ = false;
};

/// Documents that lie whole in one receive are looked for without being copied.
Found one_after_the_other(const Framing& framing, const std::string& stream) {
  Found found;
  for (std::size_t at = 0; at <= stream.size();) {
    const Framing::Whole whole = framing.find(bytes_of(stream) + at, stream.size() - at);
    if (whole.size == 0) break;
    CHECK(whole.start + whole.length <= whole.size);
    CHECK(whole.size <= stream.size() - at);
    found.documents.push_back(stream.substr(at + whole.start, whole.length));
    at += whole.size;
  }
  return found;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  end_where_a_check_fails();
  Input input(data, size);
  const auto kind = static_cast<Kind>(input.below(6));
  std::string delimiter = input.text(1 + input.below(8));
  if (delimiter.empty()) delimiter = "\n";
  const std::string cuts = input.text(input.below(16));
  const std::string stream = input.text(input.left());

  const Framing framing(kind, {delimiter.begin(), delimiter.end()});
  const Found expected = by_the_whole(kind, delimiter, stream);
  CHECK(one_after_the_other(framing, stream).documents == expected.documents);

  Reader cut(framing);
  std::size_t at = 0;
  for (std::size_t i = 0; at < stream.size(); ++i) {
    const std::size_t piece = i < cuts.size() ? bytes_of(cuts)[i] : stream.size();
    cut.read(stream.substr(at, piece));
    at += std::min(piece, stream.size() - at);
  }
  CHECK(cut.found() == expected);

  Reader byte_by_byte(framing);
  for (const char byte : stream) byte_by_byte.read(std::string(1, byte));
  CHECK(byte_by_byte.found() == expected);
  return 0;
}
