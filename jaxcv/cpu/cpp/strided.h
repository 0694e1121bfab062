// Convolutions whose kernel is one or two strides long, such as 2x2/2 and 4x4/2, and their transposes: float32, NHWC.
//
// Pixels y = r mod s form the phase r of an image. Between one phase of the large image and the small image lies a
// convolution without stride, of 1x1 or 2x2 taps: a matrix product, or Winograd's F(2 x 2, 2 x 2), 9 products for 16.
#pragma once

#include <algorithm>
#include <cstdint>

#include "parallel.h"
#include "winograd.h"

struct TwoInputs {
  static constexpr int from = 3, to = 3;
  template <typename V>
  static void apply(const V* d, V* out, int s) {
    V a = d[0] - d[s], b = d[s], c = d[2 * s] - d[s];
    out[0] = a, out[1] = b, out[2] = c;
  }
};
struct TwoTaps {
  static constexpr int from = 2, to = 3;
  template <typename V>
  static void apply(const V* d, V* out, int s) {
    V a = d[0], b = d[s];
    out[0] = a, out[1] = a + b, out[2] = b;
  }
};
struct TwoOutputs {
  static constexpr int from = 3, to = 2;
  template <typename V>
  static void apply(const V* d, V* out, int s) {
    V a = d[0] + d[s], b = d[s] + d[2 * s];
    out[0] = a, out[1] = b;
  }
};

// What a phase writes along one axis: the first pixel of the small image (t) and of the result, and how many.
struct Phase {
  int64_t t, y, count;
};

template <typename Input, typename Kernel, typename Output>
struct Strided {
  static constexpr int n = Input::from, taps = Kernel::from, m = Output::to, planes = n * n;
  int64_t b, h, w, c, oh, ow, o, s, top, left;
  bool up;  // the transpose: the result is the large image
  int64_t phases = s * s, passes = up ? phases : 1, depth = up ? c : phases * c, f = taps * s;
  int64_t strips = (o + kColumns - 1) / kColumns, wide = strips * kColumns;
  int64_t panels = strips * depth * kColumns + kWidth;  // padded, lest panels evict each other
  int64_t some = std::clamp<int64_t>((1 << 17) / (depth + wide) / kRows * kRows, kRows, 8 * kRows);

  Phase phase(int64_t r, int64_t before, int64_t size) const {
    if (!up) return {0, 0, size};
    int64_t t = (before - r + s - 1) / s, y = s * t + r - before;
    return {t, y, y < size ? (size - y + s - 1) / s : 0};
  }
  Phase rows(int64_t pass) const { return phase(pass / s, top, oh); }
  Phase columns(int64_t pass) const { return phase(pass % s, left, ow); }
  static int64_t tiles(const Phase& along) { return (along.count + m - 1) / m; }
  int64_t blocks(int64_t pass) const {
    return (b * tiles(rows(pass)) * tiles(columns(pass)) + some - 1) / some;
  }

  // The transformed kernel of a pass for a strip of outputs: in panels [strips depth kColumns], zeros beyond the last.
  void kernel(const float* weights, int64_t pass, int64_t strip, float* out) const {
    using L = Lanes<kWidth>;
    int64_t here = std::min<int64_t>(kColumns, o - strip * kColumns);
    for (int64_t k = 0; k < depth; k++) {
      int64_t p = up ? pass : k / c, channel = k % c;
      float values[taps * taps][kColumns] = {};
      for (int tap = 0; tap < taps * taps; tap++) {
        int64_t i = tap / taps, j = tap % taps;
        int64_t row = p / s + s * (up ? taps - 1 - i : i), column = p % s + s * (up ? taps - 1 - j : j);
        const float* at = weights + (row * f + column) * c * o;
        for (int64_t v = 0; v < here; v++) {
          int64_t output = strip * kColumns + v;
          values[tap][v] = up ? at[output * c + channel] : at[channel * o + output];
        }
      }
      for (int half = 0; half < 2; half++) {
        L::V d[taps * taps], mixed[planes];
        for (int tap = 0; tap < taps * taps; tap++) d[tap] = L::load(values[tap] + half * kWidth);
        both_sides<Kernel>(d, mixed);
        for (int i = 0; i < planes; i++)
          L::store(out + i * panels + (strip * depth + k) * kColumns + half * kWidth, mixed[i]);
      }
    }
  }

