// Operations for which XLA's CPU backend makes several passes over memory, or many small loops, in one: float32, NHWC.
//
// Work is divided by shape alone, never by the number of threads, and partial sums are added in a fixed order: the same
// input gives the same bytes on all machines with the same instruction set.

#include "batch_norm.h"
#include "direct.h"
#include "products.h"
#include "regions.h"
#include "strided.h"
#include "winograd.h"

namespace {

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
  if (d[3] % kWidth) return ffi::Error::InvalidArgument("output channels are not a multiple of the vector width");
  Window at = window(x, d[1], d[2], sh, sw, top, left);
  products(pool, at, d[0], k[0], k[1], k[3], x.typed_data(), dy.typed_data(), out->typed_data());
  return ffi::Error::Success();
}

ffi::Error MatrixGradient(ffi::ThreadPool pool, Array x, Array dy, Result out) {
  auto d = x.dimensions();
  Products{d[0], d[1], dy.dimensions()[1]}.run(pool, x.typed_data(), dy.typed_data(), out->typed_data());
  return ffi::Error::Success();
}

ffi::Error WinogradForward(ffi::ThreadPool pool, Array x, Array w, int64_t top, int64_t left, int64_t flip,
                           Result out) {
  auto d = x.dimensions(), y = out->dimensions();
  Winograd at{{d[0], d[1], d[2], d[3], (y[1] + 1) / 2, (y[2] + 1) / 2, top, left}, y[1], y[2], y[3], flip != 0};
  at.run(pool, x.typed_data(), w.typed_data(), out->typed_data());
  return ffi::Error::Success();
}

ffi::Error WinogradGradientOf(ffi::ThreadPool pool, Array x, Array dy, int64_t top, int64_t left, Result out) {
  auto d = x.dimensions(), y = dy.dimensions();
  WinogradGradient at{{d[0], d[1], d[2], d[3], (y[1] + 1) / 2, (y[2] + 1) / 2, top, left}, y[1], y[2], y[3]};
  at.run(pool, x.typed_data(), dy.typed_data(), out->typed_data());
  return ffi::Error::Success();
}

ffi::Error StridedOf(ffi::ThreadPool pool, Array x, Array w, int64_t s, int64_t top, int64_t left, int64_t up,
                     Result out) {
  auto d = x.dimensions(), y = out->dimensions();
  auto run = [&](auto at) { at.run(pool, x.typed_data(), w.typed_data(), out->typed_data()); };
  if (w.dimensions()[0] == s)
    run(SideBySide{d[0], d[1], d[2], d[3], y[3], s});
  else
    run(FourTaps{d[0], d[1], d[2], d[3], y[1], y[2], y[3], s, top, left, up != 0});
  return ffi::Error::Success();
}

ffi::Error BatchNormStatistics(ffi::ThreadPool pool, Array x, Result mean, Result variance) {
  Rows rows{x.dimensions()[0], x.dimensions()[1]};
  statistics(pool, rows, x.typed_data(), mean->typed_data(), variance->typed_data());
  return ffi::Error::Success();
}

ffi::Error BatchNormSums(ffi::ThreadPool pool, Array x, Array dy, Array mean, Array factor, Array bias, int64_t relu,
                         Result total, Result product) {
  Rows rows{x.dimensions()[0], x.dimensions()[1]};
  (relu ? gradient_sums<true> : gradient_sums<false>)(pool, rows, x.typed_data(), dy.typed_data(), mean.typed_data(),
                                                factor.typed_data(), bias.typed_data(), total->typed_data(),
                                                product->typed_data());
  return ffi::Error::Success();
}

ffi::Error WindowMaximaGradient(ffi::ThreadPool pool, Array maps, Integers image, Integers y0, Integers y1, Integers x0,
                                Integers x1, Array dy, Result out) {
  auto d = maps.dimensions(), y = dy.dimensions();
  Windows at{y[0], y[1], y[2], d[1], d[2], d[3], image.typed_data(), y0.typed_data(), y1.typed_data(), x0.typed_data(),
             x1.typed_data()};
  at.run(pool, d[0] * d[1] * d[2], maps.typed_data(), dy.typed_data(), out->typed_data());
  return ffi::Error::Success();
}

}  // namespace

#define GEOMETRY Attr<int64_t>("sh").Attr<int64_t>("sw").Attr<int64_t>("top").Attr<int64_t>("left")
#define BIND ffi::Ffi::Bind().Ctx<ffi::ThreadPool>()

XLA_FFI_DEFINE_HANDLER_SYMBOL(depthwise_forward, DepthwiseForward, BIND.Arg<Array>().Arg<Array>().GEOMETRY.Ret<Array>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(depthwise_gradient, DepthwiseGradient, BIND.Arg<Array>().Arg<Array>().GEOMETRY.Ret<Array>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(conv_gradient, ConvGradient, BIND.Arg<Array>().Arg<Array>().GEOMETRY.Ret<Array>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(matrix_gradient, MatrixGradient, BIND.Arg<Array>().Arg<Array>().Ret<Array>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(batch_norm_statistics, BatchNormStatistics, BIND.Arg<Array>().Ret<Array>().Ret<Array>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(batch_norm_sums, BatchNormSums,
                              BIND.Arg<Array>().Arg<Array>().Arg<Array>().Arg<Array>().Arg<Array>()
                                  .Attr<int64_t>("relu").Ret<Array>().Ret<Array>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(winograd_forward, WinogradForward,
                              BIND.Arg<Array>().Arg<Array>().Attr<int64_t>("top").Attr<int64_t>("left")
                                  .Attr<int64_t>("flip").Ret<Array>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(winograd_gradient, WinogradGradientOf,
                              BIND.Arg<Array>().Arg<Array>().Attr<int64_t>("top").Attr<int64_t>("left").Ret<Array>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(strided, StridedOf,
                              BIND.Arg<Array>().Arg<Array>().Attr<int64_t>("s").Attr<int64_t>("top")
                                  .Attr<int64_t>("left").Attr<int64_t>("up").Ret<Array>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(window_maxima_gradient, WindowMaximaGradient,
                              BIND.Arg<Array>().Arg<Integers>().Arg<Integers>().Arg<Integers>().Arg<Integers>()
                                  .Arg<Integers>().Arg<Array>().Ret<Array>());
