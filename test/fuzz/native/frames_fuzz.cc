// The native stage with one client: bytes in any pieces, answers of any description, and records
// written over as a program could that does not use the library. What the next stage gets is what a
// reader of the whole stream finds, and what the client gets is the answers, in order. Whatever was
// written over, nothing crashes, and everything comes back.
#include <algorithm>
#include <cstdint>
#include <string>

#include "asserts.h"
#include "input.h"
#include "reader.h"
#include "support/frames.h"

namespace {

using namespace cp;
using namespace cp::test;
using Kind = stage::Framing::Kind;

constexpr std::uint64_t kMost = 2000;  ///< bytes of a document
const std::string kDelimiter = "\r\n";

class Client {
 public:
  explicit Client(Input& input)
      : input_(input),
        kind_(static_cast<Kind>(input.below(6))),
        pipeline_("epoll", setup(kind_, input.byte())),
        peer_(pipeline_.connect()) {}

  void run() {
    while (input_.more() && !over_) step();
    if (hand_.key != 0) hand_back();
    // A client that leaves; what it has asked for comes before that.
    if (!written_over_) CHECK(peer_.read(answers_.size()) == answers_);
    peer_.shut();
    if (written_over_) return pipeline_.stop();
    while (!pipeline_.empty()) let_go();
    pipeline_.stop();
  }

 private:
  static std::function<void(FramesSetup&)> setup(Kind kind, std::uint8_t how) {
    return [=](FramesSetup& made) {
      made.port.buffers.buffer_size = made.next.buffers.buffer_size = 256;
      made.port.buffers.buffer_count = made.next.buffers.buffer_count = 16;
      made.frames.framing = stage::Framing(kind, {kDelimiter.begin(), kDelimiter.end()});
      made.frames.threads = 1;
      made.frames.max = kMost;
      made.frames.spool_to_file = (how & 1) != 0;
      made.frames.in_memory = made.frames.spool_to_file ? 50 : kMost;
      made.records = 16;
    };
  }

  void step() {
    switch (input_.below(8)) {
      case 0:
        return answer();
      case 1:
        return input_.below(16) == 0 ? write_over() : take();
      case 2:
        if (!ended_) peer_.end_writing();
        ended_ = true;
        return;
      default:
        return send(input_.text(input_.byte()));
    }
  }

  void send(const std::string& bytes) {
    if (ended_) return;
    stream_ += bytes;
    peer_.write(bytes);
  }

  /// Nothing that the stage should not have handed over.
  void take() {
    if (hand_.key != 0) return;
    const auto& documents = by_the_whole(kind_, kDelimiter, stream_).documents;
    if (taken_ == documents.size() || documents[taken_].size() > kMost) return;
    hand_ = pipeline_.take(written_over_ ? 0 : kPatience);
    if (hand_.key != 0) record_ = &pipeline_.header(hand_.key);
    if (written_over_) return;
    CHECK(hand_.key != 0);
    CHECK(hand_.text == documents[taken_]);
    ++taken_;
  }

  /// From memory, from a part of a file, from both; a file may end before what was promised.
  void answer() {
    if (hand_.key == 0) return;
    // Its name may have been written over: the library would refuse the answer.
    if (pipeline_.records->cargo(hand_.key) == nullptr) return static_cast<void>(hand_ = {});
    const std::uint8_t how = input_.byte();
    const std::string memory = input_.text((how & 1) != 0 ? input_.byte() : 0);
    pipeline_.give_memory(*pipeline_.member, hand_.key, memory);
    stage::Reply& reply = pipeline_.records->cargo(hand_.key)->reply;
    answers_ += memory;
    if ((how & 2) != 0) {
      const std::string file = text_of(1 + input_.byte());
      const std::uint64_t length = input_.byte();
      pipeline_.give_file(hand_.key, file, length, input_.byte());
      answers_ += file.substr(0, static_cast<std::size_t>(length));
      if (length > file.size()) over_ = true;
    }
    if ((how & 4) != 0) over_ = reply.closes = true;
    hand_back();
  }
  void hand_back() {
    if (pipeline_.records->cargo(hand_.key) != nullptr) pipeline_.hand_back(hand_.key);
    hand_ = {};
  }

  /// Any field of the record whose document the next stage has.
  void write_over() {
    if (hand_.key == 0) return;
    const std::size_t at = input_.below(sizeof(stage::RecordHeader));
    const std::size_t length =
        std::min<std::size_t>(1 + input_.below(8), sizeof(stage::RecordHeader) - at);
    input_.read(reinterpret_cast<std::uint8_t*>(record_) + at, length);
    written_over_ = true;
  }

  /// Documents that nobody has taken when the client leaves.
  void let_go() {
    const Arrival left = pipeline_.take(kMillisecond);
    if (left.key != 0) pipeline_.hand_back(left.key);
  }
  static constexpr driver::Deadline kMillisecond = 1'000'000;

  Input& input_;
  const Kind kind_;
  FramesPipeline pipeline_;
  Peer peer_;
  std::string stream_, answers_;
  std::size_t taken_ = 0;
  Arrival hand_;
  stage::RecordHeader* record_ = nullptr;  ///< of the document in hand
  bool ended_ = false, over_ = false, written_over_ = false;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  end_where_a_check_fails();
  Input input(data, size);
  Client(input).run();
  return 0;
}
