// A program's result: one JSON object on a line of its own.
#pragma once

#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <string>
#include <type_traits>

namespace cp::bench {

class JsonLine {
 public:
  /// Names and texts are the programs' own; nothing in them needs escaping.
  JsonLine& add(const char* name, const char* text) {
    return put(name, '"' + std::string(text) + '"');
  }
  JsonLine& add(const char* name, const std::string& text) { return add(name, text.c_str()); }

  template <typename Number>
  requires std::is_arithmetic_v<Number> JsonLine& add(const char* name, Number value) {
    char buffer[64];
    if constexpr (std::is_same_v<Number, bool>) {
      return put(name, value ? "true" : "false");
    } else if constexpr (std::is_integral_v<Number>) {
      std::snprintf(buffer, sizeof buffer, "%" PRId64, static_cast<std::int64_t>(value));
    } else {
      if (!std::isfinite(value)) return put(name, "null");
      std::snprintf(buffer, sizeof buffer, "%.3f", static_cast<double>(value));
    }
    return put(name, buffer);
  }

  void print() const {
    std::printf("{%s}\n", members_.c_str());
    std::fflush(stdout);
  }

 private:
  JsonLine& put(const char* name, const std::string& value) {
    if (!members_.empty()) members_ += ',';
    members_ += '"';
    members_ += name;
    members_ += "\":";
    members_ += value;
    return *this;
  }

  std::string members_;
};

}  // namespace cp::bench
