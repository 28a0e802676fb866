// The bytes of an input, taken from the front, so that test/fuzz/seeds.mjs can write them in the
// same order. What is not there is zero.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

namespace cp::test {

class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : data_(data), left_(size) {}

  bool more() const { return left_ > 0; }
  std::size_t left() const { return left_; }

  void read(void* out, std::size_t size) {
    const std::size_t there = std::min(size, left_);
    std::memset(out, 0, size);
    if (there > 0) std::memcpy(out, data_, there);
    data_ += there;
    left_ -= there;
  }
  std::uint8_t byte() {
    std::uint8_t out = 0;
    read(&out, 1);
    return out;
  }
  std::uint8_t below(std::uint8_t end) { return byte() % end; }
  std::uint32_t number() {
    std::uint32_t out = 0;
    read(&out, sizeof out);
    return out;
  }
  /// As many bytes as are there, at most `size`.
  std::string text(std::size_t size) {
    std::string out(std::min(size, left_), '\0');
    read(out.data(), out.size());
    return out;
  }

 private:
  const std::uint8_t* data_;
  std::size_t left_;
};

}  // namespace cp::test
