// A thread attached to a port: submits, carries out on its own lane, and takes packets.
//
// Every member but `wake` and `send` is called by the thread itself, and so is the lane; or, while
// the thread is in its program for long, by another thread of the port that has nothing else to do,
// which then does this one's work in its place: an errand. Whoever does so holds the lane's lock.
// So `this` is the thread whose lane it is, and `carrier_` the one that runs.
//
// Locks, outermost first: the lane's, a handle's, the dispatcher's (see there), a leaf
// (`inbox_mutex_`, the port's, the pool's). Nobody holds the lanes of two threads, and nobody but
// its own thread waits for a lane. The lane is used without the inner ones: what must happen there
// is gathered under the locks and done afterwards.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "port/dispatcher.h"
#include "port/handle.h"
#include "port/port.h"
#include "port/request.h"
#include "port/spin.h"
#include "port/timer_heap.h"
#include "port/watchman.h"
#include "system/mutex.h"
#include "system/published.h"
#include "system/spin_lock.h"

namespace cp {

/// What a thread's program has written down for its lane and not handed over: whoever does the
/// thread's work may begin it. Called with the lane held.
class Outbox {
 public:
  virtual bool pending() const = 0;
  virtual void submit() = 0;

 protected:
  ~Outbox() = default;
};

class Thread final : public Consumer {
 public:
  explicit Thread(Port& port);
  ~Thread() override;
  /// From here on the object stands for the calling thread, until that is detached.
  void begin(PacketSlot* packet_slots, PostRing* post_ring, std::unique_ptr<driver::Lane> lane);

  Port& port() { return port_; }
  /// Unlike any other thread's of the process, ever.
  std::uint32_t number() const { return number_; }
  bool allocate(std::uint64_t size, Place& out, bool beyond = false) {
    return port_.pool().allocate(size, number_, out, beyond);
  }
  /// A block of kCopyBlock bytes to gather copies in that are too small for a block each. It
  /// belongs to the operations that use it together; the thread keeps the latest one, which does
  /// not count for the memory limit. When no operation uses that one any more it is `out` again,
  /// from its beginning on; else `out` is another, and the caller releases the one before.
  /// `pending`: some of its uses are not taken yet. False at the limit: there is none but the one
  /// before.
  bool next_copy_block(bool pending, bool beyond, Place& out);
  static constexpr std::uint32_t kCopyBlock = 4096;

  // ---- memory of messages: see Packet and BufferPool::share

  static constexpr std::uint32_t kMessageBlock = 16384;
  /// A block of kMessageBlock bytes, cleared, to write small messages into that have no block each.
  /// The thread has a hold of the latest one, which does not count for the memory limit; messages
  /// get theirs when they leave the ring, or when this is called. When all of those are over that
  /// block is `out` again. False at the limit: there is none but the one before.
  bool next_message_block(Place& out);
  /// A message for each of the keys, of port `target`. `own_block`: its bytes have a block that
  /// this thread owns, which goes with the messages, or at once. False when the queue has no room
  /// for all, and then for none, or there is no such port.
  bool publish(const Packet& message, bool own_block, const std::uint32_t* keys,
               std::uint32_t count, Port* target);
  /// The bytes of a message stay with the thread beyond its batch, until `let_go` or its end. False
  /// when they are no message's.
  bool retain(Place place);
  /// The same of bytes whose hold is the caller's.
  void retain_held(Place place);
  /// False when they were not retained.
  bool let_go(Place place);

  // ---- submitting

  /// The lane for several of the calls that end in `_held`; the others take it themselves.
  std::unique_lock<SpinLock> hold_lane() { return std::unique_lock(lane_lock_); }
  /// Before the thread is detached it is left alone again.
  void set_outbox(Outbox* outbox);

  /// Queues an operation of `handle`. Never fails at once: what is wrong arrives as its packet.
  /// `request->chain` follows when it has succeeded.
  void submit(Request* request, HandleId handle);
  void submit_held(Request* request, HandleId handle);
  /// Answers a request that can't be carried out, and its chain.
  void refuse_held(Request* request, HandleId handle, std::int64_t error);
  /// What was submitted begins now, not when this thread comes to `poll` or `get`.
  void flush();
  void cancel_token(std::uint32_t token);
  void cancel_token_held(std::uint32_t token);
  void cancel_handle(HandleId handle);  ///< all operations in flight on it
  void cancel_handle_held(HandleId handle);
  void cancel_receives(HandleId handle);  ///< of those only what is received

