// Sums and transformations that XLA's CPU backend makes many passes over memory, or many small programs, for, in one:
// float32, NHWC.
//
// Work is cut by shape alone, never by the number of threads, and parts are added up in a fixed order: the same input
// gives the same bytes on any machine of a kind.

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;
using Array = ffi::Buffer<ffi::F32>;
using Result = ffi::ResultBuffer<ffi::F32>;

namespace {

// Runs task(0) .. task(count - 1) on XLA's threads, this one among them. It waits only for tasks that have begun, so it
// may itself run on one of the pool's threads; awake for a moment, then asleep, for whoever has a task may want the core.
template <typename Task>
void parallel(ffi::ThreadPool pool, int64_t count, const Task& task) {
  struct Shared {
    std::atomic<int64_t> next{0}, done{0};
    std::mutex mutex;
    std::condition_variable all;
  };
  auto shared = std::make_shared<Shared>();
  auto work = [shared, count, &task] {
    // After the last task is taken `task` may be gone: it is touched only with a task in hand.
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
  typedef float V __attribute__((vector_size(N * 4), aligned(4)));
  static V load(const float* p) { return *reinterpret_cast<const V*>(p); }
  static void store(float* p, V v) { *reinterpret_cast<V*>(p) = v; }
};
template <>
struct Lanes<1> {
  typedef float V;
  static V load(const float* p) { return *p; }
  static void store(float* p, V v) { *p = v; }
};

// Calls body<lanes>(first channel) for all channels: sixteen at a time, the rest one by one.
template <typename Body>
void channels(int64_t c, const Body& body) {
  int64_t k = 0;
  for (; k + 16 <= c; k += 16) body(Lanes<16>(), k);
  for (; k + 8 <= c; k += 8) body(Lanes<8>(), k);
  for (; k < c; k++) body(Lanes<1>(), k);
}

struct Window {
  int64_t h, w, c, oh, ow, sh, sw, top, left;

  // Outputs first .. last - 1 of a row have the whole window inside.
  void inside(int64_t side, int64_t* first, int64_t* last) const {
    *first = std::min(ow, std::max<int64_t>(0, (left + sw - 1) / sw));
    int64_t room = w - side + left;
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
    typename L::V slope = L::load(dy + x * at.c);
    for (int i = 0; i < F; i++)
      for (int j = 0; j < F; j++) {
        int64_t column = x * at.sw - at.left + j;
        if (rows[i] && column >= 0 && column < at.w) g[i][j] += L::load(rows[i] + column * at.c) * slope;
      }
  };
  for (int64_t x = 0; x < first; x++) edge(x);
  for (int64_t x = first; x < last; x++) {
    typename L::V slope = L::load(dy + x * at.c);
    int64_t begin = (x * at.sw - at.left) * at.c;
    for (int i = 0; i < F; i++)
      if (rows[i])
        for (int j = 0; j < F; j++) g[i][j] += L::load(rows[i] + begin + j * at.c) * slope;
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

// A convolution's kernel gradient: for each place (i, j) of the kernel, sums over pixels of x[c] dy[o], in registers for
// a block of C input by O vectors of output channels along a row.
#ifdef __AVX512F__
constexpr int kWidth = 16, kRows = 8;
#else
constexpr int kWidth = 8, kRows = 4;
#endif

struct Outer {
  const float *x, *dy;
  float* sums;
  int64_t step, slopes, outputs, count;  // from pixel to pixel in x and in dy; from row to row of sums; pixels
};

template <int C, int O>
void outer_products(const Outer& at) {
  using L = Lanes<kWidth>;
  typename L::V sum[C][O];
  for (int c = 0; c < C; c++)
    for (int o = 0; o < O; o++) sum[c][o] = L::load(at.sums + c * at.outputs + o * kWidth);
  const float *x = at.x, *dy = at.dy;
  for (int64_t n = 0; n < at.count; n++, x += at.step, dy += at.slopes) {
    typename L::V slope[O];
    for (int o = 0; o < O; o++) slope[o] = L::load(dy + o * kWidth);
    for (int c = 0; c < C; c++)
      for (int o = 0; o < O; o++) sum[c][o] += x[c] * slope[o];
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

// Winograd's transformations, M d M' of small tiles d, a row and a column of which M takes at a time.
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
struct SlopeMatrix {  // A
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
struct KernelSlopeMatrix {  // G'
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

struct Tiles {
  int64_t b, h, w, c, high, wide, top, left;  // images; rows and columns of tiles, which begin at every second pixel

  // Calls body(example, row, column, first channel, last) for all tiles: tasks are rows and 512 channels.
  template <typename Body>
  void each(ffi::ThreadPool pool, const Body& body) const {
    int64_t some = 512, parts = (c + some - 1) / some;
    parallel(pool, b * high * parts, [&](int64_t task) {
      int64_t row = task / parts, first = task % parts * some, last = std::min(c, first + some);
      for (int64_t column = 0; column < wide; column++) body(row / high, row % high, column, first, last);
    });
  }
};

// [b h w c] to [16 tiles c].
template <typename M>
void transform(ffi::ThreadPool pool, const Tiles& at, const float* x, float* out) {
  int64_t plane = at.b * at.high * at.wide * at.c;
  at.each(pool, [&](int64_t n, int64_t row, int64_t column, int64_t first, int64_t last) {
    const float* places[M::from * M::from];
    for (int i = 0; i < M::from; i++)
      for (int j = 0; j < M::from; j++) {
        int64_t y = 2 * row - at.top + i, z = 2 * column - at.left + j;
        bool inside = y >= 0 && y < at.h && z >= 0 && z < at.w;
        places[i * M::from + j] = inside ? x + ((n * at.h + y) * at.w + z) * at.c : nullptr;
      }
    float* tile = out + ((n * at.high + row) * at.wide + column) * at.c;
    channels(last - first, [&](auto lanes, int64_t k) {
      using L = decltype(lanes);
      typename L::V d[M::from * M::from], mixed[16];
      for (int i = 0; i < M::from * M::from; i++)
        d[i] = places[i] ? L::load(places[i] + first + k) : typename L::V{};
      both_sides<M>(d, mixed);
      for (int i = 0; i < 16; i++) L::store(tile + i * plane + first + k, mixed[i]);
    });
  });
}

// [16 tiles c] to [b h w c].
template <typename M>
void inverse(ffi::ThreadPool pool, const Tiles& at, const float* planes, float* out) {
  int64_t plane = at.b * at.high * at.wide * at.c;
  at.each(pool, [&](int64_t n, int64_t row, int64_t column, int64_t first, int64_t last) {
    int64_t rows = std::min<int64_t>(M::to, at.h - 2 * row), columns = std::min<int64_t>(M::to, at.w - 2 * column);
    const float* tile = planes + ((n * at.high + row) * at.wide + column) * at.c;
    float* pixel = out + ((n * at.h + 2 * row) * at.w + 2 * column) * at.c;
    channels(last - first, [&](auto lanes, int64_t k) {
      using L = decltype(lanes);
      typename L::V d[16], mixed[M::to * M::to];
      for (int i = 0; i < 16; i++) d[i] = L::load(tile + i * plane + first + k);
      both_sides<M>(d, mixed);
      for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) L::store(pixel + (i * at.w + j) * at.c + first + k, mixed[i * M::to + j]);
    });
  });
}

Window window(const Array& x, int64_t oh, int64_t ow, int64_t sh, int64_t sw, int64_t top, int64_t left) {
  auto d = x.dimensions();
  return {d[1], d[2], d[3], oh, ow, sh, sw, top, left};
}

ffi::Error DepthwiseForward(ffi::ThreadPool pool, Array x, Array kernel, int64_t sh, int64_t sw, int64_t top, int64_t left,
                            Result out) {
  auto d = out->dimensions();
  Window at = window(x, d[1], d[2], sh, sw, top, left);
  auto run = kernel.dimensions()[0] == 3 ? forward<3> : forward<5>;
  run(pool, at, d[0], x.typed_data(), kernel.typed_data(), out->typed_data());
  return ffi::Error::Success();
}

ffi::Error DepthwiseGradient(ffi::ThreadPool pool, Array x, Array dy, int64_t sh, int64_t sw, int64_t top, int64_t left,
                             Result out) {
  auto d = dy.dimensions();
  Window at = window(x, d[1], d[2], sh, sw, top, left);
  auto run = out->dimensions()[0] == 3 ? gradient<3> : gradient<5>;
  run(pool, at, d[0], x.typed_data(), dy.typed_data(), out->typed_data());
  return ffi::Error::Success();
}

ffi::Error ConvGradient(ffi::ThreadPool pool, Array x, Array dy, int64_t sh, int64_t sw, int64_t top, int64_t left,
                        Result out) {
  auto d = dy.dimensions(), k = out->dimensions();
  if (d[3] % kWidth) return ffi::Error::InvalidArgument("output channels do not fill vectors");
  Window at = window(x, d[1], d[2], sh, sw, top, left);
  products(pool, at, d[0], k[0], k[1], k[3], x.typed_data(), dy.typed_data(), out->typed_data());
  return ffi::Error::Success();
}

ffi::Error WinogradTransform(ffi::ThreadPool pool, Array x, int64_t size, int64_t high, int64_t wide, int64_t top,
                           int64_t left, Result out) {
  auto d = x.dimensions();
  auto run = size == 4 ? transform<InputMatrix> : size == 3 ? transform<KernelMatrix> : transform<SlopeMatrix>;
  run(pool, {d[0], d[1], d[2], d[3], high, wide, top, left}, x.typed_data(), out->typed_data());
  return ffi::Error::Success();
}

ffi::Error WinogradInverse(ffi::ThreadPool pool, Array planes, int64_t size, int64_t high, int64_t wide, Result out) {
  auto d = out->dimensions();
  auto run = size == 2 ? inverse<OutputMatrix> : inverse<KernelSlopeMatrix>;
  run(pool, {d[0], d[1], d[2], d[3], high, wide, 0, 0}, planes.typed_data(), out->typed_data());
  return ffi::Error::Success();
}

// Sums over all rows of dy and of dy (x - mean), [n c] each.
ffi::Error BatchNormSums(ffi::ThreadPool pool, Array x, Array dy, Array mean, Result total, Result product) {
  int64_t n = x.dimensions()[0], c = x.dimensions()[1], tasks = std::max<int64_t>(1, std::min<int64_t>(n / 64, 32));
  std::vector<float> sums(tasks * 2 * c);
  const float *xs = x.typed_data(), *dys = dy.typed_data(), *means = mean.typed_data();
  parallel(pool, tasks, [&](int64_t task) {
    float* mine = sums.data() + task * 2 * c;
    int64_t end = n * (task + 1) / tasks;
    for (int64_t from = n * task / tasks; from < end; from += 64) {
      int64_t to = std::min(end, from + 64);
      channels(c, [&](auto lanes, int64_t k) {
        using L = decltype(lanes);
        typename L::V a{}, b{}, m = L::load(means + k);
        for (int64_t r = from; r < to; r++) {
          typename L::V slope = L::load(dys + r * c + k);
          a += slope;
          b += slope * (L::load(xs + r * c + k) - m);
        }
        L::store(mine + k, L::load(mine + k) + a);
        L::store(mine + c + k, L::load(mine + c + k) + b);
      });
    }
  });
  float *out[] = {total->typed_data(), product->typed_data()};
  for (int half = 0; half < 2; half++) {
    std::fill(out[half], out[half] + c, 0.0f);
    for (int64_t task = 0; task < tasks; task++)
      for (int64_t k = 0; k < c; k++) out[half][k] += sums[(task * 2 + half) * c + k];
  }
  return ffi::Error::Success();
}

}  // namespace

#define PLACES Attr<int64_t>("sh").Attr<int64_t>("sw").Attr<int64_t>("top").Attr<int64_t>("left")
#define BIND ffi::Ffi::Bind().Ctx<ffi::ThreadPool>()

XLA_FFI_DEFINE_HANDLER_SYMBOL(depthwise_forward, DepthwiseForward, BIND.Arg<Array>().Arg<Array>().PLACES.Ret<Array>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(depthwise_gradient, DepthwiseGradient, BIND.Arg<Array>().Arg<Array>().PLACES.Ret<Array>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(conv_gradient, ConvGradient, BIND.Arg<Array>().Arg<Array>().PLACES.Ret<Array>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(batch_norm_sums, BatchNormSums,
                              BIND.Arg<Array>().Arg<Array>().Arg<Array>().Ret<Array>().Ret<Array>());
#define TILES Attr<int64_t>("size").Attr<int64_t>("high").Attr<int64_t>("wide")
XLA_FFI_DEFINE_HANDLER_SYMBOL(winograd_transform, WinogradTransform,
                              BIND.Arg<Array>().TILES.Attr<int64_t>("top").Attr<int64_t>("left").Ret<Array>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(winograd_inverse, WinogradInverse, BIND.Arg<Array>().TILES.Ret<Array>());
