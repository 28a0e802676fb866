// Options of a socket that is to listen or to connect, as JavaScript hands them over.
#pragma once

#include <napi.h>

#include <vector>

#include "driver/operation.h"

namespace cp::addon {

/// Of an Int32Array of pairs: an option and its value. None where it is something else.
inline std::vector<driver::SocketSetting> settings_in(const Napi::Value& value) {
  std::vector<driver::SocketSetting> settings;
  if (!value.IsTypedArray()) return settings;
  const auto numbers = value.As<Napi::Int32Array>();
  for (std::size_t i = 0; i + 1 < numbers.ElementLength(); i += 2) {
    settings.push_back({static_cast<driver::SocketOption>(numbers[i]), numbers[i + 1]});
  }
  return settings;
}

}  // namespace cp::addon
