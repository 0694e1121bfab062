// Winograd's convolution F(2 x 2, 3 x 3), Lavin, Gray, https://arxiv.org/abs/1509.09308, section 4.1: float32, NHWC.
#pragma once

#include <algorithm>
#include <cstdint>

#include "parallel.h"
#include "products.h"

// Winograd's transformations M d M' of tiles d; `apply` multiplies M by one row or column of d, of stride s.
struct InputMatrix {  // B'
  static constexpr int from = 4, to = 4;
  template <typename V>
  static void apply(const V* d, V* out, int s) {
    V a = d[0] - d[2 * s], b = d[s] + d[2 * s], c = d[2 * s] - d[s], e = d[s] - d[3 * s];
    out[0] = a, out[1] = b, out[2] = c, out[3] = e;
  }
};
struct KernelMatrix {  // G
  static constexpr int from = 3, to = 4;
  template <typename V>
  static void apply(const V* d, V* out, int s) {
    V ends = (d[0] + d[2 * s]) * 0.5f, middle = d[s] * 0.5f, last = d[2 * s];
    out[0] = d[0], out[1] = ends + middle, out[2] = ends - middle, out[3] = last;
  }
};
struct CotangentMatrix {  // A
  static constexpr int from = 2, to = 4;
  template <typename V>
  static void apply(const V* d, V* out, int s) {
    out[0] = d[0], out[1] = d[0] + d[s], out[2] = d[0] - d[s], out[3] = -d[s];
  }
};
struct OutputMatrix {  // A'
  static constexpr int from = 4, to = 2;
  template <typename V>
  static void apply(const V* d, V* out, int s) {
    V sum = d[s] + d[2 * s], difference = d[s] - d[2 * s];
    out[0] = d[0] + sum, out[1] = difference - d[3 * s];
  }
};
struct KernelGradientMatrix {  // G'
  static constexpr int from = 4, to = 3;
  template <typename V>
  static void apply(const V* d, V* out, int s) {
    V sum = (d[s] + d[2 * s]) * 0.5f, difference = (d[s] - d[2 * s]) * 0.5f;
    out[0] = d[0] + sum, out[1] = difference, out[2] = sum + d[3 * s];
  }
};

template <typename M, typename V>
void both_sides(const V d[M::from * M::from], V out[M::to * M::to]) {
  V half[M::from * M::to];
  for (int i = 0; i < M::from; i++) M::apply(d + i * M::from, half + i * M::to, 1);
  for (int j = 0; j < M::to; j++) {
    V column[M::to];
    M::apply(half + j, column, M::to);
    for (int i = 0; i < M::to; i++) out[i * M::to + j] = column[i];
  }
}

// The first pixel of a tile in the result: example, row, column. In the images it is `top` and `left` pixels before.
struct Position {
  int64_t n, y, z;
};

struct Tiles {
  int64_t b, h, w, c, high, wide, top, left;  // images; rows and columns of tiles, which start at every second pixel

  Position position(int64_t tile) const { return {tile / (high * wide), 2 * (tile / wide % high), 2 * (tile % wide)}; }

  // The 4 x 4 pixels of a tile; null outside the images.
  void pixels(const float* x, const Position& at, const float* out[16]) const {
    for (int i = 0; i < 16; i++) {
      int64_t row = at.y - top + i / 4, column = at.z - left + i % 4;
      bool inside = row >= 0 && row < h && column >= 0 && column < w;
      out[i] = inside ? x + ((at.n * h + row) * w + column) * c : nullptr;
    }
  }
};

// Products of kRows rows of a, at distance `step`, with b [count kColumns]: kRows rows of sums, at distance `beside`.
// Not inlined, as `outer_products`.
__attribute__((noinline, aligned(64))) inline void dot_products(int64_t count, const float* a, int64_t step,
                                                                const float* b, float* sums, int64_t beside) {
  using L = Lanes<kWidth>;
  L::V sum[kRows][2] = {};
  for (int64_t k = 0; k < count; k++, a++, b += kColumns) {
    L::V left = L::load(b), right = L::load(b + kWidth);
    for (int i = 0; i < kRows; i++) {
      sum[i][0] += a[i * step] * left;
      sum[i][1] += a[i * step] * right;
    }
  }
  for (int i = 0; i < kRows; i++)
    for (int j = 0; j < 2; j++) L::store(sums + i * beside + j * kWidth, sum[i][j]);
}

// The whole convolution, `some` tiles at a time, which stay in the cache from the image to the result.
struct Winograd {
  Tiles at;          // of the images
  int64_t oh, ow, o; // of the result
  bool flip;         // with the flipped kernel, and its input and output channels exchanged
  int64_t count = at.b * at.high * at.wide, strips = (o + kColumns - 1) / kColumns, wide = strips * kColumns;
  int64_t panels = strips * at.c * kColumns + kWidth;  // padded, lest panels evict each other
  int64_t some = std::clamp<int64_t>((1 << 17) / (at.c + wide) / kRows * kRows, kRows, 8 * kRows);

