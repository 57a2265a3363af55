// Pointwise convolutions, and factorized reductions as pointwise ones of two pixels side by side.
#pragma once

#include <algorithm>
#include <vector>

#include "norm.h"
#include "products.h"

namespace itnas {

// What comes back to a part of the outputs: the gradient of the weighted, normalised y
template <typename T>
struct Returned {
    Index count;  // parts, of equally many channels
    T* const* g;
    const Index* strides;
    double* const* stats;  // (2, channels of a part) each
    double* const* sums;
    const double* weights;
};

// of every part; none where there are no statistics
template <typename T>
std::vector<NormGradient<T>> gradients(const Returned<T>& parts, double count, Index c_out) {
    std::vector<NormGradient<T>> norms;
    for (Index e = 0; e < parts.count && parts.stats; ++e)
        norms.emplace_back(
            parts.stats[e], parts.sums[e], parts.weights[e], count, c_out / parts.count
        );
    return norms;
}

// dy of so many pixels, the first of them `first`: all parts of a pixel, then the next, so that y
// is read as it lies in memory
template <typename T, int V>
void apply_norms(
    const std::vector<NormGradient<T>>& norms, const Returned<T>& parts, Map<const T> y,
    Index first, Index pixels, Map<T> dy
) {
    for (Index p = 0; p < pixels; ++p) {
        const T* from = y.at(first + p);
        T* to = dy.at(p);
        for (Index e = 0; e < parts.count; ++e) {
            const T* g = parts.g[e] + (first + p) * parts.strides[e];
            const Index c = norms[e].channels();
            for (Index v = 0; v < c; v += V)
                store<T, V>(
                    to + v, norms[e].template at<V>(load<T, V>(g + v), load<T, V>(from + v), v)
                );
            from += c, to += c;
        }
    }
}

// Statistics of equal parts of the channels, (2, channels of a part) each
template <typename T>
void merge_parts(
    const T* moments, Index images, Index pixels, Index c_out, double epsilon, Index parts,
    double* const* stats
) {
    std::vector<double> all(2 * c_out);
    merge_moments(moments, images, pixels, c_out, epsilon, all.data());
    const Index c = c_out / parts;
    for (Index e = 0; e < parts; ++e)
        for (Index n = 0; n < c; ++n) {
            stats[e][n] = all[e * c + n];
            stats[e][c + n] = all[c_out + e * c + n];
        }
}

// One pixel (i, j) goes to every output; or, with a second matrix, the pixels (2i, 2j) and
// (2i + 1, 2j + 1) go to the first and the last of its channels.
template <typename T, int V>
struct Pointwise {
    Index images, height, width, c_in, c_out, first;  // the first matrix has `first` columns
    bool rectify;
    Map<const T> x;
    Index pixels_each, k;                // input pixels of an output, and their channels together
    std::vector<T> matrix, transposed;   // (k, c out), (c out, k); zero where nothing leads
    Index out_height, out_width, pixels;

    // one, two: (columns, c in); two may be null
    Pointwise(
        Index images, Index height, Index width, Index c_in, Index c_out, Index first,
        bool rectify, Map<const T> x, const T* one, const T* two
    )
        : images(images), height(height), width(width), c_in(c_in), c_out(c_out), first(first),
          rectify(rectify), x(x), pixels_each(two ? 2 : 1), k(pixels_each * c_in),
          matrix(k * c_out, T(0)), transposed(k * c_out, T(0)),
          out_height(height / pixels_each), out_width(width / pixels_each),
          pixels(out_height * out_width) {
        each_weight([&](Index o, Index n, Index i, Index at) {
            const T value = n ? two[at] : one[at];
            matrix[(n * this->c_in + i) * this->c_out + o] = value;
            transposed[o * k + n * this->c_in + i] = value;
        });
    }

    // f(output channel, pixel, input channel, place in the matrix of that pixel)
    template <typename F>
    void each_weight(F f) const {
        for (Index o = 0; o < c_out; ++o)
            for (Index i = 0; i < c_in; ++i) {
                const Index n = o < first ? 0 : 1;
                f(o, n, i, (o - n * first) * c_in + i);
            }
    }

