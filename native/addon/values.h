// What the functions that JavaScript calls make of numbers; lib/native/binding.ts gives no others.
#pragma once

#include <napi.h>

#include <cstdint>

#include "driver/driver.h"

namespace cp::addon {

inline std::uint32_t u32(const Napi::Value& value) {
  return value.As<Napi::Number>().Uint32Value();
}

inline HandleId handle_id(const Napi::Value& value) {
  return static_cast<HandleId>(value.As<Napi::Number>().Int64Value());
}

inline Napi::Value number(Napi::Env env, std::int64_t value) {
  return Napi::Number::New(env, static_cast<double>(value));
}

// ---- the same without C++ objects, for what is called most -----------------------------------

inline std::uint32_t u32(napi_env env, napi_value value) {
  std::uint32_t number = 0;
  napi_get_value_uint32(env, value, &number);
  return number;
}

inline double number_of(napi_env env, napi_value value) {
  double number = 0;
  napi_get_value_double(env, value, &number);
  return number;
}

}  // namespace cp::addon
