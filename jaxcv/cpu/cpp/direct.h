// Depthwise convolution and its kernel's gradient, and the kernel's gradient of one with few channels: float32, NHWC.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "parallel.h"

struct Window {
  int64_t h, w, c, oh, ow, sh, sw, top, left;

  // The whole window of outputs first .. last - 1 of a row is inside the image.
  void inside(int64_t kernel, int64_t* first, int64_t* last) const {
    *first = std::min(ow, std::max<int64_t>(0, (left + sw - 1) / sw));
    int64_t room = w - kernel + left;
    *last = std::max(*first, std::min(ow, room < 0 ? 0 : room / sw + 1));
  }
};

// One row of outputs, one block of channels: out[x] = sum over i, j of rows[i][x s - left + j] kernel[i][j].
template <int F, typename L>
void forward_row(const Window& at, const float* const rows[F], const float* kernel, float* out) {
  typename L::V k[F][F];
  for (int i = 0; i < F; i++)
    for (int j = 0; j < F; j++) k[i][j] = L::load(kernel + (i * F + j) * at.c);
  int64_t first, last;
  at.inside(F, &first, &last);
  auto edge = [&](int64_t x) {
    typename L::V sum{};
    for (int i = 0; i < F; i++)
      for (int j = 0; j < F; j++) {
        int64_t column = x * at.sw - at.left + j;
        if (rows[i] && column >= 0 && column < at.w) sum += L::load(rows[i] + column * at.c) * k[i][j];
      }
    L::store(out + x * at.c, sum);
  };
  for (int64_t x = 0; x < first; x++) edge(x);
  for (int64_t x = first; x < last; x++) {
    typename L::V sum{};
    int64_t begin = (x * at.sw - at.left) * at.c;
    for (int i = 0; i < F; i++)
      if (rows[i])
        for (int j = 0; j < F; j++) sum += L::load(rows[i] + begin + j * at.c) * k[i][j];
    L::store(out + x * at.c, sum);
  }
  for (int64_t x = last; x < at.ow; x++) edge(x);
}

// One row, one block of channels: sums[i][j] += sum over x of rows[i][x s - left + j] dy[x].
template <int F, typename L>
void gradient_row(const Window& at, const float* const rows[F], const float* dy, float* sums) {
  typename L::V g[F][F];
  for (int i = 0; i < F; i++)
    for (int j = 0; j < F; j++) g[i][j] = L::load(sums + (i * F + j) * at.c);
  int64_t first, last;
  at.inside(F, &first, &last);
  auto edge = [&](int64_t x) {
    typename L::V gradient = L::load(dy + x * at.c);
    for (int i = 0; i < F; i++)
      for (int j = 0; j < F; j++) {
        int64_t column = x * at.sw - at.left + j;
        if (rows[i] && column >= 0 && column < at.w) g[i][j] += L::load(rows[i] + column * at.c) * gradient;
      }
  };
  for (int64_t x = 0; x < first; x++) edge(x);
  for (int64_t x = first; x < last; x++) {
    typename L::V gradient = L::load(dy + x * at.c);
    int64_t begin = (x * at.sw - at.left) * at.c;
    for (int i = 0; i < F; i++)
      if (rows[i])
        for (int j = 0; j < F; j++) g[i][j] += L::load(rows[i] + begin + j * at.c) * gradient;
  }
  for (int64_t x = last; x < at.ow; x++) edge(x);
  for (int i = 0; i < F; i++)
    for (int j = 0; j < F; j++) L::store(sums + (i * F + j) * at.c, g[i][j]);
}

template <int F>
void rows_under(const Window& at, const float* image, int64_t y, const float* rows[F]) {
  for (int i = 0; i < F; i++) {
    int64_t row = y * at.sh - at.top + i;
    rows[i] = row >= 0 && row < at.h ? image + row * at.w * at.c : nullptr;
  }
}

template <int F>
void forward(ffi::ThreadPool pool, const Window& at, int64_t b, const float* x, const float* kernel, float* out) {
  int64_t some = 8, bands = (at.oh + some - 1) / some;
  parallel(pool, b * bands, [&](int64_t task) {
    int64_t n = task / bands, from = task % bands * some, to = std::min(at.oh, from + some);
    for (int64_t y = from; y < to; y++) {
      const float* rows[F];
      rows_under<F>(at, x + n * at.h * at.w * at.c, y, rows);
      float* row = out + (n * at.oh + y) * at.ow * at.c;
      channels(at.c, [&](auto lanes, int64_t k) {
        const float* part[F];
        for (int i = 0; i < F; i++) part[i] = rows[i] ? rows[i] + k : nullptr;
        forward_row<F, decltype(lanes)>(at, part, kernel + k, row + k);
      });
    }
  });
}