  // Computes one block of tiles of a pass, which stays in the cache from the image to the result.
  void block(const float* x, const float* u, int64_t pass, int64_t index, float* out) const {
    Phase down = rows(pass), across = columns(pass);
    int64_t high = tiles(down), broad = tiles(across), first = index * some;
    int64_t last = std::min(b * high * broad, first + some), padded = (last - first + kRows - 1) / kRows * kRows;
    thread_local Scratch from, to;
    int64_t plane = some * depth + kWidth, sums = some * wide + kWidth, step = up ? 1 : s;
    from.hold(planes * plane);
    to.hold(planes * sums);
    for (int64_t tile = first; tile < last; tile++) {
      int64_t image = tile / (high * broad), y = m * (tile / broad % high), z = m * (tile % broad);
      for (int64_t p = 0; p < (up ? 1 : phases); p++) {
        int64_t corner[2] = {up ? down.t + y - taps + 1 : s * y + p / s - top,
                             up ? across.t + z - taps + 1 : s * z + p % s - left};
        const float* pixels[planes];
        for (int i = 0; i < planes; i++) {
          int64_t row = corner[0] + step * (i / n), column = corner[1] + step * (i % n);
          bool inside = row >= 0 && row < h && column >= 0 && column < w;
          pixels[i] = inside ? x + ((image * h + row) * w + column) * c : nullptr;
        }
        channels(c, [&](auto lanes, int64_t k) {
          using L = decltype(lanes);
          typename L::V d[planes], mixed[planes];
          for (int i = 0; i < planes; i++) d[i] = pixels[i] ? L::load(pixels[i] + k) : typename L::V{};
          both_sides<Input>(d, mixed);
          for (int i = 0; i < planes; i++) L::store(&from[i * plane + (tile - first) * depth + p * c + k], mixed[i]);
        });
      }
    }
    for (int64_t i = 0; i < planes; i++)
      for (int64_t strip = 0; strip < strips; strip++)
        for (int64_t row = 0; row < padded; row += kRows)
          dot_products(depth, &from[i * plane + row * depth], depth, u + i * panels + strip * depth * kColumns,
                       &to[i * sums + row * wide + strip * kColumns], wide);
    int64_t apart = up ? s : 1;
    for (int64_t tile = first; tile < last; tile++) {
      int64_t image = tile / (high * broad), y = m * (tile / broad % high), z = m * (tile % broad);
      int64_t high_here = std::min<int64_t>(m, down.count - y), broad_here = std::min<int64_t>(m, across.count - z);
      float* pixel = out + ((image * oh + down.y + apart * y) * ow + across.y + apart * z) * o;
      channels(o, [&](auto lanes, int64_t k) {
        using L = decltype(lanes);
        typename L::V d[planes], mixed[m * m];
        for (int i = 0; i < planes; i++) d[i] = L::load(&to[i * sums + (tile - first) * wide + k]);
        both_sides<Output>(d, mixed);
        for (int64_t i = 0; i < high_here; i++)
          for (int64_t j = 0; j < broad_here; j++)
            L::store(pixel + apart * (i * ow + j) * o + k, mixed[m * i + j]);
      });
    }
  }

  void run(ffi::ThreadPool pool, const float* x, const float* weights, float* out) const {
    Scratch u;
    u.hold(passes * planes * panels);
    parallel(pool, passes * strips, [&](int64_t task) {
      kernel(weights, task / strips, task % strips, &u[task / strips * planes * panels]);
    });
    int64_t most = 0;
    for (int64_t pass = 0; pass < passes; pass++) most = std::max(most, blocks(pass));
    // Phases of one part of the result follow each other, so that what is read of the image is still in the cache.
    parallel(pool, passes * most, [&](int64_t task) {
      int64_t pass = task % passes, index = task / passes;
      if (index < blocks(pass)) block(x, &u[pass * planes * panels], pass, index, out);
    });
  }
};

using FourTaps = Strided<TwoInputs, TwoTaps, TwoOutputs>;

// The transpose for a kernel [s s o c] of one stride: line i of what the pixels of a row become is the product of them
// [w c] and of line i of the kernel [c s*o], written where it belongs. For w >= kRows and s*o in strips of kColumns.
struct SideBySide {
  int64_t b, h, w, c, o, s;

  void run(ffi::ThreadPool pool, const float* x, const float* weights, float* out) const {
    int64_t beside = s * o, strips = beside / kColumns;
    Scratch u;  // [s strips c kColumns]
    u.hold(s * beside * c);
    parallel(pool, s * strips, [&](int64_t task) {
      float* to = &u[task * c * kColumns];
      for (int64_t v = 0; v < kColumns; v++)
        for (int64_t k = 0; k < c; k++) to[k * kColumns + v] = weights[(task * kColumns + v) * c + k];
    });
    parallel(pool, b * h, [&](int64_t row) {
      for (int64_t i = 0; i < s; i++)
        for (int64_t strip = 0; strip < strips; strip++)
          for (int64_t pixel = 0; pixel < w; pixel += kRows) {
            int64_t first = std::min(pixel, w - kRows);
            float* sums = out + ((row * s + i) * w + first) * beside + strip * kColumns;
            // So that the stores at the end do not wait for memory: 5.5 ms for 6.6 ([16, 32², 64 -> 64], one core).
            for (int k = 0; k < 2 * kRows; k++) __builtin_prefetch(sums + k / 2 * beside + k % 2 * kWidth, 1);
            dot_products(c, x + (row * w + first) * c, c, &u[(i * strips + strip) * c * kColumns], sums, beside);
          }
    });
  }
};
