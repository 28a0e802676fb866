// The buffers a lane has lent to the kernel in advance, so that a receive that waits holds none
// (rule M3): IORING_REGISTER_PBUF_RING, 5.19.
//
// A lane that does not receive *rests*: it has lent none. It begins so, until the first receive
// wants one, and rests again when it goes to sleep and none was used for a while (kQuiet). What is
// lent can't be taken out of the ring by this side: the kernel may be about to use it, and tells
// nobody what it has begun with (a ring that is unregistered may have buffers in a kernel thread).
// So the kernel is asked for them: each is drawn back by a read of one byte that selects it, and
// comes back in a completion like any other.
//
// Data that comes to a lane at rest finds none: that receive ends with ENOBUFS, and its thread
// tries it again after `top_up(true)`, which ends the rest. No receive can miss that: a buffer that
// a read draws back was either not wanted by any receive, or the receive that wanted it has ended
// with ENOBUFS, and a completion tells of that; nothing that has completed lets the lane sleep.
#pragma once

#include <cstdint>
#include <vector>

#include "driver/driver.h"
#include "driver/uring/ring.h"

namespace cp::driver::uring {

class ProvidedBuffers {
 public:
  static constexpr std::uint32_t kEntries = 256;
  static constexpr std::uint16_t kGroup = 0;
  /// How long none was used before the lane rests; up to twice that.
  static constexpr std::int64_t kQuiet = 250'000'000;

  explicit ProvidedBuffers(BufferSource& source) : source_(source) {}
  /// Nothing is being received by now.
  ~ProvidedBuffers();
  ProvidedBuffers(const ProvidedBuffers&) = delete;
  ProvidedBuffers& operator=(const ProvidedBuffers&) = delete;

  Result open(const Ring& ring);

  /// The buffer a completion named; it is the caller's now.
  Buffer taken(std::uint16_t id);
  void give_back(const Buffer& buffer) { source_.give_back(buffer); }

  /// Lends more when few are left. True when the kernel has any. `at_once`: a receive has found
  /// none.
  bool top_up(bool at_once);
  /// A receive is about to be submitted: with a buffer lent it need not come back for one.
  void expect_receive() {
    if (resting_ && lent_ == 0) wake_up();
  }

  /// When to see whether it is to rest; kNever: it does.
  Deadline next_look() const { return lent_ == 0 ? kNever : look_at_; }
  /// That time has come, and the lane is about to sleep. How many are to be drawn back.
  std::uint32_t look(Deadline now);
  /// A completion of a read that was to draw one back names this one.
  void drawn_back(std::uint16_t id) { give_back(take_out(id)); }

 private:
  /// Lent at first; it grows with use.
  static constexpr std::uint32_t kFew = 8;

  Buffer take_out(std::uint16_t id);
  void wake_up();
  void lend();

  BufferSource& source_;
  BufferEntry* ring_ = nullptr;
  std::uint16_t tail_ = 0;
  std::uint32_t lent_ = 0;
  std::uint32_t target_ = 0;   ///< how many were to be lent when that was asked last
  std::uint32_t most_ = kFew;  ///< for now
  bool resting_ = true;
  bool used_ = false;  ///< one of them, since the last look
  Deadline look_at_ = kNever;
  std::vector<Buffer> buffers_;  ///< by id
  std::vector<std::uint16_t> free_ids_;
};

}  // namespace cp::driver::uring
