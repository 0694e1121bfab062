// Sums over all examples and positions, channel by channel, for batch normalisation and its gradient: float32, [n c].
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "parallel.h"

// The rows of [n c], divided into chunks that fit into the cache, and these into tasks.
struct Rows {
  int64_t n, c;
  int64_t some = std::max<int64_t>(4, 32768 / c), chunks = (n + some - 1) / some, tasks = std::min<int64_t>(chunks, 32);

  // Calls body(first row, last) for the chunks of a task.
  template <typename Body>
  void each(int64_t task, const Body& body) const {
    for (int64_t chunk = chunks * task / tasks; chunk < chunks * (task + 1) / tasks; chunk++)
      body(chunk * some, std::min(n, (chunk + 1) * some));
  }

  // Calls body(lanes, number of rows, first row, first channel) for rows first .. last - 1, four at a time.
  template <typename Body>
  void walk(int64_t first, int64_t last, const Body& body) const {
    int64_t r = first;
    for (; r + 4 <= last; r += 4)
      channels(c, [&](auto lanes, int64_t k) { body(lanes, std::integral_constant<int, 4>(), r, k); });
    for (; r < last; r++)
      channels(c, [&](auto lanes, int64_t k) { body(lanes, std::integral_constant<int, 1>(), r, k); });
  }
};

// Mean and variance of each channel of [n c]: in a chunk by two passes while it is in the cache; chunks combined by
// Chan, Golub, LeVeque, Updating formulae and a pairwise algorithm for computing sample variances, 1979, equation 2.1.
struct Moments {
  double count = 0;
  std::vector<double> mean, squares;

  void add(double more, int64_t k, double other, double others_squares) {
    double apart = other - mean[k];
    mean[k] += apart * (more / (count + more));
    squares[k] += others_squares + apart * apart * (count * more / (count + more));
  }
};

inline void statistics(ffi::ThreadPool pool, const Rows& rows, const float* x, float* mean, float* variance) {
  int64_t c = rows.c;
  std::vector<Moments> parts(rows.tasks, {0, std::vector<double>(c), std::vector<double>(c)});
  parallel(pool, rows.tasks, [&](int64_t task) {
    std::vector<float> middle(c), rest(c), squares(c);
    rows.each(task, [&](int64_t first, int64_t last) {
      for (auto* sums : {&middle, &rest, &squares}) std::fill(sums->begin(), sums->end(), 0.0f);
      rows.walk(first, last, [&](auto lanes, auto some, int64_t r, int64_t k) {
        using L = decltype(lanes);
        typename L::V total{};
        for (int i = 0; i < some; i++) total += L::load(x + (r + i) * c + k);
        L::store(&middle[k], L::load(&middle[k]) + total);
      });
      for (float& value : middle) value /= last - first;
      rows.walk(first, last, [&](auto lanes, auto some, int64_t r, int64_t k) {
        using L = decltype(lanes);
        typename L::V total{}, square{}, m = L::load(&middle[k]);
        for (int i = 0; i < some; i++) {
          typename L::V apart = L::load(x + (r + i) * c + k) - m;
          total += apart;
          square += apart * apart;
        }
        L::store(&rest[k], L::load(&rest[k]) + total);
        L::store(&squares[k], L::load(&squares[k]) + square);
      });
      Moments& part = parts[task];
      double count = last - first;
      for (int64_t k = 0; k < c; k++) {
        double shift = rest[k] / count;  // rounding error of the mean
        part.add(count, k, middle[k] + shift, squares[k] - shift * rest[k]);
      }
      part.count += count;
    });
  });
  Moments& all = parts[0];
  for (int64_t task = 1; task < rows.tasks; task++) {
    for (int64_t k = 0; k < c; k++) all.add(parts[task].count, k, parts[task].mean[k], parts[task].squares[k]);
    all.count += parts[task].count;
  }
  for (int64_t k = 0; k < c; k++) {
    mean[k] = float(all.mean[k]);
    variance[k] = float(all.squares[k] / rows.n);
  }
}

// Sums over all rows of dy and of dy (x - mean), [n c] each; with `relu`, of dy where (x - mean) factor + bias > 0.
template <bool relu>
void gradient_sums(ffi::ThreadPool pool, const Rows& rows, const float* x, const float* dy, const float* mean,
                const float* factor, const float* bias, float* total, float* product) {
  int64_t c = rows.c;
  std::vector<float> sums(rows.tasks * 2 * c);
  parallel(pool, rows.tasks, [&](int64_t task) {
    std::vector<float> part(2 * c);
    float* mine = sums.data() + task * 2 * c;
    rows.each(task, [&](int64_t first, int64_t last) {
      std::fill(part.begin(), part.end(), 0.0f);
      rows.walk(first, last, [&](auto lanes, auto some, int64_t r, int64_t k) {
        using L = decltype(lanes);
        typename L::V a{}, b{}, m = L::load(mean + k), f{}, shift{}, zero{};
        if (relu) f = L::load(factor + k), shift = L::load(bias + k);
        for (int i = 0; i < some; i++) {
          typename L::V gradient = L::load(dy + (r + i) * c + k), centred = L::load(x + (r + i) * c + k) - m;
          if (relu) gradient = centred * f + shift > zero ? gradient : zero;
          a += gradient;
          b += gradient * centred;
        }
        L::store(&part[k], L::load(&part[k]) + a);
        L::store(&part[c + k], L::load(&part[c + k]) + b);
      });
      for (int64_t k = 0; k < 2 * c; k++) mine[k] += part[k];
    });
  });
  std::fill(total, total + c, 0.0f);
  std::fill(product, product + c, 0.0f);
  for (int64_t task = 0; task < rows.tasks; task++)
    for (int64_t k = 0; k < c; k++) {
      total[k] += sums[task * 2 * c + k];
      product[k] += sums[task * 2 * c + c + k];
    }
}
