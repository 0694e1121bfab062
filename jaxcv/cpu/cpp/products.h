// The matrix product x' y of [n c] and [n o], sums over many rows n: float32. Blocks are first copied to contiguous
// memory, because rows at distances of powers of two evict each other from the cache.
#pragma once

#include <algorithm>
#include <cstdint>

#include "parallel.h"

// Sums over `count` rows of the outer products of kRows values a and kColumns values b, in registers.
// Not inlined: that code is a third slower.
__attribute__((noinline, aligned(64))) inline void outer_products(int64_t count, const float* a, const float* b,
                                                                  float* sums) {
  using L = Lanes<kWidth>;
  L::V sum[kRows][2];
  for (int i = 0; i < kRows; i++)
    for (int j = 0; j < 2; j++) sum[i][j] = L::load(sums + i * kColumns + j * kWidth);
  for (int64_t n = 0; n < count; n++, a += kRows, b += kColumns) {
    L::V left = L::load(b), right = L::load(b + kWidth);
    for (int i = 0; i < kRows; i++) {
      sum[i][0] += a[i] * left;
      sum[i][1] += a[i] * right;
    }
  }
  for (int i = 0; i < kRows; i++)
    for (int j = 0; j < 2; j++) L::store(sums + i * kColumns + j * kWidth, sum[i][j]);
}

// Copies `count` blocks of `columns` columns from column `first` on, zeros beyond c: [count room columns], of which
// `rows` rows are written. Prefetches eight rows ahead, which the processor does not do itself.
template <int columns>
void pack(const float* x, int64_t rows, int64_t c, int64_t first, int64_t count, int64_t room, float* out) {
  int64_t whole = std::max<int64_t>(0, std::min(count, (c - first) / columns));
  for (int64_t n = 0; n < rows; n++) {
    const float* from = x + n * c + first;
    float* to = out + n * columns;
    for (int64_t k = 0; k < count * columns; k += 16) __builtin_prefetch(from + 8 * c + k);
    for (int64_t i = 0; i < whole; i++, from += columns, to += room * columns)
      for (int k = 0; k < columns; k++) to[k] = from[k];
    if (whole < count)
      for (int k = 0; k < columns; k++) to[k] = first + whole * columns + k < c ? from[k] : 0.0f;
  }
}

struct Products {
  int64_t n, c, o;
  int64_t blocks = (c + kRows - 1) / kRows, strips = (o + kColumns - 1) / kColumns;
  int64_t some = 8, parts = (blocks + some - 1) / some;  // blocks per task; tasks for all blocks
  int64_t rows = 256, chunks = (n + rows - 1) / rows;    // rows copied at a time
  int64_t beside = 4;                                    // strips copied at a time
  int64_t splits = std::max<int64_t>(1, std::min({chunks, 32 / parts, (1 << 18) / (c * o)}));

  // The sums over one split of the rows for one part of the blocks, into their rows of [c o].
  void work(const float* x, const float* y, int64_t split, int64_t part, float* out) const {
    int64_t from = part * some, to = std::min(blocks, from + some), size = kRows * kColumns;
    thread_local Scratch left, right, sums;
    left.hold(some * rows * kRows);
    right.hold(beside * rows * kColumns);
    sums.hold(some * strips * size);
    std::fill(&sums[0], &sums[0] + some * strips * size, 0.0f);
    for (int64_t chunk = chunks * split / splits; chunk < chunks * (split + 1) / splits; chunk++) {
      int64_t first = chunk * rows, count = std::min(rows, n - first);
      pack<kRows>(x + first * c, count, c, from * kRows, to - from, rows, &left[0]);
      for (int64_t strip = 0; strip < strips; strip += beside) {
        int64_t last = std::min(strips, strip + beside);
        pack<kColumns>(y + first * o, count, o, strip * kColumns, last - strip, rows, &right[0]);
        for (int64_t j = strip; j < last; j++)
          for (int64_t i = 0; i < to - from; i++)
            outer_products(count, &left[i * rows * kRows], &right[(j - strip) * rows * kColumns],
                           &sums[(i * strips + j) * size]);
      }
    }
    for (int64_t k = from * kRows; k < std::min(c, to * kRows); k++)
      for (int64_t j = 0; j < strips; j++) {
        const float* row = &sums[((k / kRows - from) * strips + j) * size + k % kRows * kColumns];
        std::copy(row, row + std::min<int64_t>(kColumns, o - j * kColumns), out + k * o + j * kColumns);
      }
  }

  void run(ffi::ThreadPool pool, const float* x, const float* y, float* out) const {
    Scratch others;
    others.hold((splits - 1) * c * o);
    parallel(pool, splits * parts, [&](int64_t task) {
      int64_t split = task / parts;
      work(x, y, split, task % parts, split ? &others[(split - 1) * c * o] : out);
    });
    for (int64_t split = 1; split < splits; split++)
      for (int64_t i = 0; i < c * o; i++) out[i] += others[(split - 1) * c * o + i];
  }
};
