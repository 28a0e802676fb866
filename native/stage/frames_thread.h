// One thread of a frames stage: takes packets, and brings each connection a step further.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "port/thread.h"
#include "stage/frames.h"
#include "system/condition.h"
#include "system/mutex.h"
#include "system/thread.h"

namespace cp::stage {

/// Where a connection is in its document. It owns its memory, whichever thread asked for it.
struct Frame {
  enum class Phase : std::uint8_t {
    kNew,      ///< accepted, or handed over for the first time, and not begun
    kHead,     ///< between documents, or in the length of one
    kBody,     ///< in a document
    kWhole,    ///< has one that waits for its last write, or for a place in the next stage
    kAway,     ///< is at the next stage
    kReply,    ///< is being answered
    kDismiss,  ///< is being sent away
    kClosing,  ///< its descriptor is on the way back
  };
  std::uint32_t key = 0;  ///< whose it is: a record's place is used again for others
  Admission::Turn turn;
  Phase phase = Phase::kNew;
  bool receives_own = false;      ///< none that another stage had begun can be in flight
  bool direct = false;            ///< into the document's memory
  bool wants_memory = false;      ///< waits for memory
  bool told = false;              ///< there was some for it: nobody is before it
  bool growing = false;           ///< its document has some memory and will want more
  bool queued = false;            ///< waits for a place in the next stage
  bool sends_reason = false;      ///< kDismiss: the client is being told why
  bool lingers = false;           ///< kDismiss: behind an answer, without a reason
  bool peer_ended = false;        ///< kDismiss: the client has ended its side
  std::uint8_t writes = 0;        ///< in flight
  std::uint32_t receive_tag = 0;  ///< of the last receive begun since the connection came
  Framing::Progress progress;

  Place place;                 ///< the document's memory
  std::uint64_t capacity = 0;  ///< of it
  HandleId file = 0;           ///< or the handle of its file
  driver::Result error = 0;    ///< why it is not kept; what comes of it is dropped
  std::uint64_t length = 0;    ///< as its frame says; of a delimited one as far as is known
  std::uint64_t received = 0;  ///< bytes of it, its delimiter included
  double began = 0;            ///< milliseconds
  std::uint64_t small = 0;     ///< bytes that it has as a small document: see MemoryQueue
  std::uint64_t in_files = 0;  ///< bytes that it has of the limit for files
  /// It and those that came whole behind it, to be handed over together: their places within
  /// `place`. Empty: it alone.
  std::vector<Part> parts;

  double gives_up = 0;         ///< milliseconds, 0: never; its deadline without regard to others
  double window_end = 0;       ///< milliseconds; then its rate is looked at
  std::int64_t window_at = 0;  ///< how far it was when the window began, where that is known

  /// For its next document: nothing of the last one is left but its turn.
  void renew();
  bool idle() const { return (phase == Phase::kHead || phase == Phase::kBody) && began == 0; }
  FrameState state() const;

  std::uint64_t sent = 0;       ///< bytes of the answer
  std::int64_t answer_at = -1;  ///< how far it was when that was asked last, where it stalls
  HandleId reply_file = 0;      ///< handle of the file that belongs to it
};

/// A connection whose key this thread holds.
struct Connection {
  std::uint32_t key;
  RecordHeader& header;
  Frame& frame;
};

class FramesThread {
  using Phase = Frame::Phase;

 public:
  FramesThread(FramesStage& stage, std::uint32_t index) : stage_(stage), index_(index) {}

  /// Attaches to the port on a thread of its own. A negative errno when that fails.
  driver::Result start();
  void join();

 private:
  void main();
  void bind_to_cpu() const;
  void run();
  void handle(const PacketSlot& packet);
  void on_stale(const PacketSlot& packet);
  void on_accept(const PacketSlot& packet);
  void on_listener(const PacketSlot& packet);
  void accept_on(HandleId listener);
  void on_connection(const PacketSlot& packet, Connection& c);
  void on_notice(Connection& c, Notice notice);
  void on_place(Connection& c);
  void on_memory(Connection& c);
  void on_deadline(Connection& c);
  void on_message(const PacketSlot& packet, Connection& c);
  static bool is_message(const PacketSlot& packet);
  static Packet message_of(const PacketSlot& packet);
  Frame& frame_of(std::uint32_t key);
  Phase between_documents() const;
  const FramesOptions& options() const { return stage_.options_; }
  FramesCounters& counters() { return stage_.counters_; }
  MemoryQueue& memory() { return stage_.admission_->memory(); }

