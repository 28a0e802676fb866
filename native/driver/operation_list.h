// A list of operations, strung on the links that each of them carries for whoever holds it between
// submit and the final completion. Nothing is allocated.
#pragma once

#include <cassert>
#include <cstddef>

#include "driver/operation.h"

namespace cp::driver {

class OperationList {
 public:
  bool empty() const { return front_ == nullptr; }
  std::size_t size() const { return size_; }
  Operation* front() const { return front_; }
  Operation* back() const { return back_; }

  void push_back(Operation* operation) { insert_after(back_, operation); }

  /// `position` null: at the front.
  void insert_after(Operation* position, Operation* operation) {
    Operation* next = position == nullptr ? front_ : position->lane_next;
    operation->lane_previous = position;
    operation->lane_next = next;
    (position == nullptr ? front_ : position->lane_next) = operation;
    (next == nullptr ? back_ : next->lane_previous) = operation;
    ++size_;
  }

  void remove(Operation* operation) {
    assert(size_ > 0);
    Operation* previous = operation->lane_previous;
    Operation* next = operation->lane_next;
    (previous == nullptr ? front_ : previous->lane_next) = next;
    (next == nullptr ? back_ : next->lane_previous) = previous;
    operation->lane_previous = operation->lane_next = nullptr;
    --size_;
  }

  /// Null when empty.
  Operation* pop_front() {
    Operation* operation = front_;
    if (operation != nullptr) remove(operation);
    return operation;
  }

 private:
  Operation* front_ = nullptr;
  Operation* back_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace cp::driver
