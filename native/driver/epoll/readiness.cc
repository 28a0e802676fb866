#include "driver/epoll/readiness.h"

#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cassert>
#include <cerrno>
#include <utility>

namespace cp::driver::epoll {
namespace {

/// Events in a row that no operation here was waiting for, before the descriptor is taken to have
/// moved to another lane.
constexpr std::uint8_t kOrphansTolerated = 8;

constexpr std::uint32_t kInterest =
    EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | static_cast<std::uint32_t>(EPOLLET);

constexpr std::size_t index(Direction direction) { return static_cast<std::size_t>(direction); }

}  // namespace

/// Starts afresh when the number has a new bearer: closing took the old one out of the set.
Readiness::Entry& Readiness::entry(int fd, std::uint64_t id) {
  assert(fd >= 0);
  const auto slot = static_cast<std::size_t>(fd);
  if (slot >= entries_.size()) entries_.resize(slot + 1);
  Entry& entry = entries_[slot];
  if (entry.id != id) {
    assert(entry.waiting[0] == nullptr && entry.waiting[1] == nullptr);
    entry = Entry{};
    entry.id = id;
  }
  entry.orphans = 0;
  return entry;
}

bool Readiness::must_wait(int fd, std::uint64_t id, Direction direction) {
  const Entry& it = entry(fd, id);
  return it.in_set && !it.ready[index(direction)];
}

void Readiness::exhausted(int fd, std::uint64_t id, Direction direction) {
  entry(fd, id).ready[index(direction)] = false;
}

void Readiness::replenished(int fd, std::uint64_t id, Direction direction) {
  entry(fd, id).ready[index(direction)] = true;
}

bool Readiness::read_short(int fd, std::uint64_t id) {
  Entry& it = entry(fd, id);
  if (it.short_reads_lie) return false;
  it.ready[index(Direction::kIn)] = false;
  return true;
}

Result Readiness::await(Operation* operation, int fd, Direction direction) {
  Entry& it = entry(fd, operation->descriptor_id);
  assert(it.waiting[index(direction)] == nullptr);
  if (!it.in_set) {
    const Result result = add(fd, it);
    if (result < 0) return result;
  }
  it.waiting[index(direction)] = operation;
  return 0;
}

/// EPOLL_CTL_ADD and _MOD both report what is ready already, so nothing that happened before is
/// missed. EEXIST: the same file was added under an earlier id.
Result Readiness::add(int fd, Entry& entry) {
  struct epoll_event event = {};
  event.events = kInterest;
  event.data.u64 = event_data(fd, entry.id);
  calls_.add();
  int result = ::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
  if (result != 0 && errno == EEXIST) {
    calls_.add();
    result = ::epoll_ctl(epoll_, EPOLL_CTL_MOD, fd, &event);
  }
  if (result != 0) return -errno;
  entry.in_set = true;
  entry.ready[0] = entry.ready[1] = false;
  entry.short_reads_lie = false;
  return 0;
}

void Readiness::remove(int fd, Entry& entry) {
  struct epoll_event unused = {};
  calls_.add();
  // Fails when another lane closed the descriptor meanwhile, which removed it as well; a new bearer
  // of the number is not in this set, or `entry` would have another id. Past the C library, because
  // race detectors take that overlap for a mistake.
  ::syscall(SYS_epoll_ctl, epoll_, EPOLL_CTL_DEL, fd, &unused);
  const std::uint64_t id = entry.id;
  entry = Entry{};
  entry.id = id;
}

void Readiness::abandon(Operation* operation, int fd, Direction direction) {
  Operation*& waiting = entry(fd, operation->descriptor_id).waiting[index(direction)];
  assert(waiting == operation);
  waiting = nullptr;
  static_cast<void>(operation);
}

void Readiness::forget(int fd) {
  const auto slot = static_cast<std::size_t>(fd);
  if (slot >= entries_.size()) return;
  assert(entries_[slot].waiting[0] == nullptr && entries_[slot].waiting[1] == nullptr);
  entries_[slot] = Entry{};
}

Readiness::Woken Readiness::event(std::uint32_t events, std::uint64_t data) {
  const int fd = event_fd(data);
  const auto slot = static_cast<std::size_t>(fd);
  if (slot >= entries_.size()) return {};
  Entry& it = entries_[slot];
  if (!it.in_set || event_data(fd, it.id) != data) return {};

  // An error ends every wait: the attempt that follows finds out which error.
  const bool broken = (events & (EPOLLERR | EPOLLHUP)) != 0;
  if (broken || (events & (EPOLLRDHUP | EPOLLPRI)) != 0) it.short_reads_lie = true;
  if (broken || (events & (EPOLLIN | EPOLLRDHUP)) != 0) it.ready[0] = true;
  if (broken || (events & EPOLLOUT) != 0) it.ready[1] = true;

  if (it.waiting[0] == nullptr && it.waiting[1] == nullptr) {
    if (++it.orphans >= kOrphansTolerated) remove(fd, it);
    return {};
  }
  it.orphans = 0;
  Woken woken;
  if (it.ready[0]) woken.in = std::exchange(it.waiting[0], nullptr);
  if (it.ready[1]) woken.out = std::exchange(it.waiting[1], nullptr);
  return woken;
}

}  // namespace cp::driver::epoll
