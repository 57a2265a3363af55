// Depthwise convolutions of one image, channels_last.
#pragma once

#include <algorithm>

#include "vectors.h"

namespace itnas {

// R neighbouring outputs of one row; x points at the first tap of the first one
template <typename T, int V, int K, int D, int S, int R>
inline void depthwise_tile(const T* x, Index row, Index c, const T* w, T* y, Index ys) {
    for (Index v = 0; v < c; v += V) {
        Vector<T, V> sum[R] = {};
        for (int i = 0; i < K; ++i)
            for (int j = 0; j < K; ++j) {
                const auto b = load<T, V>(w + (i * K + j) * c + v);
                for (int r = 0; r < R; ++r)
                    sum[r] += load<T, V>(x + i * D * row + (r * S + j * D) * c + v) * b;
            }
        for (int r = 0; r < R; ++r) store<T, V>(y + r * ys + v, sum[r]);
    }
}

// y (height, width, c), rows of y `yrow` apart; x is the padded image at the first tap
template <typename T, int V, int K, int D, int S>
void depthwise(
    const T* x, Index row, Index c, const T* w, T* y, Index yrow, Index height, Index width
) {
    for (Index i = 0; i < height; ++i) {
        const T* from = x + i * S * row;
        T* to = y + i * yrow;
        Index j = 0;
        for (; j + 8 <= width; j += 8)
            depthwise_tile<T, V, K, D, S, 8>(from + j * S * c, row, c, w, to + j * c, c);
        for (; j + 4 <= width; j += 4)
            depthwise_tile<T, V, K, D, S, 4>(from + j * S * c, row, c, w, to + j * c, c);
        for (; j < width; ++j)
            depthwise_tile<T, V, K, D, S, 1>(from + j * S * c, row, c, w, to + j * c, c);
    }
}

// A rows of taps from `first` on
template <typename T, int V, int K, int D, int S, int A>
inline void depthwise_weights_rows(
    const T* x, Index row, Index c, const T* g, Index grow, Index height, Index width, T* w,
    int first
) {
    for (Index v = 0; v < c; v += V) {
        Vector<T, V> sum[A * K] = {};
        for (Index i = 0; i < height; ++i)
            for (Index j = 0; j < width; ++j) {
                const auto b = load<T, V>(g + i * grow + j * c + v);
                const T* from = x + (i * S + first * D) * row + j * S * c + v;
                for (int a = 0; a < A; ++a)
                    for (int e = 0; e < K; ++e)
                        sum[a * K + e] += load<T, V>(from + a * D * row + e * D * c) * b;
            }
        for (int t = 0; t < A * K; ++t) {
            T* to = w + (first * K + t) * c + v;
            store<T, V>(to, load<T, V>(to) + sum[t]);
        }
    }
}

// w[tap][c] += sum over outputs of x at the tap times g (rows of g `grow` apart)
template <typename T, int V, int K, int D, int S>
void depthwise_weights(
    const T* x, Index row, Index c, const T* g, Index grow, Index height, Index width, T* w
) {
    constexpr int A = std::min(K, (REGISTERS - 4) / K);  // as many sums as stay in registers
    int first = 0;
    for (; first + A <= K; first += A)
        depthwise_weights_rows<T, V, K, D, S, A>(x, row, c, g, grow, height, width, w, first);
    if constexpr (K % A != 0)
        depthwise_weights_rows<T, V, K, D, S, K % A>(x, row, c, g, grow, height, width, w, first);
}

// x at the tap += g w: the transpose of `depthwise`, for strides above 1
template <typename T, int V, int K, int D, int S>
void depthwise_scatter(
    T* x, Index row, Index c, const T* w, const T* g, Index grow, Index height, Index width
) {
    for (Index i = 0; i < height; ++i)
        for (Index j = 0; j < width; ++j)
            for (Index v = 0; v < c; v += V) {
                const auto b = load<T, V>(g + i * grow + j * c + v);
                for (int a = 0; a < K; ++a)
                    for (int e = 0; e < K; ++e) {
                        T* to = x + (i * S + a * D) * row + (j * S + e * D) * c + v;
                        store<T, V>(to, load<T, V>(to) + b * load<T, V>(w + (a * K + e) * c + v));
                    }
            }
}

}  // namespace itnas
