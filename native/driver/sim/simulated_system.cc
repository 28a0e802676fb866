// What the library asks of the system, in a simulation: threads, sleep, files, all of the world.
#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include "driver/blocking/blocking_calls.h"
#include "driver/blocking/blocking_thread.h"
#include "driver/choose.h"
#include "driver/doorbell.h"
#include "driver/sim/sim_driver.h"
#include "driver/sim/world.h"
#include "system/switch_point.h"

namespace cp::driver::sim {

/// Whoever waits for the lane, in `wait`, at the notifier, or as the watchman, hears of it.
void Notice::tell() {
  if (waiter_ != nullptr) cp::sim::Scheduler::current()->wake(waiter_);
  World::current().notify(descriptor_);
}

Result make_temporary(World& world, const char*) { return world.temporary(); }

Result copy_file(World& world, Descriptor file, FileKind& kind) {
  kind = FileKind::kRegular;
  return world.copy(file);
}

Result read_for_sending(World& world, Descriptor file, std::int64_t offset, std::uint8_t* into,
                        std::size_t length) {
  Entry* entry = world.at(file);
  if (entry == nullptr || entry->file == nullptr) {
    cp::sim::fail("no operation meets another's descriptor", "a file that is sent is not open");
  }
  const std::vector<std::uint8_t>& bytes = entry->file->inode->bytes;
  const auto from = static_cast<std::size_t>(offset);
  if (from >= bytes.size()) return 0;
  const std::size_t many = std::min(length, bytes.size() - from);
  std::copy_n(bytes.begin() + offset, many, into);
  return static_cast<Result>(many);
}

}  // namespace cp::driver::sim

namespace cp::driver {

using sim::Entry;
using sim::World;

void close_file(Descriptor file) {
  system::switch_point();
  World::current().close(file);
}

Result size_of_file(Descriptor file) {
  Entry* entry = World::current().at(file);
  if (entry == nullptr || !entry->file) return -EINVAL;
  return static_cast<Result>(entry->file->inode->bytes.size());
}

std::uint32_t open_flags_of(Descriptor file) {
  Entry* entry = World::current().at(file);
  return entry == nullptr || !entry->file ? 0 : entry->file->flags & kOpenAppend;
}

Choice default_choice(Result& error) {
  error = 0;
  return {"sim", ""};
}

std::unique_ptr<Driver> make_driver(const std::string&, std::uint32_t, Result& error,
                                    std::string&) {
  error = 0;
  return sim::make_sim_driver(World::current());
}

Result run_blocking(Operation& operation) {
  World& world = World::current();
  // Where the pool has no thread, a thread of the port closes a file itself: the others wait for it
  // as long as that takes, which is no wait without a reason.
  cp::sim::Scheduler& scheduler = *cp::sim::Scheduler::current();
  const cp::sim::Time span = world.delay();
  if (scheduler.self()->name == "library") scheduler.sleep(span);
  if (operation.code == Opcode::kRead && world.fault(sim::Fault::kLate)) return kTryLater;
  return world.perform(operation);
}

system::Thread start_blocking_thread(std::function<void()> work) {
  system::switch_point();
  if (World::current().fault(sim::Fault::kNoThread)) return {};
  return system::Thread(std::move(work));
}

void sleep_blocking_thread(Deadline until) {
  cp::sim::Scheduler& scheduler = *cp::sim::Scheduler::current();
  while (scheduler.now() < until) scheduler.block("sleeps", until);
}

namespace {

class SimDoorbell final : public Doorbell {
 public:
  ~SimDoorbell() override { World::current().forget_ears(this); }

  void ring() override {
    system::switch_point();
    rung();
  }
  void hear(int notifier) override {
    World::current().hear(notifier, this, [this] {
      heard_ = true;
      wake();
    });
  }
  void sleep() override {
    while (!rung_ && !heard_) wait(kNever);
    rung_ = heard_ = false;
  }
  void pause(std::int64_t nanoseconds) override {
    const Deadline until = cp::sim::Scheduler::current()->now() + nanoseconds;
    while (!rung_ && cp::sim::Scheduler::current()->now() < until) wait(until);
    rung_ = false;
  }

 private:
  void rung() {
    rung_ = true;
    wake();
  }
  void wait(Deadline until) {
    sleeper_ = cp::sim::Scheduler::current()->self();
    cp::sim::Scheduler::current()->block("waits for the bell", until);
    sleeper_ = nullptr;
  }
  void wake() {
    if (sleeper_ != nullptr) cp::sim::Scheduler::current()->wake(sleeper_);
  }

  cp::sim::Fiber* sleeper_ = nullptr;
  bool rung_ = false, heard_ = false;
};

}  // namespace

std::unique_ptr<Doorbell> Doorbell::make() { return std::make_unique<SimDoorbell>(); }

}  // namespace cp::driver
