// Messages between two threads through this library's ports: one way as fast as they are taken, and
// there and back.
#include <poll.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <thread>
#include <vector>

#include "support/arguments.h"
#include "support/core.h"
#include "support/json.h"
#include "support/process.h"

namespace cp::bench {
namespace {

constexpr const char* kHelp =
    "posts: messages between two threads through a port\n"
    "  --mode M          pipelined: one thread posts, one takes; ping-pong: two ports, one "
    "message\n"
    "  --driver D        io_uring or epoll (what the library would take)\n"
    "  --keys N          messages have this many keys in turn (64)\n"
    "  --spin N          microseconds that a thread looks before it sleeps (50, the library's)\n"
    "  --seconds N       (2)\n";

constexpr std::uint32_t kEnd = 0xffffffff;  // key of the last message
constexpr std::uint32_t kRoom = 1;          // token of "there is room again"

struct Options {
  std::string driver;
  std::uint32_t keys = 64;
  std::uint32_t spin = 50;
  double seconds = 2;
};

struct PostCount {
  std::uint64_t messages = 0;
  std::uint64_t out_of_order = 0;
  double seconds = 0;
  CpuTime cpu;
};

PortHold port_for(const Options& options) {
  PortOptions port;
  port.driver = options.driver;
  port.spin = options.spin;
  return make_port(port);
}

/// Takes nothing but the answer to `notify_when_drained`, as an event loop that only posts does.
void wait_for_room(Attached& attached) {
  Thread& thread = attached.thread();
  thread.notify_when_drained(kRoom);
  for (;;) {
    const std::int64_t count = thread.poll(0);
    attached.each(count, [](const PacketSlot&) {});
    if (count > 0) return;
    pollfd notifier{thread.lane()->notifier(), POLLIN, 0};
    poll(&notifier, 1, 1000);
    thread.lane()->clear_notifier();
  }
}

/// Every message bears its number, so the taker sees whether one of its key is missing.
void produce(Port& port, const Options& options) {
  Attached attached(port);
  double number = 0;
  while (!stopping()) {
    const auto key = static_cast<std::uint32_t>(static_cast<std::uint64_t>(number) % options.keys);
    if (port.post(key, number)) {
      ++number;
    } else {
      wait_for_room(attached);
    }
  }
  while (!port.post(kEnd, number)) wait_for_room(attached);
}

PostCount pipelined(const Options& options) {
  const PortHold hold = port_for(options);
  Port& port = *hold;
  Attached attached(port);
  PostCount count;
  // Messages of one key come in their order; those of others may overtake them (rule D1).
  std::vector<double> next(options.keys);
  std::iota(next.begin(), next.end(), 0.0);
  const std::int64_t began = now();
  const CpuTime before = CpuTime::used();
  std::thread producer([&] { produce(port, options); });
  for (bool ended = false; !ended;) {
    const std::int64_t got = attached.thread().get(kBatchLimit, driver::kNever);
    attached.each(got, [&](const PacketSlot& packet) {
      ++count.messages;
      ended |= packet.key == kEnd;
      if (packet.key == kEnd) return;
      double& expected = next[packet.key];
      count.out_of_order += packet.result != expected;
      expected += options.keys;
    });
  }
  count.cpu = CpuTime::used() - before;
  count.seconds = static_cast<double>(now() - began) / 1e9;
  producer.join();
  return count;
}

/// The next message; its key.
std::uint32_t take_one(Attached& attached, double& number) {
  std::uint32_t key = kEnd;
  const std::int64_t got = attached.thread().get(1, driver::kNever);
  attached.each(got, [&](const PacketSlot& packet) {
    key = packet.key;
    number = packet.result;
  });
  return key;
}

void send_back(Port& mine, Port& other, std::atomic<bool>& ready) {
  Attached attached(mine);
  ready = true;
  ready.notify_one();
  double number = 0;
  while (take_one(attached, number) != kEnd) other.post(1, number);
}

PostCount ping_pong(const Options& options) {
  const PortHold hold_mine = port_for(options);
  const PortHold hold_other = port_for(options);
  Port& mine = *hold_mine;
  Port& other = *hold_other;
  Attached attached(mine);
  std::atomic<bool> ready{false};
  std::thread partner([&] { send_back(other, mine, ready); });
  ready.wait(false);
  PostCount count;
  const std::int64_t began = now();
  const CpuTime before = CpuTime::used();
  while (!stopping()) {
    double answer = 0;
    other.post(1, static_cast<double>(count.messages));
    take_one(attached, answer);
    count.out_of_order += answer != static_cast<double>(count.messages);
    ++count.messages;
  }
  count.cpu = CpuTime::used() - before;
  count.seconds = static_cast<double>(now() - began) / 1e9;
  other.post(kEnd, 0);
  partner.join();
  return count;
}

}  // namespace
}  // namespace cp::bench

int main(int argc, char** argv) {
  using namespace cp::bench;
  Arguments arguments(argc, argv, kHelp);
  Options options;
  const std::string mode = arguments.text("--mode", "pipelined");
  options.driver = arguments.text("--driver", "");
  options.keys = arguments.count("--keys", 64, 1, 1 << 20);
  options.spin = arguments.count("--spin", 50, 0, 1000);
  options.seconds = arguments.number("--seconds", 2, 0.05, 3600);
  arguments.end();
  if (mode != "pipelined" && mode != "ping-pong") arguments.fail("--mode", "is unknown");
  stop_after(options.seconds);
  const PostCount count = mode == "pipelined" ? pipelined(options) : ping_pong(options);
  const double each = static_cast<double>(std::max<std::uint64_t>(count.messages, 1));
  JsonLine line;
  line.add("program", "posts").add("mode", mode).add("seconds", count.seconds);
  if (!options.driver.empty()) line.add("driver", options.driver);
  line.add(mode == "pipelined" ? "messages" : "round_trips", count.messages);
  line.add(mode == "pipelined" ? "messages_per_second" : "round_trips_per_second",
           static_cast<double>(count.messages) / count.seconds);
  line.add("cpu_us_per_message", count.cpu.sum() / each);
  line.add("errors", count.out_of_order).print();
  return count.out_of_order == 0 ? 0 : 1;
}
