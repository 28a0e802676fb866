#include "stage/admission.h"

#include <utility>

namespace cp::stage {

/// The memory of a document goes back just before its place does.
class Admission::Place final : public Lease {
 public:
  explicit Place(std::shared_ptr<Admission> admission) : admission_(std::move(admission)) {}
  ~Place() override {
    admission_->memory().small_gave(small);
    admission_->give_files(in_files);
    admission_->give_back();
    admission_->memory().memory_returned();
  }

 private:
  const std::shared_ptr<Admission> admission_;
};

std::unique_ptr<Lease> Admission::take_place(std::uint32_t key) {
  {
    std::lock_guard lock(mutex_);
    // Those that wait come first.
    if (taken_ >= places_ || !waiting_.empty()) {
      waiting_.push_back(key);
      return nullptr;
    }
    ++taken_;
  }
  return granted();
}

std::unique_ptr<Lease> Admission::granted() { return std::make_unique<Place>(shared_from_this()); }

/// The place goes over to the connection that has waited longest; should that be gone, whoever
/// finds out ends its lease, and the next one gets it.
void Admission::give_back() {
  std::uint32_t key = 0;
  {
    std::lock_guard lock(mutex_);
    if (waiting_.empty()) {
      --taken_;
      return;
    }
    key = waiting_.front();
    waiting_.pop_front();
  }
  tell(port_, key, Notice::kPlace);
}

bool Admission::take_files(std::uint64_t bytes) {
  std::uint64_t before = in_files_;
  do {
    if (before > file_limit_ || bytes > file_limit_ - before) return false;
  } while (!in_files_.compare_exchange_weak(before, before + bytes));
  return true;
}

std::uint32_t Admission::taken() const {
  std::lock_guard lock(mutex_);
  return taken_;
}

std::size_t Admission::waiting() const {
  std::lock_guard lock(mutex_);
  return waiting_.size();
}

/// Not posted, so the queue's limit does not count it: there is one at most for each connection.
void Admission::tell(Port& port, std::uint32_t key, Notice notice, Consumer* from) {
  Packet packet;
  packet.kind = PacketKind::kNotice;
  packet.key = key;
  packet.result = static_cast<double>(notice);
  port.dispatcher().push(packet, from);
}

}  // namespace cp::stage
