// Where an isolate's ArrayBuffers come from.
#pragma once

#include "host.h"

#include <stdlib.h>
#include <string.h>

#include <atomic>
#include <mutex>

namespace host {

// Counts ArrayBuffers against plv8.memory_limit; V8 collects garbage and asks again before it gives up.
// V8 frees buffers on a thread of its own, too.
class CountingAllocator : public v8::ArrayBuffer::Allocator {
 public:
  explicit CountingAllocator(size_t limit) : limit_(limit) {}
  ~CountingAllocator() override {
    for (const Block& block : pool_) free(block.data);
  }
  void* Allocate(size_t length) override {
    refused_ = !take(length);
    if (refused_) return nullptr;
    void* data = from_pool(length);
    if (data != nullptr) return memset(data, 0, length);
    return give(calloc(length, 1), length);
  }
  void* AllocateUninitialized(size_t length) override {
    refused_ = !take(length);
    if (refused_) return nullptr;
    void* data = from_pool(length);
    return data != nullptr ? data : give(malloc(length), length);
  }
  void Free(void* data, size_t length) override {
    if (!to_pool(data, length)) free(data);
    used_ -= length;
  }
  size_t used() const { return used_; }
  // The last request was refused: V8 is collecting garbage before it asks again.
  bool refused() const { return refused_; }
  void forget_refusal() { refused_ = false; }
  void note_refusal() { refused_ = true; }  // of WebAssembly memory

 private:
  // Freed ArrayBuffers of these sizes are kept for the next one: the first touch of a fresh page is what costs.
  static constexpr size_t kLeastPooled = size_t{256} << 10;
  static constexpr size_t kMostPooled = size_t{8} << 20;
  static constexpr size_t kPoolBytes = size_t{64} << 20;

  bool take(size_t length) {
    // The limit itself is too much, since the heap counts as well in PL/V8.
    if (length >= limit_ || used_.fetch_add(length) + length >= limit_) {
      if (length < limit_) used_ -= length;
      return false;
    }
    return true;
  }
  void* give(void* data, size_t length) {
    if (data == nullptr) used_ -= length;
    return data;
  }
  struct Block {
    void* data;
    size_t length;
  };
  void* from_pool(size_t length) {
    if (length < kLeastPooled || length > kMostPooled) return nullptr;
    std::lock_guard<std::mutex> lock(mutex_);
    for (Block& block : pool_) {
      if (block.length != length) continue;
      void* data = block.data;
      block = pool_.back();
      pool_.pop_back();
      pooled_ -= length;
      return data;
    }
    return nullptr;
  }
  bool to_pool(void* data, size_t length) {
    if (length < kLeastPooled || length > kMostPooled) return false;
    std::lock_guard<std::mutex> lock(mutex_);
    if (pooled_ + length > kPoolBytes) return false;
    pool_.push_back({data, length});
    pooled_ += length;
    return true;
  }
  const size_t limit_;
  std::atomic<size_t> used_{0};
  bool refused_ = false;
  std::mutex mutex_;
  std::vector<Block> pool_;
  size_t pooled_ = 0;
};

}  // namespace host