  // Receiving: frames_receive.cc
  void begin(Connection& c);
  void on_receive(const PacketSlot& packet, Connection& c);
  void on_write(const PacketSlot& packet, Connection& c);
  void on_farewell(Connection& c, bool over);
  void receive(Connection& c);
  void take_in(Connection& c, Received bytes, bool more);
  void keep_for_later(Connection& c, Received bytes, bool in_front);
  std::size_t consume(Connection& c, const Received& bytes);
  std::size_t read_head(Connection& c, const std::uint8_t* bytes, std::size_t size);
  void begin_body(Connection& c, std::uint64_t length);
  std::size_t keep(Connection& c, const Received& bytes, std::size_t size);
  std::size_t keep_in_memory(Connection& c, const std::uint8_t* bytes, std::size_t size);
  std::size_t keep_in_file(Connection& c, const Received& bytes, std::size_t size);
  bool copy_to_pool(const std::uint8_t* bytes, std::size_t size, Place& out);
  bool reserve(Connection& c, std::uint64_t wanted);
  void grow_at_once(Connection& c);
  void move_into(Connection& c, const Place& larger, std::uint64_t room);
  void settle(Connection& c);
  void on_give_up(Connection& c);
  bool move_to_file(Connection& c);
  bool claim_file(Connection& c, std::uint64_t size);
  void lose(Connection& c, driver::Result error);
  bool write(Connection& c, Place place, std::uint64_t offset, std::uint32_t length);
  void go_on(Connection& c);
  void deliver(Connection& c, std::unique_ptr<Lease> lease);
  void visit(Connection& c);
  bool go_to_next(Connection& c);
  void tell_next();

  // Documents that are handed over together: frames_gather.cc
  struct Batch;
  void gather(Connection& c, Received& bytes, bool more);
  bool make_room(Connection& c, const Batch& batch, std::uint64_t size);
  void find_whole(const Connection& c, Batch& batch) const;
  bool wants_more(const Connection& c, const Batch& batch) const;
  bool fetch(Connection& c, Batch& batch);

  // Answering and ending: frames_reply.cc
  void on_return(Connection& c);
  void on_send(const PacketSlot& packet, Connection& c);
  void go_on_replying(Connection& c);
  bool send_memory(Connection& c, const Reply& reply);
  void send_file(Connection& c, Reply& reply);
  void end_reply(Connection& c);
  void dismiss(Connection& c, const FramesStage::Farewell& why);
  void send_away(Connection& c, const FramesStage::Farewell& why);
  void close(Connection& c);
  void closed(Connection& c);
  void give_up_document(Connection& c);
  double deadline_of(const Frame& frame) const;
  void set_deadline(Connection& c);
  void arm(Connection& c);
  void judge(Connection& c);
  bool answer_moves(Connection& c);
  std::int64_t progress(const Connection& c) const;
  bool others_wait() const;
  void show_state(Connection& c);
  void note(const Connection& c, TraceEvent event, double bytes = 0) const;

  /// Memory of the connection, not of this thread: another may be the one to release it.
  bool allocate(std::uint64_t size, Place& out);
  bool allocate_or_wait(Connection& c, std::uint64_t size, Place& out);
  void submit(PacketKind kind, HandleId handle, std::uint32_t tag = 0);
  bool submit_with(PacketKind kind, HandleId handle, Place place, std::uint64_t length,
                   std::int64_t offset = 0, Request* chain = nullptr, std::uint32_t tag = 0,
                   bool more_follows = false);

  FramesStage& stage_;
  const std::uint32_t index_;
  std::unique_ptr<PacketSlot[]> slots_{new PacketSlot[kBatchLimit]()};
  Thread* thread_ = nullptr;
  system::Thread system_thread_;
  std::uint32_t receives_ = 0;  ///< submitted so far
  std::uint32_t handed_ = 0;    ///< connections of which the next stage was not told

  system::Mutex mutex_;  ///< guards what follows
  system::Condition attached_;
  driver::Result start_result_ = 1;  ///< 1: not known yet
};

}  // namespace cp::stage
