// What the library asks of the system where a world serves a process: a driver of that world, and
// files of the system's.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <memory>
#include <string>

#include "driver/choose.h"
#include "driver/linux/file.h"
#include "driver/sim/sim_driver.h"
#include "driver/sim/world.h"

namespace cp::driver::sim {
namespace {

/// What a program is not told of, because the library goes on by itself. All else is the
/// simulator's (test/sim), whose programs expect it.
constexpr Fault kUnseen[] = {
    Fault::kShortReceive, Fault::kShortSend, Fault::kNoBuffers, Fault::kInterrupted, Fault::kLate,
    Fault::kNatural,      Fault::kEarly,     Fault::kFew,       Fault::kOverflow,
};

/// One for the process, which is never destroyed: its thread runs until the process is gone.
World& world_of_process() {
  static World* const world = [] {
    const Turn turn;
    WorldSettings settings;
    const char* seed = std::getenv("CP_SEED");
    settings.seed = seed == nullptr ? 1 : std::strtoull(seed, nullptr, 10);
    settings.least_room = 4096;
    settings.least_piece = 64;
    settings.latest = 5'000'000;
    settings.without = ~0ull;
    for (const Fault fault : kUnseen) settings.without &= ~(1ull << static_cast<unsigned>(fault));
    auto* made = new World(settings);
    made->begin();
    return made;
  }();
  return *world;
}

int fd_of(Descriptor descriptor) { return static_cast<int>(descriptor); }

}  // namespace

Result make_temporary(World&, const char* directory) {
  const int made = ::open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  return made < 0 ? -errno : made;
}

Result copy_file(World& world, Descriptor file, FileKind& kind) {
  if (World::has(file)) return world.copy(file);
  return duplicate_descriptor(fd_of(file), kind);
}

Result read_for_sending(World&, Descriptor file, std::int64_t offset, std::uint8_t* into,
                        std::size_t length) {
  const ssize_t got = ::pread(fd_of(file), into, length, offset);
  return got < 0 ? -errno : got;
}

}  // namespace cp::driver::sim

namespace cp::driver {

using sim::Turn;
using sim::World;

void close_file(Descriptor file) {
  if (!World::has(file)) {
    ::close(static_cast<int>(file));
    return;
  }
  const Turn turn;
  World::current().close(file);
}

Choice default_choice(Result& error) {
  error = 0;
  const char* wanted = std::getenv("COMPLETION_PORT_DRIVER");
  return {wanted == nullptr || *wanted == '\0' ? "sim" : wanted, ""};
}

std::unique_ptr<Driver> make_driver(const std::string& name, std::uint32_t, Result& error,
                                    std::string& reason) {
  const std::string wanted = name.empty() ? default_choice(error).name : name;
  error = wanted == "sim" ? 0 : -EINVAL;
  if (error == 0) return sim::make_sim_driver(sim::world_of_process());
  reason = "this binary has no driver '" + wanted + "', but the simulated one";
  return nullptr;
}

}  // namespace cp::driver