  /// These make a handle and return its name, or a negative errno or LibraryError. The answer of
  /// `open` and `connect` is awaited by this thread under `token`, also when the handle is keyed.
  struct Association {
    bool keyed = false;
    std::uint32_t key = 0;
    std::uint32_t token = 0;
    std::uint32_t timeout = 0;
  };
  std::int64_t open(std::string_view path, std::uint32_t flags, std::uint32_t mode,
                    const Association& association);
  std::int64_t open_descriptor(driver::Descriptor descriptor, const Association& association);
  /// The same, and takes the descriptor over, also when it fails.
  std::int64_t adopt_file(driver::Descriptor descriptor, driver::FileKind kind,
                          const Association& association);
  /// Another handle for a file that a port of the process has open.
  std::int64_t reopen(HandleId file, const Association& association);
  std::int64_t listen(const driver::ListenOptions& options, bool accept_keyed,
                      const Association& association);
  /// A socket that somebody else has open, and keeps: connected or listening.
  std::int64_t adopt_socket(driver::Descriptor socket, const Association& association);
  /// A connection that the acceptor has accepted; takes it over, also when it fails.
  std::int64_t own_connection(driver::Descriptor connection, const Association& association);
  std::int64_t connect(driver::ConnectTarget target, const Association& association);
  std::int64_t timer(const Association& association);

  // ---- descriptors that go along with bytes; what nobody takes is closed with the thread at last

  /// Has `parcel` wait for the submission that names it; or, `promised` to the program, until that
  /// claims it: where the thread leaves the port it is the program's, where it dies it is closed.
  std::uint32_t keep(std::unique_ptr<Parcel> parcel, bool promised);
  /// That which `keep` was given; null: there is none such.
  std::unique_ptr<Parcel> take_parcel(std::uint32_t number);
  /// What the awaited operation `token` has received.
  std::unique_ptr<Parcel> take_received(std::uint32_t token);

  // ---- taking

  /// Ends the batch, starts what was submitted, and fills the next batch without waiting: the
  /// number of packets. 0: the lane's notifier tells when to come again. kErrorPortClosed.
  std::int64_t poll(std::size_t max);
  /// The same, waiting until `deadline` for the first packet. `interrupted` is asked now and then
  /// while it waits (the thread keeps its place on the stack); true ends the wait.
  std::int64_t get(std::size_t max, driver::Deadline deadline, bool (*interrupted)(void*) = nullptr,
                   void* context = nullptr);

  bool post(std::uint32_t key, double value) { return port_.post(key, value); }
  /// Room for messages in this thread's ring: how many. What is not used goes back at the next
  /// `poll` or `get`. The ring is empty afterwards.
  std::uint32_t reserve(std::uint32_t wanted);
  /// After a message was written into the ring while a thread waited.
  void accept_posts();
  void notify_when_drained(std::uint32_t token);
  /// See Port::notify_when_refused.
  void notify_when_refused(std::uint32_t token, std::uint64_t known);
  void begin_blocking();
  void end_blocking();
  /// See Dispatcher: keys that stay with this thread beyond a batch, or for good.
  bool release_key(std::uint32_t key);
  void pin_key(std::uint32_t key, HandleId handle, bool pinned);

  /// After the lane's notifier became readable.
  void clear_notifier();

  // ---- errands: what the watchman asks, on its thread

  /// Whether the thread waits in its event loop, or what runs there.
  bool parked() const { return parked_.load(std::memory_order_acquire); }
  bool blocking() const { return blocking_.load(std::memory_order_acquire) > 0; }
  /// Whether something has happened in the lane, or a deadline has passed, that the thread would
  /// look after if it were not in its program.
  bool needs_errand(driver::Deadline now);
  /// What the thread, which waits, is to do first when it comes.
  void send_to(Thread& busy) { errand_.store(&busy, std::memory_order_release); }
  /// The same of one that runs. False when it has an errand already.
  bool ask_to(Thread& busy) {
    Thread* none = nullptr;
    return errand_.compare_exchange_strong(none, &busy, std::memory_order_release);
  }
  /// Errands that were carried out for this thread, and how many of the last ones were fruitless:
  /// brought nothing that another thread could take.
  std::uint32_t errands() const { return errands_.load(std::memory_order_acquire); }
  std::uint32_t vain_errands() const { return vain_.load(std::memory_order_relaxed); }
  /// From now on the watchman is to know when this thread goes to its program.
  void be_watched();

  /// Ends this thread's part (rule T1): gives back what it has not begun, cancels and reaps its
  /// operations, closes the handles only it used, frees the lane. `died`: in the middle of a batch.
  void detach(bool died);
  bool attached() const { return lane_ != nullptr; }
  /// It is going to close the port, unless it ends before.
  void announce_close() {
    if (!std::exchange(announces_close_, true)) port_.announce_close();
  }