  // The transformed kernel for a strip of outputs: in 16 panels [strips c kColumns], zeros beyond the last output.
  void kernel(const float* w, int64_t strip, float* out) const {
    using L = Lanes<kWidth>;
    int64_t c = at.c, here = std::min<int64_t>(kColumns, o - strip * kColumns);
    for (int64_t k = 0; k < c; k++) {
      float taps[9][kColumns] = {};
      for (int tap = 0; tap < 9; tap++)
        for (int64_t v = 0; v < here; v++) {
          int64_t output = strip * kColumns + v;
          taps[tap][v] = flip ? w[((8 - tap) * o + output) * c + k] : w[(tap * c + k) * o + output];
        }
      for (int half = 0; half < 2; half++) {
        L::V d[9], mixed[16];
        for (int tap = 0; tap < 9; tap++) d[tap] = L::load(taps[tap] + half * kWidth);
        both_sides<KernelMatrix>(d, mixed);
        for (int i = 0; i < 16; i++)
          L::store(out + i * panels + (strip * c + k) * kColumns + half * kWidth, mixed[i]);
      }
    }
  }

  // Computes tiles first .. first + some - 1.
  void tiles(const float* x, const float* u, int64_t first, float* out) const {
    int64_t c = at.c, last = std::min(count, first + some), rows = (last - first + kRows - 1) / kRows * kRows;
    thread_local Scratch from, to;
    int64_t plane = some * c + kWidth, sums = some * wide + kWidth;
    from.hold(16 * plane);
    to.hold(16 * sums);
    for (int64_t tile = first; tile < last; tile++) {
      const float* pixels[16];
      at.pixels(x, at.position(tile), pixels);
      channels(c, [&](auto lanes, int64_t k) {
        using L = decltype(lanes);
        typename L::V d[16], mixed[16];
        for (int i = 0; i < 16; i++) d[i] = pixels[i] ? L::load(pixels[i] + k) : typename L::V{};
        both_sides<InputMatrix>(d, mixed);
        for (int i = 0; i < 16; i++) L::store(&from[i * plane + (tile - first) * c + k], mixed[i]);
      });
    }
    for (int64_t i = 0; i < 16; i++)
      for (int64_t strip = 0; strip < strips; strip++)
        for (int64_t row = 0; row < rows; row += kRows)
          dot_products(c, &from[i * plane + row * c], c, u + i * panels + strip * c * kColumns,
                       &to[i * sums + row * wide + strip * kColumns], wide);
    for (int64_t tile = first; tile < last; tile++) {
      Position position = at.position(tile);
      int64_t rows_here = std::min<int64_t>(2, oh - position.y), columns_here = std::min<int64_t>(2, ow - position.z);
      float* pixel = out + ((position.n * oh + position.y) * ow + position.z) * o;
      channels(o, [&](auto lanes, int64_t k) {
        using L = decltype(lanes);
        typename L::V d[16], mixed[4];
        for (int i = 0; i < 16; i++) d[i] = L::load(&to[i * sums + (tile - first) * wide + k]);
        both_sides<OutputMatrix>(d, mixed);
        for (int64_t i = 0; i < rows_here; i++)
          for (int64_t j = 0; j < columns_here; j++) L::store(pixel + (i * ow + j) * o + k, mixed[2 * i + j]);
      });
    }
  }

  void run(ffi::ThreadPool pool, const float* x, const float* w, float* out) const {
    Scratch u;
    u.hold(16 * panels);
    parallel(pool, strips, [&](int64_t strip) { kernel(w, strip, &u[0]); });
    parallel(pool, (count + some - 1) / some, [&](int64_t block) { tiles(x, &u[0], block * some, out); });
  }
};

// The kernel's gradient, G'[sum over tiles of (B' d B) * (A dy A')]G, `some` tiles at a time, which stay in the cache.
struct WinogradGradient {
  Tiles at;           // of the images
  int64_t oh, ow, o;  // of the cotangents
  static constexpr int64_t inputs = 64, outputs = 128, some = 64, blocks = inputs / kRows, strips = outputs / kColumns;
  int64_t count = at.b * at.high * at.wide, batches = (count + some - 1) / some;
  int64_t across = (at.c + inputs - 1) / inputs, down = (o + outputs - 1) / outputs;
  int64_t splits = std::clamp<int64_t>(16 / (across * down), 1, batches);
  // Panels of the images [16 blocks some kRows] and of the cotangents [16 strips some kColumns], each padded by a
  // vector, lest they evict each other from the cache.
  static constexpr int64_t size = kRows * kColumns, images = inputs * some + kWidth;
  static constexpr int64_t cotangents = outputs * some + kWidth;

