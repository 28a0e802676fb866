#include "driver/accepting.h"

#include <unordered_map>

#include "driver/errno.h"
#include "driver/iocp/socket.h"
#include "driver/windows/error.h"
#include "system/mutex.h"

namespace cp::driver {
namespace {

/// One event for all of them: it says that one may have connections, and accept says which.
class EventSockets final : public ListeningSockets {
 public:
  explicit EventSockets(HANDLE event) : event_(event) {}
  ~EventSockets() override { ::CloseHandle(event_); }

  /// Makes it non-blocking, too.
  Result add(Descriptor socket, std::uint32_t) override {
    return ::WSAEventSelect(iocp::socket_of(socket), event_, FD_ACCEPT) == 0 ? 0 : last_error();
  }

  void remove(Descriptor socket, std::uint32_t id) override {
    std::lock_guard lock(mutex_);
    wanted_.erase(id);
    ::WSAEventSelect(iocp::socket_of(socket), nullptr, 0);
  }

  void look_at(Descriptor socket, std::uint32_t id, bool wanted) override {
    std::lock_guard lock(mutex_);
    if (!wanted) {
      wanted_.erase(id);
      return;
    }
    wanted_[id] = iocp::socket_of(socket);
    ::SetEvent(event_);
  }

  void wait(std::vector<std::uint32_t>& ids, Deadline until) override {
    ids.clear();
    select();
    const auto patience = static_cast<DWORD>(milliseconds_until(until));
    if (::WaitForSingleObject(event_, patience) != WAIT_OBJECT_0) return;
    std::lock_guard lock(mutex_);
    for (const auto& [id, socket] : wanted_) ids.push_back(id);
  }

  void nudge() override { ::SetEvent(event_); }

 private:
  /// Winsock tells of connections that wait once; each time anew where it is asked anew.
  void select() {
    std::lock_guard lock(mutex_);
    for (const auto& [id, socket] : wanted_) ::WSAEventSelect(socket, event_, FD_ACCEPT);
  }

  const HANDLE event_;   ///< resets itself
  system::Mutex mutex_;  ///< so that no socket is asked that has been closed
  std::unordered_map<std::uint32_t, SOCKET> wanted_;
};

}  // namespace

std::unique_ptr<ListeningSockets> ListeningSockets::make() {
  if (iocp::start_winsock() < 0) return nullptr;
  const HANDLE event = ::CreateEventW(nullptr, FALSE, FALSE, nullptr);
  if (event == nullptr) return nullptr;
  return std::make_unique<EventSockets>(event);
}

Result open_shared_socket(const ListenOptions& options) {
  const Result started = iocp::start_winsock();
  return started < 0 ? started : iocp::open_listening_socket(options);
}

Result share_listening_socket(int) { return -ENOTSUP; }

Result open_socket_like(Descriptor) { return -ENOTSUP; }

Result accept_connection(Descriptor socket) {
  const SOCKET accepted = ::accept(iocp::socket_of(socket), nullptr, nullptr);
  if (accepted == INVALID_SOCKET) return last_error();
  // It has its listener's event, and is for this process alone: from here on, since accept has no
  // flag for that. A child that another thread starts in between keeps it open as well.
  ::WSAEventSelect(accepted, nullptr, 0);
  ::SetHandleInformation(reinterpret_cast<HANDLE>(accepted), HANDLE_FLAG_INHERIT, 0);
  return iocp::descriptor_of(accepted);
}

Result address_of_listener(Descriptor socket, SocketAddress& out) {
  return iocp::socket_address(iocp::socket_of(socket), false, out);
}

void close_socket(Descriptor socket) { ::closesocket(iocp::socket_of(socket)); }

void name_acceptor_thread() {}

void remove_file_of_socket(const char*) {}

}  // namespace cp::driver
