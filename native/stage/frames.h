// A native stage: C++ threads that accept connections, receive documents whole, however slowly or
// in however many pieces they come, hand each to the next stage with one packet, and send the
// answer. JavaScript is entered once for a document.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "port/port.h"
#include "stage/admission.h"
#include "stage/framing.h"
#include "stage/record_table.h"
#include "system/mutex.h"

namespace cp::stage {

class FramesThread;
struct Frame;

struct FramesOptions {
  PortHold port;
  std::shared_ptr<RecordTable> records;
  std::uint8_t stage = 0;  ///< index in the pipeline
  PortHold next;           ///< where documents go
  std::uint8_t next_stage = 1;
  std::uint32_t threads = 1;
  std::uint32_t next_threads = ~0u;  ///< of the next stage
  std::vector<std::uint32_t> cpus;   ///< thread i is bound to cpus[i % size]; empty: not bound

  Framing framing{Framing::Kind::kU32be};
  std::uint64_t max = 0;             ///< bytes of the longest document
  bool spool_to_file = false;        ///< longer ones than `in_memory`, and all when memory runs out
  std::uint64_t in_memory = 0;       ///< bytes
  std::string directory;             ///< of the files
  std::uint32_t queue = 1024;        ///< documents in the next stage at one time
  std::uint32_t pipelined = 1;       ///< of one connection that are handed over together
  std::uint64_t file_limit = ~0ull;  ///< bytes of documents in files at one time
  double min_rate = 0;               ///< bytes a second, while others wait; 0: none

  // Milliseconds, 0: none.
  double idle_timeout = 0;      ///< between documents
  double stall_timeout = 0;     ///< nothing moves in the middle of a document or an answer
  double document_timeout = 0;  ///< from a document's first byte to its last
  double farewell_timeout = 0;  ///< for a client that is sent away to read why

  // What a client is told that is sent away; empty: nothing. Without `failed` a client whose
  // document could not be kept stays, and the next stage hears of the failure.
  std::vector<std::uint8_t> too_large, timed_out, failed;
};

/// What a connection's record says of its state: lib/stage/definition/frames.ts has the names.
enum class FrameState : std::uint8_t {
  kIdle,       ///< between documents
  kReceiving,  ///< in a document
  kWaiting,    ///< has a whole one, for which the next stage has no place yet
  kAnswering,
  kDismissed,  ///< may read why it is sent away
  kClosing,
};

/// What a frames stage has done, for a program to look at while it goes on.
struct FramesStats {
  std::uint64_t connections = 0;  ///< accepted so far
  std::uint64_t documents = 0;    ///< handed to the next stage so far
  std::uint64_t bytes = 0;        ///< of those
  std::uint64_t spooled = 0;      ///< of those, in files
  std::uint64_t replies = 0;
  std::uint64_t timed_out = 0;
  std::uint64_t too_large = 0;
  std::uint64_t failed = 0;
  std::uint64_t packets = 0;   ///< taken by its threads so far
  std::uint64_t queued = 0;    ///< documents in the next stage now
  std::uint64_t waiting = 0;   ///< connections that wait for room there
  std::uint64_t in_files = 0;  ///< bytes of documents in files now, as far as they are announced
};

struct FramesCounters {
  std::atomic<std::uint64_t> connections{0}, documents{0}, bytes{0}, spooled{0};
  std::atomic<std::uint64_t> replies{0}, timed_out{0}, too_large{0}, failed{0}, packets{0};
};

class FramesStage {
 public:
  /// Starts the threads. Null with `error` when not even one can be had.
  static std::unique_ptr<FramesStage> start(FramesOptions options, driver::Result& error);
  ~FramesStage();

  /// The key of listeners, which no record has.
  static constexpr std::uint32_t kListener = 0xffffffff;
  /// Accepts connections from now on. A handle or a negative errno. Any thread.
  std::int64_t listen(const driver::ListenOptions& options);

  /// Accepts no more. Any thread.
  void stop_listening();
  /// Takes no new documents: connections end when they rest, with an orderly end. Any thread.
  void end_connections();
  /// From now on a message to a connection closes it, so that a program can end those that are left
  /// wherever they are. Any thread.
  void close_connections() { closing_ = true; }

  FramesStats stats() const;
  std::size_t threads() const { return threads_.size(); }

  /// Ends the threads; the port is closed for everybody. Idempotent.
  void stop();

 private:
  friend class FramesThread;
  explicit FramesStage(FramesOptions options);
  std::int64_t listen_on(Port& port, const driver::ListenOptions& options);
  static void tell_listener(Port& port, HandleId listener, Notice notice);

  /// What a client is told, in memory that is there when no more is to be had.
  struct Farewell {
    Place place;
    std::size_t length = 0;  ///< 0: it is told nothing
  };
  bool keep_farewells();

  const FramesOptions options_;
  const std::shared_ptr<Admission> admission_;
  Farewell too_large_, timed_out_, failed_;
  FramesCounters counters_;
  /// By index of the record; whoever holds the key of the record may touch it.
  std::unique_ptr<std::unique_ptr<Frame>[]> frames_;
  std::vector<std::unique_ptr<FramesThread>> threads_;
  std::atomic<bool> ending_{false};  ///< set before connections are told
  std::atomic<bool> closing_{false};
  system::Mutex mutex_;              ///< guards what follows
  std::vector<HandleId> listeners_;  ///< handles
};

}  // namespace cp::stage
