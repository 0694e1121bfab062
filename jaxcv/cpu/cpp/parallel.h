// Threads and vectors for the kernels.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;
using Array = ffi::Buffer<ffi::F32>;
using Integers = ffi::Buffer<ffi::S32>;
using Result = ffi::ResultBuffer<ffi::F32>;

// Runs task(0) .. task(count - 1) on XLA's threads, including the calling one. It waits only for tasks that have begun,
// so it may be called from a thread of the pool. It spins briefly, then sleeps, to leave the core to running tasks.
template <typename Task>
void parallel(ffi::ThreadPool pool, int64_t count, const Task& task) {
  struct Shared {
    std::atomic<int64_t> next{0}, done{0};
    std::mutex mutex;
    std::condition_variable all;
  };
  auto shared = std::make_shared<Shared>();
  auto work = [shared, count, &task] {
    // `task` may be destroyed once all tasks have ended, so it is used only after an index has been taken.
    for (int64_t i; (i = shared->next.fetch_add(1)) < count;) {
      task(i);
      if (shared->done.fetch_add(1) + 1 < count) continue;
      std::lock_guard<std::mutex> lock(shared->mutex);
      shared->all.notify_one();
    }
  };
  int64_t helpers = std::min<int64_t>(pool.num_threads(), count) - 1;
  for (int64_t i = 0; i < helpers; i++) pool.Schedule(std::function<void()>(work));
  work();
  for (int i = 0; i < 1000 && shared->done.load() < count; i++) std::this_thread::yield();
  std::unique_lock<std::mutex> lock(shared->mutex);
  shared->all.wait(lock, [&] { return shared->done.load() == count; });
}

template <int N>
struct Lanes {
  typedef float V __attribute__((vector_size(N * 4), aligned(4), may_alias));
  static V load(const float* p) { return *reinterpret_cast<const V*>(p); }
  static void store(float* p, V v) { *reinterpret_cast<V*>(p) = v; }
};
template <>
struct Lanes<1> {
  typedef float V;
  static V load(const float* p) { return *p; }
  static void store(float* p, V v) { *p = v; }
};

// Calls body(lanes, first channel) for all channels, in vectors of sixteen and eight, the rest one by one.
template <typename Body>
void channels(int64_t c, const Body& body) {
  int64_t k = 0;
  for (; k + 16 <= c; k += 16) body(Lanes<16>(), k);
  for (; k + 8 <= c; k += 8) body(Lanes<8>(), k);
  for (; k < c; k++) body(Lanes<1>(), k);
}

#ifdef __AVX512F__
constexpr int kWidth = 16, kRows = 8;
#else
constexpr int kWidth = 8, kRows = 4;
#endif
constexpr int kColumns = 2 * kWidth;

// Temporary memory, aligned to cache lines.
class Scratch {
 public:
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  ~Scratch() { std::free(numbers_); }
  // Makes the capacity at least `count`; the contents are lost if it grows.
  void hold(int64_t count) {
    if (count <= count_) return;
    std::free(numbers_);
    count_ = (count + 15) / 16 * 16;
    numbers_ = static_cast<float*>(std::aligned_alloc(64, count_ * sizeof(float)));
  }
  float& operator[](int64_t i) { return numbers_[i]; }

 private:
  float* numbers_ = nullptr;
  int64_t count_ = 0;
};
