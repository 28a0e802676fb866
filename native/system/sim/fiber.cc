#include "system/sim/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace cp::sim {
namespace {

Stack* came_from = nullptr;

}  // namespace

#if defined(__x86_64__)

extern "C" void cp_sim_change(void** from, void* to);
// What a function has to leave as it found it, by the calling convention of System V.
asm(R"(
.text
.globl cp_sim_change
.type cp_sim_change, @function
cp_sim_change:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size cp_sim_change, .-cp_sim_change
)");

#endif

Stack::~Stack() {
  if (base_ != nullptr) ::munmap(base_, kSize);
}

void Stack::make(void (*entry)()) {
  base_ = ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base_ == MAP_FAILED) std::abort();
  ::mprotect(base_, 4096, PROT_NONE);
  bottom_ = base_;
  size_ = kSize;
#if defined(__x86_64__)
  auto* top = reinterpret_cast<std::uintptr_t*>(static_cast<std::uint8_t*>(base_) + kSize);
  *--top = 0;  // where a call would have left its return: so the stack is aligned
  *--top = reinterpret_cast<std::uintptr_t>(entry);
  for (int i = 0; i < 6; ++i) *--top = 0;
  pointer_ = top;
#else
  ::getcontext(&context_);
  context_.uc_stack.ss_sp = base_;
  context_.uc_stack.ss_size = kSize;
  context_.uc_link = nullptr;
  ::makecontext(&context_, entry, 0);
#endif
}

void Stack::change(Stack& from, Stack& to, bool last) {
  came_from = &from;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(last ? nullptr : &from.fake_, to.bottom_, to.size_);
#endif
#if defined(__x86_64__)
  cp_sim_change(&from.pointer_, to.pointer_);
#else
  ::swapcontext(&from.context_, &to.context_);
#endif
  arrived(from);
}

/// Where the sanitizer tells the bounds of a stack that was not made here.
void Stack::arrived([[maybe_unused]] Stack& self) {
#if defined(__SANITIZE_ADDRESS__)
  const void* bottom = nullptr;
  std::size_t size = 0;
  __sanitizer_finish_switch_fiber(self.fake_, &bottom, &size);
  if (came_from->bottom_ == nullptr) {
    came_from->bottom_ = bottom;
    came_from->size_ = size;
  }
#endif
}

}  // namespace cp::sim
