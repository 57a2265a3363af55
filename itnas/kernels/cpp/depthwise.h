// Depthwise convolutions of one image, channels_last.
#pragma once

#include <algorithm>
#include <vector>

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

// ---- few channels, stride 1: a vector holds several pixels of a row -------------------------

// Weights of a tap (c) repeated so that they fill a vector: [tap][V]
template <typename T, int V>
std::vector<T> repeated(const std::vector<T>& w, Index c) {
    std::vector<T> to(w.size() / c * V);
    for (Index n = 0; n < Index(to.size()); ++n) to[n] = w[n / V * c + n % c];
    return to;
}

// ROWS rows of N vectors each
template <typename T, int V, int K, int D, int ROWS, int N>
inline void row_tile(const T* x, Index row, Index c, const T* w, T* y, Index yrow) {
    Vector<T, V> sum[ROWS][N] = {};
    for (int i = 0; i < K; ++i)
        for (int j = 0; j < K; ++j) {
            const auto b = load<T, V>(w + (i * K + j) * V);
            for (int r = 0; r < ROWS; ++r)
                for (int n = 0; n < N; ++n)
                    sum[r][n] += load<T, V>(x + (i * D + r) * row + j * D * c + n * V) * b;
        }
    for (int r = 0; r < ROWS; ++r)
        for (int n = 0; n < N; ++n) store<T, V>(y + r * yrow + n * V, sum[r][n]);
}

// like `depthwise`; a row has a multiple of V values
template <typename T, int V, int K, int D>
void depthwise_rows(
    const T* x, Index row, Index c, const T* w, T* y, Index yrow, Index height, Index width
) {
    auto rows = [&](auto count, Index i) {
        Index n = 0;
        for (; n + 2 * V <= width * c; n += 2 * V)
            row_tile<T, V, K, D, count(), 2>(x + i * row + n, row, c, w, y + i * yrow + n, yrow);
        for (; n < width * c; n += V)
            row_tile<T, V, K, D, count(), 1>(x + i * row + n, row, c, w, y + i * yrow + n, yrow);
    };
    Index i = 0;
    for (; i + 4 <= height; i += 4) rows(Constant<4>(), i);
    for (; i < height; ++i) rows(Constant<1>(), i);
}

template <typename T, int V, int K, int D, int A>
inline void weights_rows(
    const T* x, Index row, Index c, const T* g, Index grow, Index height, Index width, T* w,
    int first
) {
    Vector<T, V> sum[A * K] = {};
    for (Index i = 0; i < height; ++i)
        for (Index n = 0; n < width * c; n += V) {
            const auto b = load<T, V>(g + i * grow + n);
            const T* from = x + (i + first * D) * row + n;
            for (int a = 0; a < A; ++a)
                for (int e = 0; e < K; ++e)
                    sum[a * K + e] += load<T, V>(from + a * D * row + e * D * c) * b;
        }
    for (int t = 0; t < A * K; ++t)
        for (int lane = 0; lane < V; ++lane) w[(first * K + t) * c + lane % c] += sum[t][lane];
}

// like `depthwise_weights`
template <typename T, int V, int K, int D>
void depthwise_weights_of_rows(
    const T* x, Index row, Index c, const T* g, Index grow, Index height, Index width, T* w
) {
    constexpr int A = std::min(K, (REGISTERS - 4) / K);
    int first = 0;
    for (; first + A <= K; first += A)
        weights_rows<T, V, K, D, A>(x, row, c, g, grow, height, width, w, first);
    if constexpr (K % A != 0)
        weights_rows<T, V, K, D, K % A>(x, row, c, g, grow, height, width, w, first);
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