  void wake() override;
  driver::Lane* lane() { return lane_.get(); }
  std::uint64_t submitted() const { return submitted_.value(); }
  std::uint64_t completed() const { return completed_.value(); }
  std::uint64_t system_calls();

 private:
  friend class Port;
  friend class Watchman;
  friend class IdleClock;

  /// The thread is in native code: it looks after its lane itself.
  class Inside {
   public:
    explicit Inside(Thread& thread);
    ~Inside();
    Inside(const Inside&) = delete;
    Inside& operator=(const Inside&) = delete;

   private:
    Thread& thread_;
  };

  /// What another thread asks of this one.
  struct Message {
    enum class Kind : std::uint8_t { kCancel, kStart, kForgetTimer, kPause, kEndIdle } kind;
    Request* request;
    std::uint32_t generation;
    TimerNode* timer;
    HandleId handle = 0;  ///< kEndIdle
  };
  bool send(const Message& message, bool wakes = true);
  void read_inbox();

  // submitting: thread_submit.cc
  Handle* make(HandleKind kind, const Association& association, HandleId& name);
  std::int64_t submit_opening(Request* request, HandleKind kind, const Association& association);
  std::int32_t take_file(Request& request);
  std::int32_t check(const Request& request, const Handle& handle) const;
  bool closes_elsewhere(const Request& request, const Handle& handle) const;
  void prepare(Request* request, Handle& handle);
  void link_chain(Request* request, Handle& handle);
  void begin_close(Request* request, Handle& handle);
  void refuse_linked(Request* request, Handle& handle, std::int32_t error);
  bool claim(Request* request, Handle& handle);
  void address_refusal(Request* request, const Handle* handle);
  void fail(Request* request, std::int64_t error);
  void remember_token(Request* request, Handle* handle);
  void arm_timeout(Request* request);
  std::int64_t progress(const Handle& handle);
  bool turns_away(driver::Completion& completion, const Handle& listener, Port& port);
  void start(Request* request);
  void start_sent(Request* request);
  void run_on(Thread* runner, Request* request);
  bool send_start(Request* request);
  void take_along(Request* request);
  void try_again(Request* request);
  void resume(StreamQueue& direction);
  void copy_out(Request* request);
  void hold_back(HandleId feeder, HandleId sink);
  bool hold(HandleId feeder);
  static void let_receive(HandleId feeder);
  void resume_stranded();

  // ending early: thread_cancel.cc
  void end_early(Request* request, Request::End reason);
  void end_started(Request* request);
  void pause(Request* request);
  void fire_timers();
  template <typename Which>
  void cancel_requests(HandleId handle, Which which);
  void fire(const TimerNode& expired, std::int64_t now);
  void end_idle(HandleId handle);
  void end_idle_handles();
  void stop_timing(Request* request);
  void forget_timer(Request* request);
  static void ask_to_end_idle(Handle& handle);
  static void send_timer_back(Request* request);
  static void end_stranded(StreamQueue& direction);
  static void drop(Request* request);
  void close_own_handles();
  void cancel_everything();
  std::unique_ptr<driver::Lane> give_up_lane();

  // finishing: thread_settle.cc. `port`: where the answer is taken.
  void reap();
  void settle_all(const driver::Completion* completions, std::size_t count);
  Port& destination(const Request& request, const Handle* handle) const;
  void settle(driver::Completion completion, Handle* handle, Port& port);
  bool goes_on(const driver::Completion& completion, Request* request, Handle& handle, Port& port);
  void to_start_again(Request* request);
  bool continue_transfer(Request* request, std::int64_t bytes);
  bool advance_transfer(Request* request, std::int64_t bytes);
  bool moves_on(const driver::Completion& completion, Request* request, Handle& handle, Port& port);
  void deliver(const driver::Completion& completion, bool more, Handle* handle, Port& port);
  void route(Packet& packet, Request* request, Port& port);
  void hand_over(Request& request);
  void accept(Packet& packet, driver::Descriptor descriptor, Request* request, Handle& listener);
  void opened(const driver::Completion& completion, Handle& handle);
  void finish(Request* request, Handle& handle, bool succeeded, Port& port);
  void tell_drained(Handle& handle, const Request& request, Port& port);
  void start_close(Handle& handle);
  bool give_descriptor_back(Handle& handle);
  void leave(Request* request);
  void own(Request* request);
  void end_life(Request* request);
  static void end_life_elsewhere(Request* request);
  void disowned();
  void retire();
  void give_up_memory(Request* request);
  void close_shared(driver::Descriptor file);
  void close_passed(Request& request);
  void advance(Request* request, Handle& handle, Port& port);
  void continue_chain(Request* request, Handle& handle, bool succeeded, Port& port);
  void start_next(StreamQueue& direction, Handle& handle, Port& port);
  static void start_elsewhere(StreamQueue& direction, Port& port);
  static void start_stranded(Handle& handle, Port& port);
  void carry_out(Request* request, Port& port);
  static Thread* any_runner(const Request& request, Port& port);
  void after_settling();
  void retry_starved();
  void retry_paused();

