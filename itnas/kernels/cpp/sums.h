// Weighted sums of maps, and the sums over pixels that their gradients need.
#pragma once

#include <algorithm>
#include <vector>

#include "norm.h"

namespace itnas {

// Terms of several targets: those of target t are starts[t] .. starts[t + 1] - 1
template <typename T>
struct Terms {
    Index targets;
    const Index* starts;
    T* const* y;
    const Index* strides;
    double* const* stats;  // null: the map as it is
    Index count() const { return starts[targets]; }
};

// R neighbouring pixels of one target
template <typename T, int V, int R>
inline void combine_pixels(
    Index p, Index v, Index c, const Terms<T>& terms, Index t, const T* scale, const T* shift,
    T* out, Index stride, bool add
) {
    Vector<T, V> sum[R];
    T* to = out + p * stride + v;
    for (int r = 0; r < R; ++r) {
        sum[r] = load<T, V>(shift);
        if (add) sum[r] += load<T, V>(to + r * stride);
    }
    for (Index m = terms.starts[t]; m < terms.starts[t + 1]; ++m) {
        const T* y = terms.y[m] + p * terms.strides[m] + v;
        const auto a = load<T, V>(scale + m * c);
        for (int r = 0; r < R; ++r) sum[r] += a * load<T, V>(y + r * terms.strides[m]);
    }
    for (int r = 0; r < R; ++r) store<T, V>(to + r * stride, sum[r]);
}

// per target: out (+)= sum over its terms of weight * normalised y
template <typename T, int V>
void combine(
    Index images, Index pixels, Index c, Terms<T> terms, const double* weights, T* const* out,
    const Index* out_strides, bool add
) {
    std::vector<T> scale(terms.count() * c), shift(terms.targets * c);
    for (Index t = 0; t < terms.targets; ++t)
        for (Index n = 0; n < c; ++n) {
            double offset = 0.0;
            for (Index m = terms.starts[t]; m < terms.starts[t + 1]; ++m) {
                const double* stats = terms.stats[m];
                const double a = stats ? weights[m] * stats[c + n] : weights[m];
                scale[m * c + n] = T(a);
                if (stats) offset -= a * stats[n];
            }
            shift[t * c + n] = T(offset);
        }
    const double work = double(images * pixels * c) * double(terms.count());
    Blocks(images).each(work, [&](Index first, Index last) {
        for (Index start = first * pixels; start < last * pixels; start += CHUNK) {
            const Index stop = std::min(start + CHUNK, last * pixels);
            for (Index t = 0; t < terms.targets; ++t)
                for (Index v = 0; v < c; v += V) {
                    const T *a = &scale[v], *b = &shift[t * c + v];
                    const Index stride = out_strides[t];
                    Index p = start;
                    for (; p + 4 <= stop; p += 4)
                        combine_pixels<T, V, 4>(p, v, c, terms, t, a, b, out[t], stride, add);
                    for (; p < stop; ++p)
                        combine_pixels<T, V, 1>(p, v, c, terms, t, a, b, out[t], stride, add);
                }
        }
    });
}

// per term: sums of its target's g (c) and of g times the normalised y (c)
template <typename T, int V>
void combine_sums(
    Index images, Index pixels, Index c, Terms<T> terms, T* const* g, const Index* g_strides,
    double* sums
) {
    const Index size = terms.count() * 2 * c;
    std::vector<T> centre(terms.count() * c, T(0));
    for (Index m = 0; m < terms.count(); ++m)
        if (terms.stats[m])
            for (Index n = 0; n < c; ++n) centre[m * c + n] = T(terms.stats[m][n]);
    const Blocks blocks(images);
    Partial<double> partial(blocks, size);
    const double work = double(images * pixels * c) * double(terms.count());
    blocks.each(work, [] { return 0; }, [&](int, Index block, Index first, Index last) {
        for (Index b = first; b < last; ++b)
            for (Index t = 0; t < terms.targets; ++t) {
                const Map<const T> gt{g[t] + b * pixels * g_strides[t], g_strides[t]};
                for (Index v = 0; v < c; v += V) {
                    Vector<T, V> total[4] = {};
                    Index p = 0;
                    for (; p + 4 <= pixels; p += 4)
                        for (int n = 0; n < 4; ++n) total[n] += load<T, V>(gt.at(p + n) + v);
                    for (; p < pixels; ++p) total[0] += load<T, V>(gt.at(p) + v);
                    total[0] = (total[0] + total[1]) + (total[2] + total[3]);
                    for (Index m = terms.starts[t]; m < terms.starts[t + 1]; ++m) {
                        const Index stride = terms.strides[m];
                        const T* y = terms.y[m] + b * pixels * stride + v;
                        const auto mean = load<T, V>(&centre[m * c + v]);
                        Vector<T, V> sum[4] = {};
                        for (p = 0; p + 4 <= pixels; p += 4)
                            for (int n = 0; n < 4; ++n)
                                sum[n] += load<T, V>(gt.at(p + n) + v) *
                                          (load<T, V>(y + (p + n) * stride) - mean);
                        for (; p < pixels; ++p)
                            sum[0] +=
                                load<T, V>(gt.at(p) + v) * (load<T, V>(y + p * stride) - mean);
                        sum[0] = (sum[0] + sum[1]) + (sum[2] + sum[3]);
                        double* to = partial.of(block) + m * 2 * c + v;
                        for (int n = 0; n < V; ++n) {
                            to[n] += double(total[0][n]);
                            to[c + n] += double(sum[0][n]);
                        }
                    }
                }
            }
    });
    std::copy_n(partial.total(), size, sums);
    for (Index m = 0; m < terms.count(); ++m)
        if (terms.stats[m])
            for (Index n = 0; n < c; ++n) sums[(2 * m + 1) * c + n] *= terms.stats[m][c + n];
}

}  // namespace itnas