    double work() const { return double(images * pixels * k * c_out); }

    // f(place in a row of the gathered image, pixel of the input)
    template <typename F>
    void each_pixel(Index image, F f) const {
        for (Index i = 0; i < out_height; ++i)
            for (Index j = 0; j < out_width; ++j)
                for (Index n = 0; n < pixels_each; ++n)
                    f((i * out_width + j) * k + n * c_in,
                      (image * height + i * pixels_each + n) * width + j * pixels_each + n);
    }

    void gather(Index image, T* rows) const {
        const Vector<T, V> zero = {};
        each_pixel(image, [&](Index place, Index pixel) {
            for (Index v = 0; v < c_in; v += V) {
                const auto value = load<T, V>(x.at(pixel) + v);
                store<T, V>(rows + place + v, rectify && value < zero ? zero : value);
            }
        });
    }

    // stats: of `parts` of the outputs, (2, channels of a part) each; may be null
    void forward(Map<T> y, Index parts, double* const* stats, double epsilon) const {
        std::vector<T> moment(stats ? images * 2 * c_out : 0);
        Blocks(images).each(
            work(), [&] { return std::vector<T>(pixels * k); },
            [&](std::vector<T>& rows, Index, Index from, Index to) {
                for (Index n = from; n < to; ++n) {
                    T* out = y.at(n * pixels);
                    gather(n, rows.data());
                    product<T, V>(rows.data(), k, matrix.data(), k, c_out, out, y.pixel, pixels);
                    if (stats)
                        moments<T, V>({out, y.pixel}, pixels, c_out, &moment[n * 2 * c_out]);
                }
            }
        );
        if (stats) merge_parts(moment.data(), images, pixels, c_out, epsilon, parts, stats);
    }

    struct Buffers {
        std::vector<T> rows, dy, drows;
    };

    // parts without statistics: the one gradient is that of y itself. dx is added to.
    void backward(Map<const T> y, Returned<T> parts, Map<T> dx, T* done, T* dtwo) const {
        const bool normed = parts.stats != nullptr;
        const auto norms = gradients(parts, double(images * pixels), c_out);
        const Blocks blocks(images);
        Partial<T> dmatrix(blocks, done ? k * c_out : 0);
        blocks.each(
            2 * work(),
            [&] {
                return Buffers{
                    std::vector<T>(pixels * k), std::vector<T>(normed ? pixels * c_out : 0),
                    std::vector<T>(pixels * k)
                };
            },
            [&](Buffers& own, Index block, Index from, Index to) {
                for (Index n = from; n < to; ++n) {
                    Map<const T> gn{
                        parts.g[0] + n * pixels * parts.strides[0], parts.strides[0]
                    };
                    if (normed) {
                        apply_norms<T, V>(
                            norms, parts, y, n * pixels, pixels, {own.dy.data(), c_out}
                        );
                        gn = {own.dy.data(), c_out};
                    }
                    product<T, V>(
                        gn.data, gn.pixel, transposed.data(), c_out, k, own.drows.data(), k, pixels
                    );
                    gather(n, own.rows.data());
                    if (done)
                        outer<T, V>(
                            own.rows.data(), k, gn.data, gn.pixel, pixels, k, c_out,
                            dmatrix.of(block)
                        );
                    scatter(n, own, dx);
                }
            }
        );
        if (!done) return;
        const T* total = dmatrix.total();
        each_weight([&](Index o, Index n, Index i, Index at) {
            (n ? dtwo : done)[at] = total[(n * c_in + i) * c_out + o];
        });
    }

    void scatter(Index image, const Buffers& own, Map<T> dx) const {
        const Vector<T, V> zero = {};
        each_pixel(image, [&](Index place, Index pixel) {
            for (Index v = 0; v < c_in; v += V) {
                auto d = load<T, V>(own.drows.data() + place + v);
                if (rectify) {
                    const auto r = load<T, V>(own.rows.data() + place + v);
                    d = r > zero ? d : zero * r;  // a NaN stays one
                }
                T* to = dx.at(pixel) + v;
                store<T, V>(to, load<T, V>(to) + d);
            }
        });
    }
};

}  // namespace itnas
