// The gradient of the maxima over windows of maps: float32, NHWC.
#pragma once

#include <algorithm>
#include <cstdint>

#include "parallel.h"

// Windows of region i and bin (r, q): rows y0[i][r] .. y1[i][r] - 1, columns x0[i][q] .. x1[i][q] - 1 of map image[i].
struct Windows {
  int64_t n, rows, columns, h, w, c;
  const int32_t *image, *y0, *y1, *x0, *x1;

  // Adds the gradients [n rows columns c] to the first of the largest values of each window, for some channels.
  template <int some>
  void add(const float* maps, const float* gradients, float* out) const {
    for (int64_t i = 0; i < n; i++)
      for (int64_t r = i * rows; r < (i + 1) * rows; r++)
        for (int64_t q = i * columns; q < (i + 1) * columns; q++, gradients += c) {
          if (y0[r] >= y1[r] || x0[q] >= x1[q]) continue;
          float largest[some];
          int32_t where[some];
          for (int k = 0; k < some; k++) where[k] = -1;
          for (int64_t y = y0[r]; y < y1[r]; y++)
            for (int64_t x = x0[q]; x < x1[q]; x++) {
              int32_t pixel = (image[i] * h + y) * w + x;
              const float* values = maps + pixel * c;
              for (int k = 0; k < some; k++) {
                bool more = where[k] < 0 || values[k] > largest[k];
                largest[k] = more ? values[k] : largest[k];
                where[k] = more ? pixel : where[k];
              }
            }
          for (int k = 0; k < some; k++) out[where[k] * c + k] += gradients[k];
        }
  }

  // Each task has channels of its own, so that no two add to the same numbers.
  void run(ffi::ThreadPool pool, int64_t pixels, const float* maps, const float* gradients, float* out) const {
    constexpr int some = 16;
    parallel(pool, (c + some - 1) / some, [&](int64_t task) {
      int64_t first = task * some, count = std::min<int64_t>(some, c - first);
      for (int64_t pixel = 0; pixel < pixels; pixel++) std::fill_n(out + pixel * c + first, count, 0.0f);
      if (count == some) return add<some>(maps + first, gradients + first, out + first);
      for (int64_t k = first; k < c; k++) add<1>(maps + k, gradients + k, out + k);
    });
  }
};