  // taking: thread.cc
  Packet notice(std::uint32_t token);
  static constexpr std::int64_t kCheckInterval = 50'000'000;
  void pump();
  void work();
  void errand(Thread& busy);
  bool sleep_on_notifier();
  void be_heard();
  driver::Deadline next_deadline() const;
  bool spin_until(driver::Deadline end);
  void let_message_block_go();
  void let_all_go();

  Port& port_;
  std::uint32_t number_ = 0;  ///< changes when the object serves another thread
  /// Guards the lane, and all of the following up to `inbox_mutex_` but what is atomic. Its thread
  /// takes it for each call, others only try to. Not held while the thread waits in the kernel: it
  /// takes it again before it does anything there, and there are no errands while `turn` is even.
  SpinLock lane_lock_;
  /// Who holds the lane: this thread, or the one that carries out its errand. What is settled is
  /// for that one to take, and what begins thereby begins in that one's lane: the kernel may end
  /// what a thread has submitted when that thread exits, and a busy lane needs no more work.
  Thread* carrier_ = this;
  bool fruitful_ = false;  ///< the errand under way brought something
  Outbox* outbox_ = nullptr;
  std::unique_ptr<driver::Lane> lane_;
  bool announces_close_ = false;
  bool detaching_ = false;
  Place copies_;                  ///< see next_copy_block
  Place messages_;                ///< see next_message_block
  system::Mutex retained_mutex_;  ///< a leaf: an errand may let go
  std::vector<Place> retained_;
  SpinHistory spin_history_;
  TimerHeap timers_;
  struct Awaited {
    Request* request = nullptr;
    Handle* handle = nullptr;
    std::uint32_t generation = 0;
  };
  std::vector<Awaited> by_token_;  ///< may be stale: the generation tells
  std::vector<Request*> running_;  ///< every request this thread runs
  std::vector<driver::Completion> reaped_;
  std::vector<driver::Completion> synthetic_;  ///< completions that never were with the lane
  std::vector<Request*> to_start_;             ///< gathered under locks, started without
  std::vector<Request*> again_;                ///< likewise: those the lane has to take once more
  std::vector<Request*> to_end_;               ///< likewise: those to be ended early
  std::vector<HandleId> to_receive_;           ///< likewise: handles that are held no longer
  std::vector<Packet> orphans_;                ///< likewise: packets nobody will take
  std::vector<HandleId> idle_;  ///< to be ended unless what is reaped next moves them
  std::vector<Request*> starved_;
  std::vector<Request*> paused_;
  driver::Deadline retry_paused_at_ = driver::kNever;
  /// Requests that say it has submitted them, less those that ended in its lane.
  std::int64_t owned_ = 0;

  /// A leaf. Parcels by their number, and those that were received by the token that awaits them.
  system::Mutex parcels_mutex_;
  std::unordered_map<std::uint32_t, std::unique_ptr<Parcel>> parcels_, received_;
  std::uint32_t last_parcel_ = 0;

  system::Mutex inbox_mutex_;  ///< a leaf; also guards `lane_` against a wake-up while it is freed
  std::vector<Message> inbox_;
  std::atomic<bool> has_mail_{false};
  std::atomic<Thread*> errand_{nullptr};  ///< for whom this thread was woken
  std::atomic<bool> parked_{false};
  std::atomic<std::uint32_t> blocking_{0};  ///< depth
  std::atomic<bool> watched_{false};
  std::atomic<bool> heard_{false};  ///< the watchman hears the lane's notifier
  std::atomic<std::uint32_t> errands_{0}, vain_{0};
  WatchmansNotes notes_;  ///< used by the watchman alone
  Count submitted_;
  Count completed_;
  /// Of `owned_`, those that ended elsewhere; once the thread has left, less those there were: 0
  /// when none says any more that it has submitted it.
  std::atomic<std::int64_t> disowned_{0};
  std::atomic<bool> retired_{false};  ///< the object may serve another thread
};

}  // namespace cp
