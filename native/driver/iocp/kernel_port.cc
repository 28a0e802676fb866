#include "driver/iocp/kernel_port.h"

#include <array>

#include "driver/errno.h"
#include "driver/iocp/pending.h"
#include "driver/windows/error.h"

namespace cp::driver::iocp {
namespace {

constexpr ULONG kBatch = 128;

}  // namespace

Inbox::~Inbox() {
  if (owner.event != nullptr) ::CloseHandle(owner.event);
  if (watcher.event != nullptr) ::CloseHandle(watcher.event);
}

Result Inbox::open() {
  owner.event = ::CreateEventW(nullptr, FALSE, FALSE, nullptr);
  watcher.event = ::CreateEventW(nullptr, FALSE, FALSE, nullptr);
  return owner.event != nullptr && watcher.event != nullptr ? 0 : last_error();
}

KernelPort* KernelPort::instance(Result& error) {
  static std::mutex* const mutex = new std::mutex;
  static KernelPort* made = nullptr;
  std::lock_guard lock(*mutex);
  error = 0;
  if (made != nullptr) return made;
  constexpr DWORD kNoLimit = 0xffff;  // 0 would mean the number of processors
  HANDLE port = ::CreateIoCompletionPort(INVALID_HANDLE_VALUE, nullptr, 0, kNoLimit);
  if (port == nullptr) {
    error = last_error();
    return nullptr;
  }
  return made = new KernelPort(port);
}

/// ERROR_INVALID_PARAMETER: opened without FILE_FLAG_OVERLAPPED, or bound to another port already;
/// Windows does not say which.
Result KernelPort::associate(Descriptor descriptor) {
  auto handle = reinterpret_cast<HANDLE>(descriptor);
  if (::CreateIoCompletionPort(handle, port_, 0, 0) != nullptr) return 0;
  const DWORD error = ::GetLastError();
  return error == ERROR_INVALID_PARAMETER ? kNotOverlapped : from_windows(error);
}

// ---- sleeping ---------------------------------------------------------------------------------

/// `plan` says, under the mutex, what the sleeper is to do next.
template <typename Plan>
void KernelPort::rest(Sleeper& me, Plan plan) {
  std::unique_lock lock(mutex_);
  for (;;) {
    const Nap nap = plan();
    if (nap.kind == Nap::Kind::kOver) break;
    if (nap.kind == Nap::Kind::kParked) {
      park(me, lock);
      continue;
    }
    me.until = nap.until;
    const auto milliseconds = static_cast<DWORD>(milliseconds_until(nap.until));
    if (polling_ == nullptr) {
      poll(me, milliseconds, lock);
    } else {
      lie_down(me, milliseconds, lock);
    }
  }
  send_next();
}

/// Takes a batch from the kernel and gives each lane its own.
void KernelPort::poll(Sleeper& me, DWORD milliseconds, std::unique_lock<std::mutex>& lock) {
  std::array<OVERLAPPED_ENTRY, kBatch> entries;
  ULONG count = 0;
  polling_ = &me;
  me.state = Sleeper::State::kPolling;
  lock.unlock();
  const bool any = ::GetQueuedCompletionStatusEx(port_, entries.data(), kBatch, &count,
                                                 milliseconds, FALSE) != 0;
  lock.lock();
  me.state = Sleeper::State::kAwake;
  polling_ = nullptr;
  if (!any) return;
  for (ULONG i = 0; i < count; ++i) {
    if (entries[i].lpOverlapped == nullptr) continue;  // posted by `wake_sleeper`: to be up is all
    Pending* pending = Pending::of(entries[i].lpOverlapped);
    pending->inbox->arrivals.push_back({pending, entries[i].dwNumberOfBytesTransferred});
    wake_sleepers(*pending->inbox);
  }
}

void KernelPort::lie_down(Sleeper& me, DWORD milliseconds, std::unique_lock<std::mutex>& lock) {
  sleepers_.push_back(&me);
  me.state = Sleeper::State::kOnEvent;
  lock.unlock();
  ::WaitForSingleObject(me.event, milliseconds);
  lock.lock();
  me.state = Sleeper::State::kAwake;
  std::erase(sleepers_, &me);
}

void KernelPort::park(Sleeper& me, std::unique_lock<std::mutex>& lock) {
  send_next();
  me.state = Sleeper::State::kParked;
  lock.unlock();
  ::WaitForSingleObject(me.event, INFINITE);
  lock.lock();
  me.state = Sleeper::State::kAwake;
}

/// Whoever lets go of the kernel port calls this, and so does whoever was sent and does not go:
/// while somebody sleeps, somebody polls or is on the way.
void KernelPort::send_next() {
  if (polling_ == nullptr && !sleepers_.empty()) ::SetEvent(sleepers_.back()->event);
}

void KernelPort::wake_sleeper(Sleeper& sleeper) {
  switch (sleeper.state) {
    case Sleeper::State::kAwake:
      return;
    case Sleeper::State::kParked:
    case Sleeper::State::kOnEvent:
      ::SetEvent(sleeper.event);
      return;
    case Sleeper::State::kPolling:
      // The only one there, so it is the one that gets it. Without memory of the system's for the
      // packet it would sleep on over what it is woken for.
      while (!::PostQueuedCompletionStatus(port_, 0, 0, nullptr)) ::Sleep(1);
      return;
  }
}

void KernelPort::wake_sleepers(Inbox& inbox) {
  wake_sleeper(inbox.owner);
  if (inbox.armed) wake_sleeper(inbox.watcher);
}

// ---- the owner --------------------------------------------------------------------------------

void KernelPort::collect(Inbox& inbox, std::vector<Arrival>& out, bool look, bool owner) {
  std::unique_lock lock(mutex_);
  if (owner) inbox.armed = false;
  if (look && polling_ == nullptr) {
    poll(passer_by_, 0, lock);
    send_next();
  }
  out.swap(inbox.arrivals);
}

bool KernelPort::has_arrivals(const Inbox& inbox) {
  std::lock_guard lock(mutex_);
  return !inbox.arrivals.empty();
}

void KernelPort::sleep(Inbox& inbox, Deadline deadline) {
  rest(inbox.owner, [&]() -> Nap {
    const bool over = inbox.has_news() || (deadline != kNever && now() >= deadline);
    if (over) inbox.woken = false;
    return {over ? Nap::Kind::kOver : Nap::Kind::kUntil, deadline};
  });
}

void KernelPort::wake(Inbox& inbox) {
  std::lock_guard lock(mutex_);
  if (inbox.woken) return;
  inbox.woken = true;
  wake_sleepers(inbox);
}

bool KernelPort::arm(Inbox& inbox, Deadline deadline) {
  std::lock_guard lock(mutex_);
  if (inbox.has_news()) {
    inbox.woken = false;
    return false;
  }
  inbox.armed = true;
  inbox.armed_until = deadline;
  Sleeper& watcher = inbox.watcher;
  const bool in_time = watcher.state != Sleeper::State::kParked && watcher.until <= deadline;
  if (!in_time) wake_sleeper(watcher);
  return true;
}

void KernelPort::disarm(Inbox& inbox) {
  std::lock_guard lock(mutex_);
  inbox.armed = false;
  inbox.woken = false;
}

// ---- the watcher ------------------------------------------------------------------------------

bool KernelPort::watch(Inbox& inbox) {
  bool ended = false;
  rest(inbox.watcher, [&]() -> Nap {
    ended = inbox.watch_ended;
    if (ended) return {Nap::Kind::kOver};
    if (!inbox.armed) return {Nap::Kind::kParked};
    const Deadline deadline = inbox.armed_until;
    if (!inbox.has_news() && (deadline == kNever || now() < deadline)) {
      return {Nap::Kind::kUntil, deadline};
    }
    inbox.armed = false;
    return {Nap::Kind::kOver};
  });
  return !ended;
}

void KernelPort::end_watch(Inbox& inbox) {
  std::lock_guard lock(mutex_);
  inbox.watch_ended = true;
  wake_sleeper(inbox.watcher);
}

}  // namespace cp::driver::iocp
