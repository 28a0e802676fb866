// The tests' own checks in a fuzzer: one that does not hold ends the process, which libFuzzer
// reports with the input.
#pragma once

#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>

namespace cp::test {

inline void end_where_a_check_fails() {
  static doctest::Context* const context = [] {
    auto* made = new doctest::Context;
    made->setAsDefaultForAssertsOutOfTestCases();
    made->setAssertHandler([](const doctest::AssertData& data) {
      if (!data.m_failed) return;
      std::fprintf(stderr, "%s:%d: %s (%s)\n", data.m_file, data.m_line, data.m_expr,
                   data.m_decomp.c_str());
      std::abort();
    });
    return made;
  }();
  static_cast<void>(context);
}

}  // namespace cp::test
