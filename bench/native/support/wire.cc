#include "support/wire.h"

#include <cerrno>

#include "support/process.h"
#include "support/raw_ring.h"

namespace cp::bench {

std::unique_ptr<Wire> make_wire(const std::string& name) {
  if (name == "io_uring") return make_uring_wire();
  if (name == "epoll") return make_epoll_wire();
  if (!name.empty()) die(name.c_str(), EINVAL);
  return RawRing::available() ? make_uring_wire() : make_epoll_wire();
}

}  // namespace cp::bench
