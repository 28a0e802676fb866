// Packets through the dispatcher alone, in one thread: queued by the batch, taken, begun and done.
// Each is counted with the time it waited; `--more N` counts it N times again, so the difference
// tells what counting costs.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>

#include "port/dispatcher.h"
#include "support/arguments.h"
#include "support/core.h"
#include "support/json.h"
#include "support/process.h"

namespace cp::bench {
namespace {

constexpr const char* kHelp =
    "waits: what it costs to count how long each packet waited\n"
    "  --more N          each is counted so many times more (0)\n"
    "  --seconds N       (2)\n";

constexpr std::uint32_t kBatch = 128;
/// Batches that are measured together; the fastest lot is told, which nothing has disturbed.
constexpr std::uint32_t kLot = 100;

class Taker final : public Consumer {
 public:
  explicit Taker(Dispatcher& dispatcher) : slots(new PacketSlot[kBatchLimit]()) {
    HeldConsumer(*this).arrive(slots.get(), nullptr, 0);
    dispatcher.add(*this);
  }
  void wake() override {}

  const std::unique_ptr<PacketSlot[]> slots;
};

/// How many it took.
std::size_t round_trip(Dispatcher& dispatcher, Taker& taker, std::uint32_t more) {
  Packet packet;
  packet.kind = PacketKind::kReceive;
  for (std::uint32_t i = 0; i < kBatch; ++i) {
    packet.key = packet.handle = i + 1;
    dispatcher.push(packet, &taker);
  }
  dispatcher.release(taker);
  const std::size_t count = dispatcher.take(taker, kBatch);
  for (std::size_t i = 0; i < count; ++i) {
    for (std::uint32_t again = 0; again < more; ++again) taker.waits.record(taker.slots[i].age);
    std::atomic_ref(taker.slots[i].state).store(kSlotDone, std::memory_order_relaxed);
  }
  return count;
}

}  // namespace
}  // namespace cp::bench

int main(int argc, char** argv) {
  using namespace cp;
  using namespace cp::bench;
  Arguments arguments(argc, argv, kHelp);
  const std::uint32_t more = arguments.count("--more", 0, 0, 100);
  const double seconds = arguments.number("--seconds", 2, 0.05, 3600);
  arguments.end();
  stop_after(seconds);
  Dispatcher dispatcher({1, 65536, true});
  Taker taker(dispatcher);
  double least = std::numeric_limits<double>::infinity();
  std::uint64_t packets = 0, lost = 0;
  while (!stopping()) {
    const std::int64_t began = now();
    std::uint64_t taken = 0;
    for (std::uint32_t i = 0; i < kLot; ++i) taken += round_trip(dispatcher, taker, more);
    least = std::min(least, static_cast<double>(now() - began) / (kLot * kBatch));
    packets += taken;
    lost += kLot * kBatch - taken;
  }
  HistogramCounts counted;
  dispatcher.waits(counted);
  std::uint64_t counts = 0;
  for (const std::uint64_t count : counted.counts) counts += count;
  const bool right = lost == 0 && counts == packets * (1 + more);
  JsonLine line;
  line.add("program", "waits").add("more", more).add("packets", packets);
  line.add("ns_per_packet", least).add("errors", right ? 0 : 1).print();
  return right ? 0 : 1;
}
