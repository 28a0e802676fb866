// The fourth driver, which no program gets: what the simulator gives a port.
#pragma once

#include <memory>

#include "driver/driver.h"
#include "driver/sim/world.h"

namespace cp::driver::sim {

std::unique_ptr<Driver> make_sim_driver(World& world);

// ---- files: the world's own in the simulator, the system's for a process

Result make_temporary(World& world, const char* directory);
Result copy_file(World& world, Descriptor file, FileKind& kind);
Result read_for_sending(World& world, Descriptor file, std::int64_t offset, std::uint8_t* into,
                        std::size_t length);

}  // namespace cp::driver::sim
