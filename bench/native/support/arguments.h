// Options of a program: `--name value` and `--flag`.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace cp::bench {

class Arguments {
 public:
  /// Prints `help` and exits where it was asked for.
  Arguments(int argc, char** argv, const char* help) : argv_(argv), used_(argc), help_(help) {
    for (int i = 1; i < argc; ++i) {
      if (std::strcmp(argv[i], "--help") != 0 && std::strcmp(argv[i], "-h") != 0) continue;
      std::fputs(help, stderr);
      std::exit(0);
    }
  }

  bool flag(const char* name) { return find(name) > 0; }

  std::string text(const char* name, const char* fallback) {
    const std::size_t i = find(name);
    if (i == 0) return fallback;
    if (i + 1 == used_.size()) fail(name, "wants a value");
    used_[i + 1] = true;
    return argv_[i + 1];
  }

  /// At most `most`: everything here is bounded.
  double number(const char* name, double fallback, double least, double most) {
    const std::string given = text(name, "");
    if (given.empty()) return fallback;
    char* end = nullptr;
    const double value = std::strtod(given.c_str(), &end);
    if (*end != '\0' || !(value >= least && value <= most)) fail(name, "is out of range");
    return value;
  }

  std::uint32_t count(const char* name, std::uint32_t fallback, double least, double most) {
    return static_cast<std::uint32_t>(number(name, fallback, least, most));
  }

  /// After the last option was asked for: what is left over is a mistake.
  void end() {
    for (std::size_t i = 1; i < used_.size(); ++i) {
      if (!used_[i]) fail(argv_[i], "is not an option");
    }
  }

  [[noreturn]] void fail(const char* name, const char* why) {
    std::fprintf(stderr, "%s %s\n\n%s", name, why, help_);
    std::exit(2);
  }

 private:
  std::size_t find(const char* name) {
    for (std::size_t i = 1; i < used_.size(); ++i) {
      if (used_[i] || std::strcmp(argv_[i], name) != 0) continue;
      used_[i] = true;
      return i;
    }
    return 0;
  }

  char** argv_;
  std::vector<bool> used_;
  const char* help_;
};

}  // namespace cp::bench
