// What the io_uring and the epoll driver share beside their lanes.
#pragma once

#include "driver/blocking/blocking_pool.h"
#include "driver/driver.h"

namespace cp::driver {

class LinuxDriver : public Driver {
 public:
  Result associate(Descriptor descriptor) override;
  Result listen(const ListenOptions& options) override;
  Result set_option(Descriptor socket, SocketOption option, int value) override;
  Result option(Descriptor socket, SocketOption option) override;
  Result address(Descriptor socket, bool peer, SocketAddress& out) override;
  bool ended_in_order(Descriptor socket, std::uint64_t received) override;
  std::int64_t acknowledged(Descriptor socket) override;
  void shut_down(Descriptor socket) override;
  void discard(Descriptor descriptor) override;
  Result duplicate_socket(Descriptor socket, SocketKind& kind) override;
  Result own_connection(Descriptor connection) override;
  bool lets_go() const override { return true; }
  void remove_socket_file(const std::string& path) override;
  Result temporary_file(const char* directory) override;
  Result duplicate(Descriptor descriptor, FileKind& kind) override;
  Result duplicate_own(Descriptor file, FileKind& kind) override;

 protected:
  /// Starts no thread before it has work. Outlives the lanes, which the driver outlives.
  BlockingPool& pool() { return pool_; }

 private:
  BlockingPool pool_;
};

}  // namespace cp::driver
