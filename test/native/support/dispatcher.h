// What the tests of the dispatcher share: packets by their values.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "consumer.h"
#include "port/dispatcher.h"

namespace doctest {
template <>
struct StringMaker<std::vector<double>> {
  static String convert(const std::vector<double>& values) {
    std::string text = "[";
    for (const double value : values) text += " " + std::to_string(static_cast<int>(value));
    return (text + " ]").c_str();
  }
};
}  // namespace doctest

namespace cp::test {

using Values = std::vector<double>;

inline Values sequence(int first, int last) {
  Values values(static_cast<std::size_t>(last - first + 1));
  std::iota(values.begin(), values.end(), first);
  return values;
}

/// Packets with the values from `first` to `last`, each under a key of its own.
inline void post_apart(Dispatcher& dispatcher, int last, int first = 1) {
  for (int i = first; i <= last; ++i) {
    REQUIRE(post(dispatcher, posted(1000 + static_cast<std::uint32_t>(i), i)));
  }
}

inline Values drain(FakeThread& thread, std::size_t max = kBatchLimit) {
  Values all;
  while (thread.take(max) > 0) {
    for (std::size_t i = 0; i < thread.batch().size(); ++i) {
      if (!thread.claim(i)) continue;
      all.push_back(thread.slots[i].result);
      thread.done(i);
    }
  }
  return all;
}

inline Values sorted(Values values) {
  std::sort(values.begin(), values.end());
  return values;
}

}  // namespace cp::test
