// support/system.h, support/sockets.h and support/peer.h on Windows.
#include <winsock2.h>
#include <ws2tcpip.h>
// winsock2.h comes before windows.h, which would bring the sockets of 1993.
#include <windows.h>
// tlhelp32.h needs windows.h before it.
#include <tlhelp32.h>

#include <algorithm>
#include <cstring>

#include "peer.h"
#include "sockets.h"
#include "system.h"

#ifdef __MINGW32__
/// MinGW-w64 frees a thread's variables before their destructors run (GCC bug 80816), and doctest
/// has such variables: here they are not destroyed at all.
extern "C" int __cxa_thread_atexit(void (*)(void*), void*, void*) noexcept { return 0; }
#endif

namespace cp::test {
namespace {

SOCKET of(std::intptr_t socket) { return static_cast<SOCKET>(socket); }

int clipped(std::size_t length) {
  return static_cast<int>(std::min<std::size_t>(length, 0x7ffff000));
}

/// With the lowest bit of its event set, an operation sends no packet to the port of its file.
template <typename Call>
std::int64_t wait_for(HANDLE file, std::uint64_t at, Call call) {
  HANDLE event = ::CreateEventW(nullptr, TRUE, FALSE, nullptr);
  OVERLAPPED overlapped = {};
  overlapped.Offset = static_cast<DWORD>(at);
  overlapped.OffsetHigh = static_cast<DWORD>(at >> 32);
  overlapped.hEvent = reinterpret_cast<HANDLE>(reinterpret_cast<std::uintptr_t>(event) | 1);
  DWORD moved = 0;
  const bool begun = call(overlapped) || ::GetLastError() == ERROR_IO_PENDING;
  const bool done = begun && ::GetOverlappedResult(file, &overlapped, &moved, TRUE);
  ::CloseHandle(event);
  return done ? static_cast<std::int64_t>(moved) : -1;
}

}  // namespace

bool under_wine() {
  return ::GetProcAddress(::GetModuleHandleW(L"ntdll.dll"), "wine_get_version") != nullptr;
}

std::size_t open_descriptors() {
  DWORD count = 0;
  ::GetProcessHandleCount(::GetCurrentProcess(), &count);
  return count;
}

std::size_t threads_of_process() {
  HANDLE snapshot = ::CreateToolhelp32Snapshot(TH32CS_SNAPTHREAD, 0);
  THREADENTRY32 entry = {};
  entry.dwSize = sizeof entry;
  std::size_t count = 0;
  for (BOOL more = ::Thread32First(snapshot, &entry); more;
       more = ::Thread32Next(snapshot, &entry)) {
    count += entry.th32OwnerProcessID == ::GetCurrentProcessId();
  }
  ::CloseHandle(snapshot);
  return count;
}

driver::SocketAddress any_loopback() {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  driver::SocketAddress out;
  std::memcpy(out.bytes, &address, sizeof address);
  out.length = sizeof address;
  return out;
}

/// Without the backslash that it ends with.
std::string temporary_directory() {
  char path[MAX_PATH + 1] = {};
  const DWORD length = ::GetTempPathA(sizeof path, path);
  return {path, length > 0 ? length - 1 : 0};
}

std::string readable_file() {
  char path[MAX_PATH + 1] = {};
  ::GetModuleFileNameA(nullptr, path, sizeof path);
  return path;
}

TemporaryFile::TemporaryFile() {
  char path[MAX_PATH + 1] = {};
  ::GetTempFileNameA(temporary_directory().c_str(), "cp", 0, path);
  path_ = path;
}
TemporaryFile::~TemporaryFile() { ::DeleteFileA(path()); }

std::int64_t read_at(driver::Descriptor file, void* bytes, std::size_t length, std::uint64_t at) {
  auto* handle = reinterpret_cast<HANDLE>(file);
  const auto size = static_cast<DWORD>(clipped(length));
  return wait_for(handle, at, [&](OVERLAPPED& overlapped) {
    return ::ReadFile(handle, bytes, size, nullptr, &overlapped) != 0;
  });
}
std::int64_t write_at(driver::Descriptor file, const void* bytes, std::size_t length,
                      std::uint64_t at) {
  auto* handle = reinterpret_cast<HANDLE>(file);
  const auto size = static_cast<DWORD>(clipped(length));
  return wait_for(handle, at, [&](OVERLAPPED& overlapped) {
    return ::WriteFile(handle, bytes, size, nullptr, &overlapped) != 0;
  });
}

// ---- sockets ----------------------------------------------------------------------------------

Socket socket_to(const driver::SocketAddress& address) {
  const SOCKET socket = ::socket(AF_INET, SOCK_STREAM, 0);
  const auto* to = reinterpret_cast<const sockaddr*>(address.bytes);
  const bool connected = ::connect(socket, to, static_cast<int>(address.length)) == 0;
  return connected ? static_cast<Socket>(socket) : -1;
}

void put(Socket socket, const void* data, std::size_t size) {
  const auto* bytes = static_cast<const char*>(data);
  while (size > 0) {
    const int sent = ::send(of(socket), bytes, clipped(size), 0);
    if (sent < 0) return;
    bytes += sent;
    size -= static_cast<std::size_t>(sent);
  }
}

std::ptrdiff_t take(Socket socket, void* data, std::size_t size) {
  return ::recv(of(socket), static_cast<char*>(data), clipped(size), 0);
}

void put_urgent(Socket socket) { ::send(of(socket), "!", 1, MSG_OOB); }
void end_writing(Socket socket) { ::shutdown(of(socket), SD_SEND); }
void end_both(Socket socket) { ::shutdown(of(socket), SD_BOTH); }
void shut(Socket socket) { ::closesocket(of(socket)); }

void reset(Socket socket) {
  const linger at_once = {1, 0};
  const auto* value = reinterpret_cast<const char*>(&at_once);
  ::setsockopt(of(socket), SOL_SOCKET, SO_LINGER, value, sizeof at_once);
  shut(socket);
}

bool readable(Socket socket, int milliseconds) {
  fd_set ready;
  FD_ZERO(&ready);
  FD_SET(of(socket), &ready);
  timeval limit = {milliseconds / 1000, milliseconds % 1000 * 1000};
  return ::select(0, &ready, nullptr, nullptr, &limit) == 1;
}

// ---- the other end ----------------------------------------------------------------------------

/// Winsock has been started by the driver whose address this is.
Peer::Peer(const driver::SocketAddress& address) {
  const SOCKET socket = ::socket(AF_INET, SOCK_STREAM, 0);
  socket_ = static_cast<std::intptr_t>(socket);
  const DWORD limit = 40'000;
  const auto* bytes = reinterpret_cast<const char*>(&limit);
  ::setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, bytes, sizeof limit);
  ::setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, bytes, sizeof limit);
  const auto* to = reinterpret_cast<const sockaddr*>(address.bytes);
  connected = ::connect(socket, to, static_cast<int>(address.length)) == 0;
}

std::ptrdiff_t Peer::write_some(const char* bytes, std::size_t length) {
  return ::send(of(socket_), bytes, clipped(length), 0);
}

std::ptrdiff_t Peer::read_some(char* bytes, std::size_t length) {
  return ::recv(of(socket_), bytes, clipped(length), 0);
}

void Peer::end_writing() { ::shutdown(of(socket_), SD_SEND); }

void Peer::reset() {
  const linger now = {1, 0};
  ::setsockopt(of(socket_), SOL_SOCKET, SO_LINGER, reinterpret_cast<const char*>(&now), sizeof now);
  shut();
}

void Peer::shut() {
  if (socket_ >= 0) ::closesocket(of(socket_));
  socket_ = -1;
}

}  // namespace cp::test
