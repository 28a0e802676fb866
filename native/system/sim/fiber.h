// Stacks that one thread of the system runs by turns.
#pragma once

#include <cstddef>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace cp::sim {

/// Where a stack goes on. The one that a thread of the system came with has no memory of its own.
class Stack {
 public:
  Stack() = default;
  ~Stack();
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;

  /// `entry` runs at the first switch to it and never returns.
  void make(void (*entry)());
  /// Goes on with `to`, until somebody switches back to `from`. `last`: nobody ever does.
  static void change(Stack& from, Stack& to, bool last = false);
  /// First of all in `entry`.
  static void arrived(Stack& self);

 private:
  static constexpr std::size_t kSize = 512 * 1024;

  void* base_ = nullptr;
#if defined(__x86_64__)
  void* pointer_ = nullptr;
#else
  ucontext_t context_ = {};
#endif
  // What AddressSanitizer wants to know.
  void* fake_ = nullptr;
  const void* bottom_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace cp::sim
