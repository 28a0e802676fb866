// What tests ask of the system they run on, apart from the port. posix.cc and windows.cc have it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "driver/choose.h"
#include "driver/driver.h"

namespace cp::test {

#ifdef _WIN32
struct Iocp {
  static constexpr const char* name = "iocp";
};
#define CP_DRIVERS Iocp
#else
struct Epoll {
  static constexpr const char* name = "epoll";
};
struct IoUring {
  static constexpr const char* name = "io_uring";
};
#define CP_DRIVERS Epoll, IoUring
#endif

/// Runs once for each driver of the system, `D`; one that this machine does not grant is left out.
#define PORT_TEST(title) TEST_CASE_TEMPLATE(title, D, CP_DRIVERS)
#define NEEDS_DRIVER() \
  if (!::cp::test::available(D::name)) return

inline bool available(const char* driver) {
  driver::Result error = 0;
  std::string reason;
  return driver::make_driver(driver, 1, error, reason) != nullptr;
}

/// Which is no Windows in every way: a reset that no receive waits for looks like an orderly end to
/// the next one, and files do not keep the time of access.
#ifdef _WIN32
bool under_wine();
#else
constexpr bool under_wine() { return false; }
#endif

/// Of the process: descriptors, or on Windows handles.
std::size_t open_descriptors();
/// Wine says 0 of any process.
inline bool descriptors_are_counted() { return open_descriptors() > 0; }
std::size_t threads_of_process();

driver::SocketAddress any_loopback();
/// The port of `address`, which is of IPv4, on whatever address of this machine.
driver::SocketAddress unspecified(const driver::SocketAddress& address);
/// `address`, which is of IPv4, as one of IPv6.
driver::SocketAddress mapped(const driver::SocketAddress& address);

std::string temporary_directory();
/// One that is there on every such system.
std::string readable_file();

/// An empty one, until the end of the block.
class TemporaryFile {
 public:
  TemporaryFile();
  ~TemporaryFile();
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  const char* path() const { return path_.c_str(); }

 private:
  std::string path_;
};

/// Of a file that a driver has opened, past the driver. How many bytes; below 0 when it failed.
std::int64_t read_at(driver::Descriptor file, void* bytes, std::size_t length, std::uint64_t at);
std::int64_t write_at(driver::Descriptor file, const void* bytes, std::size_t length,
                      std::uint64_t at);

}  // namespace cp::test
