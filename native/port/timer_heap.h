// The deadlines of one thread, the earliest first.
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace cp {

struct Handle;
struct Request;

/// One deadline. Owned by the thread's heap; it outlives the request when the request ended on
/// another thread, which the generation tells.
struct TimerNode {
  std::int64_t deadline = 0;
  Request* request = nullptr;  ///< null: not in the heap
  Handle* handle = nullptr;
  std::uint32_t generation = 0;
  bool firing = false;  ///< a timer's time, not an operation's timeout
  std::size_t index = 0;
};

/// A binary heap whose nodes know their places, so that a timeout that was not needed leaves at
/// once instead of lingering for its thirty seconds. Used by its thread alone.
class TimerHeap {
 public:
  TimerHeap() = default;
  TimerHeap(const TimerHeap&) = delete;
  TimerHeap& operator=(const TimerHeap&) = delete;
  ~TimerHeap() { clear(); }

  /// Nobody points at any of its nodes any more.
  void clear() {
    for (TimerNode* node : heap_) delete node;
    for (TimerNode* node : spare_) delete node;
    heap_.clear();
    spare_.clear();
  }

  bool empty() const { return heap_.empty(); }
  TimerNode* top() const { return heap_.front(); }

  TimerNode* add(std::int64_t deadline, Request* request, Handle* handle,
                 std::uint32_t generation) {
    TimerNode* node = nullptr;
    if (spare_.empty()) {
      node = new TimerNode;
    } else {
      node = spare_.back();
      spare_.pop_back();
    }
    node->deadline = deadline;
    node->request = request;
    node->handle = handle;
    node->generation = generation;
    node->firing = false;
    heap_.push_back(node);
    rise(heap_.size() - 1);
    return node;
  }

  void remove(TimerNode* node) {
    const std::size_t i = node->index;
    assert(i < heap_.size() && heap_[i] == node);  // not another thread's
    TimerNode* last = heap_.back();
    heap_.pop_back();
    if (last != node) {
      put(i, last);
      rise(i);
      sink(last->index);
    }
    node->request = nullptr;
    spare_.push_back(node);
  }

 private:
  void put(std::size_t i, TimerNode* node) {
    heap_[i] = node;
    node->index = i;
  }
  void rise(std::size_t i) {
    TimerNode* node = heap_[i];
    for (; i > 0 && node->deadline < heap_[(i - 1) / 2]->deadline; i = (i - 1) / 2) {
      put(i, heap_[(i - 1) / 2]);
    }
    put(i, node);
  }
  void sink(std::size_t i) {
    TimerNode* node = heap_[i];
    for (;;) {
      std::size_t child = 2 * i + 1;
      if (child >= heap_.size()) break;
      if (child + 1 < heap_.size() && heap_[child + 1]->deadline < heap_[child]->deadline) ++child;
      if (heap_[child]->deadline >= node->deadline) break;
      put(i, heap_[child]);
      i = child;
    }
    put(i, node);
  }

  std::vector<TimerNode*> heap_;
  std::vector<TimerNode*> spare_;
};

}  // namespace cp
