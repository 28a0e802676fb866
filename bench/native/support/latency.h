// How latencies are told: microseconds at the usual quantiles.
#pragma once

#include "support/histogram.h"
#include "support/json.h"

namespace cp::bench {

inline void add_latency(JsonLine& line, const Histogram& nanoseconds) {
  const auto at = [&](double part) {
    return static_cast<double>(nanoseconds.quantile(part)) / 1e3;
  };
  line.add("p50_us", at(0.5)).add("p99_us", at(0.99)).add("p99_9_us", at(0.999));
  line.add("max_us", static_cast<double>(nanoseconds.max()) / 1e3);
}

}  // namespace cp::bench