template <int F>
void gradient(ffi::ThreadPool pool, const Window& at, int64_t b, const float* x, const float* dy, float* out) {
  int64_t total = b * at.oh, tasks = std::min<int64_t>(total, 32), size = F * F * at.c;
  std::vector<float> sums(tasks * size);
  parallel(pool, tasks, [&](int64_t task) {
    float* mine = sums.data() + task * size;
    for (int64_t r = total * task / tasks; r < total * (task + 1) / tasks; r++) {
      const float* rows[F];
      rows_under<F>(at, x + r / at.oh * at.h * at.w * at.c, r % at.oh, rows);
      const float* row = dy + r * at.ow * at.c;
      channels(at.c, [&](auto lanes, int64_t k) {
        const float* part[F];
        for (int i = 0; i < F; i++) part[i] = rows[i] ? rows[i] + k : nullptr;
        gradient_row<F, decltype(lanes)>(at, part, row + k, mine + k);
      });
    }
  });
  std::fill(out, out + size, 0.0f);
  for (int64_t task = 0; task < tasks; task++)
    for (int64_t i = 0; i < size; i++) out[i] += sums[task * size + i];
}

// The kernel's gradient of a convolution: for each element (i, j) of the kernel, sums over pixels of x[c] dy[o], in
// registers for a block of C input channels by O vectors of output channels along a row.
struct Outer {
  const float *x, *dy;
  float* sums;
  int64_t x_step, dy_step, outputs, count;  // distance between pixels in x and in dy, and between rows of sums; pixels
};

template <int C, int O>
void outer_products(const Outer& at) {
  using L = Lanes<kWidth>;
  typename L::V sum[C][O];
  for (int c = 0; c < C; c++)
    for (int o = 0; o < O; o++) sum[c][o] = L::load(at.sums + c * at.outputs + o * kWidth);
  const float *x = at.x, *dy = at.dy;
  for (int64_t n = 0; n < at.count; n++, x += at.x_step, dy += at.dy_step) {
    typename L::V gradient[O];
    for (int o = 0; o < O; o++) gradient[o] = L::load(dy + o * kWidth);
    for (int c = 0; c < C; c++)
      for (int o = 0; o < O; o++) sum[c][o] += x[c] * gradient[o];
  }
  for (int c = 0; c < C; c++)
    for (int o = 0; o < O; o++) L::store(at.sums + c * at.outputs + o * kWidth, sum[c][o]);
}

template <int O, int C = kRows>
void outer_products(const Outer& at, int64_t rows) {
  if (rows == C) return outer_products<C, O>(at);
  if constexpr (C > 1) outer_products<O, C - 1>(at, rows);
}

void products(ffi::ThreadPool pool, const Window& at, int64_t b, int64_t fh, int64_t fw, int64_t o, const float* x,
              const float* dy, float* out) {
  int64_t total = b * at.oh, tasks = std::min<int64_t>(total, 16), size = fh * fw * at.c * o;
  std::vector<float> sums(tasks * size);
  parallel(pool, tasks, [&](int64_t task) {
    for (int64_t r = total * task / tasks; r < total * (task + 1) / tasks; r++)
      for (int64_t v = 0; v < o; v += 2 * kWidth)
        for (int64_t i = 0; i < fh; i++) {
          int64_t row = r % at.oh * at.sh - at.top + i;
          if (row < 0 || row >= at.h) continue;
          const float* pixels = x + (r / at.oh * at.h + row) * at.w * at.c;
          for (int64_t j = 0; j < fw; j++) {
            int64_t first = std::max<int64_t>(0, (at.left - j + at.sw - 1) / at.sw), room = at.w - 1 + at.left - j;
            int64_t last = room < 0 ? 0 : std::min(at.ow, room / at.sw + 1);
            if (first >= last) continue;
            for (int64_t c = 0; c < at.c; c += kRows) {
              Outer block = {pixels + (first * at.sw - at.left + j) * at.c + c, dy + (r * at.ow + first) * o + v,
                             sums.data() + task * size + ((i * fw + j) * at.c + c) * o + v, at.sw * at.c, o, o,
                             last - first};
              auto run = v + 2 * kWidth <= o ? outer_products<2> : outer_products<1>;
              run(block, std::min<int64_t>(kRows, at.c - c));
            }
          }
        }
  });
  std::fill(out, out + size, 0.0f);
  for (int64_t task = 0; task < tasks; task++)
    for (int64_t i = 0; i < size; i++) out[i] += sums[task * size + i];
}
