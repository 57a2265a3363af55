// Small matrix products, so tiled that the sums stay in registers.
#pragma once

#include "vectors.h"

namespace itnas {

constexpr int WIDEST = REGISTERS >= 32 ? 4 : 2;  // vectors of columns that are taken together

// y[r][n] = sum over k of x[r][k] w[k][n], for R rows and N vectors of columns
template <typename T, int V, int R, int N>
inline void product_tile(const T* x, Index xs, const T* w, Index k, Index ws, T* y, Index ys) {
    Vector<T, V> sum[R][N] = {};
    for (Index i = 0; i < k; ++i) {
        Vector<T, V> b[N];
        for (int n = 0; n < N; ++n) b[n] = load<T, V>(w + i * ws + n * V);
        for (int r = 0; r < R; ++r)
            for (int n = 0; n < N; ++n) sum[r][n] += x[r * xs + i] * b[n];
    }
    for (int r = 0; r < R; ++r)
        for (int n = 0; n < N; ++n) store<T, V>(y + r * ys + n * V, sum[r][n]);
}

// calls f with how many vectors of columns to take together, as a constant, and the first column
template <int V, int N = WIDEST, typename F>
inline void by_columns(Index c, F f, Index n = 0) {
    for (; n + N * V <= c; n += N * V) f(Constant<N>(), n);
    if constexpr (N > 1) by_columns<V, N / 2>(c, f, n);
}

// the same for rows, so many that N vectors of columns each stay in registers
template <int N, typename F>
inline void by_rows(Index rows, F f) {
    constexpr int R = N == 1 ? 8 : 6;
    Index r = 0;
    for (; r + R <= rows; r += R) f(Constant<R>(), r);
    if (r + 4 <= rows) f(Constant<4>(), r), r += 4;
    for (; r + 2 <= rows; r += 2) f(Constant<2>(), r);
    for (; r < rows; ++r) f(Constant<1>(), r);
}

// (rows, k) times (k, columns) -> (rows, columns)
template <typename T, int V>
void product(const T* x, Index xs, const T* w, Index k, Index columns, T* y, Index ys, Index rows) {
    by_columns<V>(columns, [&](auto vectors, Index n) {
        by_rows<vectors()>(rows, [&](auto height, Index r) {
            product_tile<T, V, height(), vectors()>(
                x + r * xs, xs, w + n, k, columns, y + r * ys + n, ys
            );
        });
    });
}

// w[k][n] += sum over rows of x[row][k] y[row][n], for R of the k and N vectors of the n
template <typename T, int V, int R, int N>
inline void outer_tile(
    const T* x, Index xs, const T* y, Index ys, Index rows, Index columns, T* w
) {
    Vector<T, V> sum[R][N] = {};
    for (Index p = 0; p < rows; ++p) {
        Vector<T, V> b[N];
        for (int n = 0; n < N; ++n) b[n] = load<T, V>(y + p * ys + n * V);
        for (int r = 0; r < R; ++r)
            for (int n = 0; n < N; ++n) sum[r][n] += x[p * xs + r] * b[n];
    }
    for (int r = 0; r < R; ++r)
        for (int n = 0; n < N; ++n) {
            T* to = w + r * columns + n * V;
            store<T, V>(to, load<T, V>(to) + sum[r][n]);
        }
}

// (rows, k) transposed times (rows, columns), added to (k, columns)
template <typename T, int V>
void outer(
    const T* x, Index xs, const T* y, Index ys, Index rows, Index k, Index columns, T* w
) {
    by_columns<V>(columns, [&](auto vectors, Index n) {
        by_rows<vectors()>(k, [&](auto height, Index i) {
            outer_tile<T, V, height(), vectors()>(
                x + i, xs, y + n, ys, rows, columns, w + i * columns + n
            );
        });
    });
}

}  // namespace itnas