  // The sums over one split of the tiles for `inputs` by `outputs` channels from (c, v) on, into [3 3 c o].
  void work(const float* x, const float* dy, int64_t split, int64_t c, int64_t v, float* out) const {
    int64_t c_end = std::min(at.c, c + inputs), v_end = std::min(o, v + outputs);
    thread_local Scratch left, right, sums;
    left.hold(16 * images);
    right.hold(16 * cotangents);
    sums.hold(16 * blocks * strips * size);
    std::fill(&sums[0], &sums[0] + 16 * blocks * strips * size, 0.0f);
    for (int64_t batch = batches * split / splits; batch < batches * (split + 1) / splits; batch++) {
      int64_t first = batch * some, last = std::min(count, first + some);
      for (int64_t tile = first; tile < last; tile++) {
        Position position = at.position(tile);
        transform_image(x, position, tile - first, c, c_end, &left[0]);
        transform_cotangents(dy, position, tile - first, v, v_end, &right[0]);
      }
      for (int64_t i = 0; i < 16; i++)
        for (int64_t strip = 0; strip * kColumns < v_end - v; strip++)
          for (int64_t block = 0; block * kRows < c_end - c; block++)
            outer_products(last - first, &left[i * images + block * some * kRows],
                           &right[i * cotangents + strip * some * kColumns],
                           &sums[((i * blocks + block) * strips + strip) * size]);
    }
    for (int64_t k = c; k < c_end; k++)
      channels(v_end - v, [&](auto lanes, int64_t j) {
        using L = decltype(lanes);
        typename L::V d[16], mixed[9];
        int64_t block = (k - c) / kRows, strip = j / kColumns, element = (k - c) % kRows * kColumns + j % kColumns;
        for (int i = 0; i < 16; i++) d[i] = L::load(&sums[((i * blocks + block) * strips + strip) * size + element]);
        both_sides<KernelGradientMatrix>(d, mixed);
        for (int tap = 0; tap < 9; tap++) L::store(out + (tap * at.c + k) * o + v + j, mixed[tap]);
      });
  }

  // Writes channels first .. last - 1 of a tile of the images into its panels.
  void transform_image(const float* x, const Position& position, int64_t row, int64_t first, int64_t last,
                       float* out) const {
    const float* pixels[16];
    at.pixels(x, position, pixels);
    channels(last - first, [&](auto lanes, int64_t k) {
      using L = decltype(lanes);
      typename L::V d[16], mixed[16];
      for (int i = 0; i < 16; i++) d[i] = pixels[i] ? L::load(pixels[i] + first + k) : typename L::V{};
      both_sides<InputMatrix>(d, mixed);
      constexpr int width = sizeof(typename L::V) / sizeof(float), piece = std::min(width, kRows);
      for (int i = 0; i < 16; i++)
        for (int j = 0; j < width; j += piece) {
          float* to = out + i * images + ((k + j) / kRows * some + row) * kRows + (k + j) % kRows;
          std::copy_n(reinterpret_cast<float*>(&mixed[i]) + j, piece, to);
        }
    });
  }

  // Writes channels first .. last - 1 of a tile of the cotangents, 2 x 2 pixels, into its panels.
  void transform_cotangents(const float* dy, const Position& position, int64_t row, int64_t first, int64_t last,
                            float* out) const {
    const float* steps[4];
    for (int i = 0; i < 4; i++) {
      int64_t y = position.y + i / 2, z = position.z + i % 2;
      steps[i] = y < oh && z < ow ? dy + ((position.n * oh + y) * ow + z) * o : nullptr;
    }
    channels(last - first, [&](auto lanes, int64_t k) {
      using L = decltype(lanes);
      typename L::V d[4], mixed[16];
      for (int i = 0; i < 4; i++) d[i] = steps[i] ? L::load(steps[i] + first + k) : typename L::V{};
      both_sides<CotangentMatrix>(d, mixed);
      for (int i = 0; i < 16; i++)
        L::store(out + i * cotangents + (k / kColumns * some + row) * kColumns + k % kColumns, mixed[i]);
    });
  }

  void run(ffi::ThreadPool pool, const float* x, const float* dy, float* out) const {
    int64_t all = 9 * at.c * o, parts = across * down;
    Scratch others;
    others.hold((splits - 1) * all);
    parallel(pool, splits * parts, [&](int64_t task) {
      int64_t split = task / parts, part = task % parts;
      work(x, dy, split, part / down * inputs, part % down * outputs, split ? &others[(split - 1) * all] : out);
    });
    for (int64_t split = 1; split < splits; split++)
      for (int64_t i = 0; i < all; i++) out[i] += others[(split - 1) * all + i];
  }
};
