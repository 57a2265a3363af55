// Batch norm: statistics, and the gradient as an affine form.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "blocks.h"

namespace itnas {

constexpr Index CHUNK = 32;  // pixels that are still in the first cache when the next channels come

// Mean (c) and sum of squared deviations (c) of one image, two-pass
template <typename T, int V>
void moments(Map<const T> y, Index pixels, Index c, T* to) {
    for (Index v = 0; v < c; v += V) {
        Vector<T, V> sums[4] = {}, squares[4] = {};
        Index p = 0;
        for (; p + 4 <= pixels; p += 4)
            for (int n = 0; n < 4; ++n) sums[n] += load<T, V>(y.at(p + n) + v);
        for (; p < pixels; ++p) sums[0] += load<T, V>(y.at(p) + v);
        const auto mean = ((sums[0] + sums[1]) + (sums[2] + sums[3])) / T(pixels);
        auto deviate = [&](Vector<T, V>& sum, Index at) {
            const auto d = load<T, V>(y.at(at) + v) - mean;
            sum += d * d;
        };
        for (p = 0; p + 4 <= pixels; p += 4)
            for (int n = 0; n < 4; ++n) deviate(squares[n], p + n);
        for (; p < pixels; ++p) deviate(squares[0], p);
        store<T, V>(to + v, mean);
        store<T, V>(to + c + v, (squares[0] + squares[1]) + (squares[2] + squares[3]));
    }
}

// Mean (c) and 1 / standard deviation (c) of all images from the moments of each, (images, 2, c),
// in their order (Chan's update)
template <typename T>
void merge_moments(
    const T* moments, Index images, Index pixels, Index c, double epsilon, double* stats
) {
    std::fill(stats, stats + 2 * c, 0.0);
    double *mean = stats, *square = stats + c;
    for (Index b = 0; b < images; ++b, moments += 2 * c) {
        const double before = double(b * pixels), total = before + double(pixels);
        const double share = double(pixels) / total;
        for (Index n = 0; n < c; ++n) {
            const double delta = double(moments[n]) - mean[n];
            mean[n] += delta * share;
            square[n] += double(moments[c + n]) + delta * delta * before * share;
        }
    }
    const double count = double(images * pixels);
    for (Index n = 0; n < c; ++n) square[n] = 1.0 / std::sqrt(square[n] / count + epsilon);
}

// The gradient of a batch norm's input as an affine form, dy = a g + b y + d per channel
template <typename T>
struct NormGradient {
    std::vector<T> a, b, d;

    // sums: of g (c) and of g times the normalised y (c), over `count` pixels
    NormGradient(const double* stats, const double* sums, double weight, double count, Index c)
        : a(c), b(c), d(c) {
        for (Index n = 0; n < c; ++n) {
            const double mean = stats[n], scale = stats[c + n];
            const double slope = scale * sums[c + n] / count;
            a[n] = T(weight * scale);
            b[n] = T(-weight * scale * slope);
            d[n] = T(-weight * scale * (sums[n] / count - mean * slope));
        }
    }

    Index channels() const { return Index(a.size()); }

    // of V channels from n on
    template <int V>
    Vector<T, V> at(Vector<T, V> g, Vector<T, V> y, Index n) const {
        return load<T, V>(&a[n]) * g + load<T, V>(&b[n]) * y + load<T, V>(&d[n]);
    }

    template <int V>
    void apply(Map<const T> g, Map<const T> y, Map<T> dy, Index pixels) const {
        const Index c = channels();
        for (Index start = 0; start < pixels; start += CHUNK)
            for (Index v = 0; v < c; v += V) {
                const auto av = load<T, V>(&a[v]), bv = load<T, V>(&b[v]), dv = load<T, V>(&d[v]);
                for (Index p = start; p < std::min(start + CHUNK, pixels); ++p)
                    store<T, V>(
                        dy.at(p) + v,
                        av * load<T, V>(g.at(p) + v) + bv * load<T, V>(y.at(p) + v) + dv
                    );
            }
    }
};

}  // namespace itnas
