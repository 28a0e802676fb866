// What is told of io_uring has to be what decides about it.
#include "driver/capabilities.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cerrno>

#include "driver/choose.h"
#include "driver/driver.h"

#ifdef __linux__
#include "support/member.h"
#endif

namespace {

using namespace cp::driver;

bool all_required(const std::vector<Capability>& found) {
  return std::all_of(found.begin(), found.end(),
                     [](const Capability& one) { return !one.required || one.result == 0; });
}

bool can_be_had(const char* name) {
  Result error = 0;
  std::string reason;
  return make_driver(name, 1, error, reason) != nullptr;
}

}  // namespace

#ifdef __linux__

TEST_CASE("io_uring can be had where everything required is granted, and only there") {
  CHECK(all_required(capabilities()) == can_be_had("io_uring"));
}

TEST_CASE("each capability has a name, the version it came with, and an errno or none") {
  const std::vector<Capability> found = capabilities();
  REQUIRE(!found.empty());
  CHECK(found.front().name == "io_uring_setup");
  for (const Capability& one : found) {
    CAPTURE(one.name);
    CHECK(!one.name.empty());
    CHECK(one.since.find('.') != std::string::npos);
    CHECK(one.result <= 0);
    CHECK(one.result > -4096);
  }
}

TEST_CASE("a ring that is refused is all that is told") {
  const std::vector<Capability> found = capabilities();
  if (found.front().result == 0) return;
  CHECK(found.size() == 1);
}

TEST_CASE("asking leaves no descriptor behind") {
  capabilities();  // what the first call sets up for good
  const auto before = cp::test::open_descriptors();
  for (int i = 0; i < 100; ++i) capabilities();
  CHECK(cp::test::open_descriptors() == before);
}

#else

TEST_CASE("nothing is asked where nothing could be missing") { CHECK(capabilities().empty()); }

#endif
