#include "sim/peer.h"

#include <sys/socket.h>

#include <algorithm>

namespace cp::test {

void Peer::begin(End& end) {
  end_ = &end;
  end.of_world = true;
  end.changed = [peer = shared_from_this()] { peer->later(); };
  later();
}

void Peer::send(const std::vector<std::uint8_t>& bytes) {
  plan_.sends.insert(plan_.sends.end(), bytes.begin(), bytes.end());
  if (end_ != nullptr) later();
}

void Peer::close() {
  if (end_ != nullptr) world_.close_end(*end_);
}

void Peer::later() {
  if (scheduled_) return;
  scheduled_ = true;
  world_.after(world_.delay(), [peer = shared_from_this()] {
    peer->scheduled_ = false;
    peer->step();
  });
}

void Peer::step() {
  if (end_->closed || heard_end_) return;
  if (plan_.vanishes && world_.random().one_in(8)) {
    end_->changed = nullptr;
    return;
  }
  read();
  write();
}

void Peer::read() {
  if (plan_.reads == PeerPlan::Reads::kNothing) return;
  std::uint8_t bytes[4096];
  for (;;) {
    const bool slowly = plan_.reads == PeerPlan::Reads::kSlowly;
    const std::size_t most = slowly ? 1 + world_.random().below(16) : sizeof bytes;
    const driver::Result got = world_.receive(*end_, bytes, most);
    if (got > 0 && on_bytes) on_bytes(bytes, static_cast<std::size_t>(got));
    if (got > 0 && slowly) return later();
    if (got > 0) continue;
    if (got == -EAGAIN) return;
    heard_end_ = true;
    if (on_end) on_end(got < 0);
    return;
  }
}

void Peer::write() {
  while (sent_ < plan_.sends.size()) {
    const std::size_t piece =
        std::min<std::size_t>(plan_.sends.size() - sent_, world_.random().size(2000));
    const driver::Result sent = world_.send(*end_, plan_.sends.data() + sent_, piece);
    if (sent <= 0) return;  // it is told when there is room
    sent_ += static_cast<std::size_t>(sent);
    if (world_.random().one_in(3)) return later();
  }
  if (finished_) return;
  finished_ = true;
  switch (plan_.ends) {
    case PeerPlan::Ends::kOrderly:
      world_.shut_down(*end_, SHUT_WR);
      return;
    case PeerPlan::Ends::kCloses:
      return world_.close_end(*end_);
    case PeerPlan::Ends::kResets:
      end_->resets_at_close = true;
      return world_.close_end(*end_);
    case PeerPlan::Ends::kStays:
      return;
  }
}

}  // namespace cp::test
