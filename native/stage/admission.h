// What bounds a native stage: places for documents in the queue of the next stage, and memory. A
// connection that gets none waits, and is told by a packet of its key.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>

#include "port/port.h"
#include "stage/cargo.h"
#include "stage/memory_queue.h"
#include "system/mutex.h"

namespace cp::stage {

/// What a connection is told: the result of a kNotice packet of its key.
enum class Notice : int {
  kPlace,         ///< a place in the next stage is its own
  kMemory,        ///< some memory was given back: try again
  kGiveUp,        ///< others wait for its memory, and it would wait for theirs
  kListen,        ///< of a listener: accept connections
  kEndListening,  ///< of a listener: close it
  kBegin,         ///< it was accepted
  kEnd,           ///< no new documents are taken
};
inline Notice notice_of(const PacketSlot& packet) {
  return static_cast<Notice>(static_cast<int>(packet.result));
}

class Admission : public std::enable_shared_from_this<Admission> {
 public:
  Admission(Port& port, std::uint32_t places, std::uint64_t file_limit)
      : port_(port), places_(places), file_limit_(file_limit), memory_(port) {}

  /// A place for a document, given back when the lease ends; null: `key` waits for one.
  std::unique_ptr<Lease> take_place(std::uint32_t key);
  /// After Notice::kPlace: the place is taken for the connection already.
  std::unique_ptr<Lease> granted();

  MemoryQueue& memory() { return memory_; }

  /// Bytes for documents in files. False: the limit is reached.
  bool take_files(std::uint64_t bytes);
  void give_files(std::uint64_t bytes) { in_files_ -= bytes; }
  std::uint64_t in_files() const { return in_files_; }

  /// Documents in the next stage; connections that wait for a place.
  std::uint32_t taken() const;
  std::size_t waiting() const;

  /// `from`: the thread that calls and will come for packets by itself.
  static void tell(Port& port, std::uint32_t key, Notice notice, Consumer* from = nullptr);

 private:
  class Place;
  void give_back();

  Port& port_;
  const PortHold hold_{port_};  ///< documents in the next stage may outlive this one's port
  const std::uint32_t places_;
  const std::uint64_t file_limit_;
  std::atomic<std::uint64_t> in_files_{0};
  mutable system::Mutex mutex_;  ///< a leaf
  std::uint32_t taken_ = 0;
  std::deque<std::uint32_t> waiting_;
  MemoryQueue memory_;
};

}  // namespace cp::stage
