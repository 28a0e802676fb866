// Turns of long documents by themselves: how many are handed over before one of them is begun.
#include "stage/admission.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "support/member.h"

namespace {

using namespace cp;
using namespace cp::stage;
using namespace cp::test;

constexpr std::uint64_t kLong = 1u << 20, kMiddling = 64 * 1024;

class Turns {
 public:
  explicit Turns(const char* driver) : port_(make_port(driver, options())), member_(*port_) {}

  /// As many documents as are handed over at one time, of so many bytes each; the next one waits.
  std::size_t ahead(std::uint64_t bytes) {
    std::vector<std::unique_ptr<Lease>> leases;
    for (;;) {
      Admission::Turn turn;
      std::unique_ptr<Lease> lease = admission_->take_place(++key_, bytes, turn);
      if (!lease) {
        admission_->leave(turn);
        break;
      }
      leases.push_back(std::move(lease));
    }
    for (const auto& lease : leases) lease->begun();
    return leases.size();
  }
  /// One that is handed over and begun.
  void pass(std::uint64_t bytes) {
    Admission::Turn turn;
    const std::unique_ptr<Lease> lease = admission_->take_place(++key_, bytes, turn);
    REQUIRE(lease);
    lease->begun();
  }

 private:
  PortHold port_;
  Member member_;
  std::shared_ptr<Admission> admission_ = std::make_shared<Admission>(*port_, 10'000, 1, 0);
  std::uint32_t key_ = 0;
};

PORT_TEST("long documents go far ahead only while none but long ones come") {
  NEEDS_DRIVER();
  Turns turns(D::name);
  // One is more than a thread's part, and goes alone.
  CHECK(turns.ahead(kLong) == 1);
  CHECK(turns.ahead(100 * 1024) == Admission::kAhead / (100 * 1024));
  for (int i = 0; i < 64; ++i) turns.pass(kLong);
  CHECK(turns.ahead(kLong) == Admission::kAheadAlone / kLong);
  turns.pass(kMiddling);
  CHECK(turns.ahead(kLong) == 1);
  for (int i = 0; i < 64; ++i) turns.pass(kLong);
  CHECK(turns.ahead(kLong) == Admission::kAheadAlone / kLong);
  turns.pass(100);
  CHECK(turns.ahead(kLong) == 1);
}

}  // namespace
