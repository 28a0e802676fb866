// A request: an operation together with what the port needs to know of it, from submission until
// its final packet.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "driver/operation.h"
#include "driver/passed_descriptors.h"
#include "port/buffer_pool.h"
#include "port/packet.h"
#include "system/published.h"

namespace cp {

class Thread;
struct Handle;
struct SharedFile;
struct TimerNode;

/// Descriptors, and of those that are received a block of the pool for the bytes that come with
/// them. Goes without a lock held while it has descriptors: to close one may wait for a disk.
struct Parcel {
  Parcel() = default;
  Parcel(const Parcel&) = delete;
  Parcel& operator=(const Parcel&) = delete;
  ~Parcel() { give_back(); }

  /// Takes a use of `taken`, which the program owns no longer then. False: it is no such block.
  bool take(Place taken, std::size_t size);
  /// The bytes were read.
  void give_back();

  driver::PassedDescriptors passed;
  driver::Slice bytes;
  bool promised = false;  ///< to the program, which has not been told yet

 private:
  Place place_;  ///< where `bytes` are, used until `give_back`
};

/// What few operations need: every idle connection holds a request for its pending receive.
struct Details {
  std::string path;                ///< kOpen
  driver::ConnectTarget target;    ///< kConnect
  driver::FileStatus status;       ///< kStat
  std::unique_ptr<Parcel> parcel;  ///< kSendHandle, kReceiveHandle
};

/// The memory of a request: one slice as a rule, which needs no memory of its own then.
class Slices {
 public:
  bool empty() const { return count_ == 0; }
  std::size_t size() const { return count_; }
  driver::Slice* data() { return spread_ ? many_->slices.data() : &slice_; }
  const driver::Slice* data() const { return spread_ ? many_->slices.data() : &slice_; }
  driver::Slice& operator[](std::size_t i) { return data()[i]; }
  const driver::Slice& operator[](std::size_t i) const { return data()[i]; }

  /// `place`: the pool memory it lies in, kept until `places` are let go of.
  void add(const driver::Slice& slice, Place place);
  /// Forgets the first `count` slices, not their places.
  void drop(std::size_t count);
  void clear();
  /// Has slice `i`, none of which was forgotten, lie elsewhere.
  void replace(std::size_t i, const driver::Slice& slice, Place place);
  Place place(std::size_t i) const { return spread_ ? many_->places[i] : place_; }

  template <typename Visit>
  void for_each_place(Visit visit) const {
    if (spread_) {
      for (const Place& place : many_->places) visit(place);
    } else if (place_.chunk != driver::kNoChunk) {
      visit(place_);
    }
  }

 private:
  struct Many {
    std::vector<driver::Slice> slices;
    std::vector<Place> places;
  };

  std::uint32_t count_ = 0;
  bool spread_ = false;  ///< there was more than one: they are in `many_`
  Place place_;
  driver::Slice slice_;
  std::unique_ptr<Many> many_;
};

/// Of a kTimer `offset` is the time until it fires, and `length` that between firings, 0: once;
/// both in nanoseconds.
struct Request : driver::Operation {
  enum class State : std::uint8_t {
    kFree,
    kQueued,   ///< behind another of its direction (rule O7) or of its chain (rule O9)
    kSent,     ///< in a message to `runner`, which is to start it
    kStarted,  ///< in the lane of `runner`
    kStarved,  ///< waits in `runner` for a free receive buffer (rule M1)
    kPaused,   ///< an accept that waits in `runner` for descriptors
    kTiming,   ///< a timer in `runner`
    kEnded,    ///< ended early in `runner`; its completion is on the way
  };
  enum class End : std::uint8_t { kNatural, kCancelled, kTimedOut };

  PacketKind kind = PacketKind::kNone;
  /// Written by the thread that has the request; read by others under the handle's mutex.
  Published<State> state{State::kFree};
  End end = End::kNatural;
  bool awaited = false;    ///< answered to `token` of `owner` alone
  bool silent = false;     ///< nobody is told
  bool moving = false;     ///< its runner leaves; it goes on elsewhere
  bool pausing = false;    ///< a multishot receive that is held: it goes on later
  bool told_full = false;  ///< a send after which the program waits for the drain
  /// A shutdown whose timeout begins anew whenever the peer has taken something; `offset` is how
  /// far it was. What its handle is fed from is received again, to be thrown away.
  bool stall = false;
  bool keeps = false;    ///< a close that gives the descriptor back, open, to who awaits it
  bool quiet = false;    ///< success is not told, only failure
  bool chained = false;  ///< waits for the request before it (rule O9)
  bool keyed = false;    ///< `key` is known: should the handle be gone, the answer has it
  HandleId handle_id = 0;
  std::uint32_t key = 0;  ///< that a refusal is answered under
  std::uint32_t token = 0;
  std::uint32_t tag = 0;  ///< the program's, comes back in the packet
  Handle* handle = nullptr;
  Thread* owner = nullptr;             ///< the thread that submitted it
  Published<Thread*> runner{nullptr};  ///< carries it out; set under the handle's mutex

  /// Counts the lives of this object: tells whether a pointer kept elsewhere still means the same
  /// request.
  Published<std::uint32_t> generation{0};
  HandleId source = 0;  ///< kSendFile: handle of the file
  HandleId feeder = 0;  ///< of a send: the handle its bytes were received from, 0: not known

  std::uint64_t queued = 0;  ///< of a send: what it counts among the handle's outgoing bytes
  std::uint64_t done = 0;    ///< bytes so far, of a transfer that takes several calls
  std::uint64_t total = 0;
  Slices memory;                 ///< `slices` points into it
  SharedFile* shared = nullptr;  ///< kSendFile: holds `file` until the end
  std::unique_ptr<Details> details;

  std::uint32_t timeout = 0;       ///< milliseconds, 0: none
  std::uint32_t runner_index = 0;  ///< in the runner's list
  TimerNode* timer = nullptr;      ///< its timeout, in the heap of `owner`
  TimerNode* firing = nullptr;     ///< kTimer: when it fires, in the heap of `runner`

  bool sends() const { return traits(kind).outgoing; }

  Request* next = nullptr;      ///< in a FIFO of the handle, in a list of the thread
  Request* previous = nullptr;  ///< in that FIFO
  Request* chain = nullptr;     ///< starts when this one has succeeded (rule O9)
  Request* handle_previous = nullptr;
  Request* handle_next = nullptr;
};

/// Requests are recycled for the life of the process, never freed: a stale pointer with a
/// generation can always be looked at.
Request* new_request();
/// One that closes; who asks, and what for, is the caller's to say.
Request* new_close();
void recycle(Request* request);
/// Hands the calling thread's spare requests to the others: it may be about to end.
void return_spare_requests();

}  // namespace cp
