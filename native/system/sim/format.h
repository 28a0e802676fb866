#pragma once

#include <string>

namespace cp::sim {

std::string format(const char* text, ...) __attribute__((format(printf, 1, 2)));

}  // namespace cp::sim
