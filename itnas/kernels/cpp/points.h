// The transforms of Winograd's F(2x2, 3x3) (Lavin and Gray, arXiv 1509.09308): of 4x4 inputs of a
// tile, and of its 2x2 outputs, 16 sums and differences each, the *points*.
#pragma once

#include "vectors.h"

namespace itnas {

constexpr int POINTS = 16;

// The transforms below are of one row of tiles and go along it channel vector by channel vector;
// `point` elements lie between one point of a tile and the next.

// B^T d B: the points of padded inputs (4 rows, tiles * 2 + 2, c), rows `row` apart
template <typename T, int V>
void input_points(const T* d, Index row, Index c, Index tiles, T* to, Index point) {
    for (Index v = 0; v < c; v += V) {
        Vector<T, V> s[4][4];  // two columns are the next tile's too
        auto column = [&](int n, Index j) {
            const T* from = d + j * c + v;
            const auto a = load<T, V>(from), b = load<T, V>(from + row);
            const auto e = load<T, V>(from + 2 * row), f = load<T, V>(from + 3 * row);
            s[0][n] = a - e, s[1][n] = b + e, s[2][n] = e - b, s[3][n] = b - f;
        };
        column(0, 0), column(1, 1);
        for (Index j = 0; j < tiles; ++j) {
            column(2, 2 * j + 2), column(3, 2 * j + 3);
            T* at = to + j * c + v;
            for (int r = 0; r < 4; ++r, at += 4 * point) {
                store<T, V>(at, s[r][0] - s[r][2]);
                store<T, V>(at + point, s[r][1] + s[r][2]);
                store<T, V>(at + 2 * point, s[r][2] - s[r][1]);
                store<T, V>(at + 3 * point, s[r][1] - s[r][3]);
                s[r][0] = s[r][2], s[r][1] = s[r][3];
            }
        }
    }
}

// its transpose, B m B^T, added to the first two rows and written to the others
template <typename T, int V>
void input_points_backward(const T* m, Index point, Index c, Index tiles, T* d, Index row) {
    for (Index v = 0; v < c; v += V) {
        Vector<T, V> left[4][2] = {};  // what the tile before adds to the first two columns
        auto put = [&](int r, int n, Index j, Vector<T, V> value) {
            T* to = d + r * row + (2 * j + n) * c + v;
            value += left[r][n];
            store<T, V>(to, r < 2 ? load<T, V>(to) + value : value);
        };
        for (Index j = 0; j < tiles; ++j) {
            Vector<T, V> s[4][4];
            for (int n = 0; n < 4; ++n) {
                const T* from = m + n * point + j * c + v;
                const auto a = load<T, V>(from), b = load<T, V>(from + 4 * point);
                const auto e = load<T, V>(from + 8 * point), f = load<T, V>(from + 12 * point);
                s[0][n] = a, s[1][n] = b - e + f, s[2][n] = b + e - a, s[3][n] = -f;
            }
            for (int r = 0; r < 4; ++r) {
                put(r, 0, j, s[r][0]);
                put(r, 1, j, s[r][1] - s[r][2] + s[r][3]);
                left[r][0] = s[r][1] + s[r][2] - s[r][0], left[r][1] = -s[r][3];
            }
        }
        for (int r = 0; r < 4; ++r)
            for (int n = 0; n < 2; ++n) put(r, n, tiles, Vector<T, V>{});
    }
}

// A^T m A: pixel (a, b) of tile j is put(a, 2j + b, channel, value)
template <typename T, int V, typename F>
void output_points_backward(const T* m, Index point, Index c, Index tiles, F put) {
    for (Index j = 0; j < tiles; ++j)
        for (Index v = 0; v < c; v += V) {
            Vector<T, V> s[2][4];
            for (int n = 0; n < 4; ++n) {
                const T* from = m + n * point + j * c + v;
                const auto b = load<T, V>(from + 4 * point), e = load<T, V>(from + 8 * point);
                s[0][n] = load<T, V>(from) + b + e;
                s[1][n] = b - e - load<T, V>(from + 12 * point);
            }
            for (int a = 0; a < 2; ++a) {
                put(a, 2 * j, v, s[a][0] + s[a][1] + s[a][2]);
                put(a, 2 * j + 1, v, s[a][1] - s[a][2] - s[a][3]);
            }
        }
}

// its transpose, A d A^T, of (2 rows, tiles * 2, c)
template <typename T, int V>
void output_points(const T* d, Index row, Index c, Index tiles, T* to, Index point) {
    for (Index j = 0; j < tiles; ++j)
        for (Index v = 0; v < c; v += V) {
            const T* from = d + 2 * j * c + v;
            Vector<T, V> s[4][2];
            for (int n = 0; n < 2; ++n) {
                const auto a = load<T, V>(from + n * c), b = load<T, V>(from + row + n * c);
                s[0][n] = a, s[1][n] = a + b, s[2][n] = a - b, s[3][n] = -b;
            }
            T* at = to + j * c + v;
            for (int r = 0; r < 4; ++r, at += 4 * point) {
                store<T, V>(at, s[r][0]);
                store<T, V>(at + point, s[r][0] + s[r][1]);
                store<T, V>(at + 2 * point, s[r][0] - s[r][1]);
                store<T, V>(at + 3 * point, -s[r][1]);
            }
        }
}

}  // namespace itnas
