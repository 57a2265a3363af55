// Pools of 3x3, padded by one.
#pragma once

#include <algorithm>
#include <vector>

#include "depthwise.h"
#include "norm.h"

namespace itnas {

struct Window {
    Index i0, i1, j0, j1;
    Window(Index i, Index j, int stride, Index height, Index width)
        : i0(std::max<Index>(i * stride - 1, 0)), i1(std::min(i * stride + 2, height)),
          j0(std::max<Index>(j * stride - 1, 0)), j1(std::min(j * stride + 2, width)) {}
    Index count() const { return (i1 - i0) * (j1 - j0); }
};

template <typename T, int V>
inline Vector<T, V> largest(Map<const T> x, const Window& w, Index width, Index v) {
    auto top = load<T, V>(x.at(w.i0 * width + w.j0) + v);
    for (Index i = w.i0; i < w.i1; ++i)
        for (Index j = w.j0; j < w.j1; ++j) {
            const auto value = load<T, V>(x.at(i * width + j) + v);
            top = (value > top) | (value != value) ? value : top;
        }
    return top;
}

// Means of 3x3 windows at stride 1, or the transpose of that map: sums over a padded copy, with
// 1 / the number of pixels in a window after the sum or before it
template <typename T, int V>
class Box {
  public:
    Box(Index height, Index width, Index c)
        : padded_{height, width, 1, c}, ones_(9 * c, T(1)), buffer_(padded_.size(), T(0)),
          sums_(height * width * c) {}

    template <typename Out>
    void run(Map<const T> x, bool transposed, Out out) {
        const Index height = padded_.height, width = padded_.width, c = padded_.channels;
        for (Index i = 0; i < height; ++i)
            for (Index j = 0; j < width; ++j) {
                const T factor = transposed ? share(i, j) : T(1);
                T* to = buffer_.data() + padded_.interior(i) + j * c;
                for (Index v = 0; v < c; v += V)
                    store<T, V>(to + v, load<T, V>(x.at(i * width + j) + v) * factor);
            }
        depthwise<T, V, 3, 1, 1>(
            buffer_.data(), padded_.row(), c, ones_.data(), sums_.data(), width * c, height, width
        );
        for (Index i = 0; i < height; ++i)
            for (Index j = 0; j < width; ++j) {
                const T factor = transposed ? T(1) : share(i, j);
                for (Index v = 0; v < c; v += V)
                    out(i * width + j, v, load<T, V>(&sums_[(i * width + j) * c + v]) * factor);
            }
    }

  private:
    T share(Index i, Index j) const {
        return T(1) / T(Window(i, j, 1, padded_.height, padded_.width).count());
    }

    Padded padded_;
    std::vector<T> ones_, buffer_, sums_;
};

// Maximum or mean of one image
template <typename T, int V>
class Pool {
  public:
    Pool(Index height, Index width, Index c, bool maximum, int stride)
        : height_(height), width_(width), c_(c), maximum_(maximum), stride_(stride),
          out_height((height - 1) / stride + 1), out_width((width - 1) / stride + 1),
          boxed_(!maximum && stride == 1), box_(boxed_ ? height : 0, boxed_ ? width : 0, c) {}

    void forward(Map<const T> x, Map<T> y) {
        if (boxed_) {
            box_.run(x, false, [&](Index at, Index v, auto value) {
                store<T, V>(y.at(at) + v, value);
            });
            return;
        }
        windows([&](const Window& w, Index out, Index v) {
            Vector<T, V> value = {};
            if (maximum_) {
                value = largest<T, V>(x, w, width_, v);
            } else {
                for (Index a = w.i0; a < w.i1; ++a)
                    for (Index e = w.j0; e < w.j1; ++e)
                        value += load<T, V>(x.at(a * width_ + e) + v);
                value /= T(w.count());
            }
            store<T, V>(y.at(out) + v, value);
        });
    }

    // dx += the transpose of dy; the first of equal maxima takes all, as in torch
    void backward(Map<const T> x, Map<const T> dy, Map<T> dx) {
        if (boxed_) {
            box_.run(dy, true, [&](Index at, Index v, auto value) {
                T* p = dx.at(at) + v;
                store<T, V>(p, load<T, V>(p) + value);
            });
            return;
        }
        const Vector<T, V> zero = {};
        windows([&](const Window& w, Index out, Index v) {
            auto g = load<T, V>(dy.at(out) + v);
            auto top = zero;
            if (maximum_) top = largest<T, V>(x, w, width_, v);
            else g /= T(w.count());
            for (Index a = w.i0; a < w.i1; ++a)
                for (Index e = w.j0; e < w.j1; ++e) {
                    T* p = dx.at(a * width_ + e) + v;
                    if (!maximum_) {
                        store<T, V>(p, load<T, V>(p) + g);
                        continue;
                    }
                    const auto here = load<T, V>(x.at(a * width_ + e) + v) == top;
                    store<T, V>(p, load<T, V>(p) + (here ? g : zero));
                    g = here ? zero : g;
                }
        });
    }

  private:
    // f(window, output pixel, first channel)
    template <typename F>
    void windows(F f) const {
        for (Index i = 0; i < out_height; ++i)
            for (Index j = 0; j < out_width; ++j) {
                const Window w(i, j, stride_, height_, width_);
                for (Index v = 0; v < c_; v += V) f(w, i * out_width + j, v);
            }
    }

    Index height_, width_, c_;
    bool maximum_;
    int stride_;

  public:
    const Index out_height, out_width;

  private:
    bool boxed_;
    Box<T, V> box_;
};

template <typename T, int V>
void pool(
    Index images, Index height, Index width, Index c, bool maximum, int stride, Map<const T> x,
    Map<T> y, double* stats, double epsilon
) {
    const auto make = [&] { return Pool<T, V>(height, width, c, maximum, stride); };
    const Pool<T, V> like = make();
    const Index pixels = like.out_height * like.out_width;
    std::vector<T> moment(stats ? images * 2 * c : 0);
    Blocks(images).each(
        9.0 * double(images * pixels * c), make,
        [&](Pool<T, V>& own, Index, Index first, Index last) {
            for (Index b = first; b < last; ++b) {
                const Map<T> to{y.at(b * pixels), y.pixel};
                own.forward({x.at(b * height * width), x.pixel}, to);
                if (stats) moments<T, V>({to.data, to.pixel}, pixels, c, &moment[b * 2 * c]);
            }
        }
    );
    if (stats) merge_moments(moment.data(), images, pixels, c, epsilon, stats);
}

template <typename T, int V>
void pool_backward(
    Index images, Index height, Index width, Index c, bool maximum, int stride, Map<const T> x,
    Map<const T> dy, Map<T> dx
) {
    const auto make = [&] { return Pool<T, V>(height, width, c, maximum, stride); };
    const Pool<T, V> like = make();
    const Index pixels = like.out_height * like.out_width;
    Blocks(images).each(
        9.0 * double(images * pixels * c), make,
        [&](Pool<T, V>& own, Index, Index first, Index last) {
            for (Index b = first; b < last; ++b)
                own.backward(
                    {x.at(b * height * width), x.pixel}, {dy.at(b * pixels), dy.pixel},
                    {dx.at(b * height * width), dx.pixel}
                );
        }
    );
}

}  // namespace itnas
