// 3x3 convolutions of a ReLU by Winograd's F(2x2, 3x3): outputs in tiles of 2x2, of whose 4x4
// inputs 16 points (points.h) are each multiplied by a matrix. 16 multiplications then do what 36
// did.
#pragma once

#include <algorithm>
#include <vector>

#include "points.h"
#include "pointwise.h"

namespace itnas {

constexpr Index TILES = 64;  // that are computed together, about: their points stay in the cache

// Stride 1, a border of zeros
template <typename T, int V>
struct Winograd {
    Index images, height, width, c_in, c_out;
    Map<const T> x;
    const T* weights;  // (c out, c in, 3, 3)
    Index rows, columns, pixels;  // tiles of an image
    Index rows_each, images_each;  // that are computed together, in buffers that hold them all
    Index in_point, out_point;
    Padded in, out;

    Winograd(
        Index images, Index height, Index width, Index c_in, Index c_out, Map<const T> x,
        const T* weights
    )
        : images(images), height(height), width(width), c_in(c_in), c_out(c_out), x(x),
          weights(weights), rows((height + 1) / 2), columns((width + 1) / 2),
          pixels(height * width), rows_each(std::max<Index>(TILES / columns, 1)),
          images_each(std::max<Index>(rows_each / rows, 1)),
          in{2 * rows, 2 * columns, 1, c_in}, out{2 * rows, 2 * columns, 1, c_out} {
        rows_each = std::min(rows_each, rows * images_each);
        const Index line = 64 / Index(sizeof(T));  // or all points of a tile meet in one set
        in_point = rows_each * columns * c_in + line;
        out_point = rows_each * columns * c_out + line;
    }

    static std::vector<T> zeros(Index size) { return std::vector<T>(size, T(0)); }

    double work() const { return double(images * rows * columns * POINTS * c_in * c_out); }

    // G g G^T of the weights: (point, inputs, outputs), or (point, outputs, inputs) if `transposed`
    std::vector<T> matrices(bool transposed) const {
        const Index k = transposed ? c_out : c_in, c = transposed ? c_in : c_out;
        const Index step = transposed ? 9 * c_in : 9, side = transposed ? 9 : 9 * c_in;
        std::vector<T> to(POINTS * k * c);
        for (Index i = 0; i < k; ++i)
            for (Index o = 0; o < c; ++o) {
                const T* g = weights + i * step + o * side;
                double s[4][3];
                for (int n = 0; n < 3; ++n) {
                    const double a = g[n], b = g[3 + n], e = g[6 + n];
                    s[0][n] = a, s[1][n] = (a + b + e) / 2, s[2][n] = (a - b + e) / 2, s[3][n] = e;
                }
                T* at = &to[i * c + o];
                for (int r = 0; r < 4; ++r, at += 4 * k * c) {
                    at[0] = T(s[r][0]), at[3 * k * c] = T(s[r][2]);
                    at[k * c] = T((s[r][0] + s[r][1] + s[r][2]) / 2);
                    at[2 * k * c] = T((s[r][0] - s[r][1] + s[r][2]) / 2);
                }
            }
        return to;
    }

    // its transpose: G^T g G of (point, inputs, outputs) to (3, 3, inputs, outputs)
    void matrices_backward(const T* g, T* to) const {
        const Index size = c_in * c_out;
        for (Index v = 0; v < size; v += V) {
            Vector<T, V> s[3][4];
            const T half = T(0.5);
            for (int n = 0; n < 4; ++n) {
                const T* from = g + n * size + v;
                const auto b = load<T, V>(from + 4 * size), e = load<T, V>(from + 8 * size);
                s[0][n] = load<T, V>(from) + half * (b + e);
                s[1][n] = half * (b - e);
                s[2][n] = half * (b + e) + load<T, V>(from + 12 * size);
            }
            for (int r = 0; r < 3; ++r) {
                T* at = to + 3 * r * size + v;
                const auto sum = half * (s[r][1] + s[r][2]);
                store<T, V>(at, s[r][0] + sum);
                store<T, V>(at + size, half * (s[r][1] - s[r][2]));
                store<T, V>(at + 2 * size, sum + s[r][3]);
            }
        }
    }

    // f(first image, how many) of those that are in the buffers together
    template <typename F>
    void each_group(Index from, Index to, F f) const {
        for (Index n = from; n < to; n += images_each) f(n, std::min(images_each, to - n));
    }

    // f(first, last + 1) of the rows of tiles of so many images
    template <typename F>
    void each_rows(Index count, F f) const {
        for (Index q = 0; q < count * rows; q += rows_each)
            f(q, std::min(q + rows_each, count * rows));
    }

    // where the padded inputs of a row of tiles begin in a buffer of images
    Index place(const Padded& image, Index q) const {
        return q / rows * image.size() + q % rows * 2 * image.row();
    }

    // f(pixel of x, place in the padded buffer) of one image
    template <typename F>
    void each_pixel(Index image, F f) const {
        for (Index i = 0; i < height; ++i)
            for (Index j = 0; j < width; ++j)
                f((image * height + i) * width + j, in.interior(i) + j * c_in);
    }

    static Vector<T, V> rectified(const T* from) {
        const Vector<T, V> zero = {};
        const auto value = load<T, V>(from);
        return value < zero ? zero : value;  // keeps a NaN
    }

    // ReLU of the image into the interior of a padded buffer
    void rectify(Index image, T* to) const {
        each_pixel(image, [&](Index pixel, Index place) {
            for (Index v = 0; v < c_in; v += V)
                store<T, V>(to + place + v, rectified(x.at(pixel) + v));
        });
    }

    // own.x, rows of tiles of it, to own.points
    template <typename Buffers>
    void input_rows(Buffers& own, Index first, Index last) const {
        for (Index q = first; q < last; ++q)
            input_points<T, V>(
                &own.x[place(in, q)], in.row(), c_in, columns,
                &own.points[(q - first) * columns * c_in], in_point
            );
    }

    struct Forward {
        std::vector<T> x, points, products;
    };

    // stats: of `parts` of the outputs, (2, channels of a part) each
    void forward(Map<T> y, Index parts, double* const* stats, double epsilon) const {
        const std::vector<T> matrix = matrices(false);
        std::vector<T> moment(images * 2 * c_out);
        Blocks(images).each(
            work(),
            [&] {
                return Forward{
                    zeros(images_each * in.size()), zeros(POINTS * in_point),
                    zeros(POINTS * out_point)
                };
            },
            [&](Forward& own, Index, Index from, Index to) {
                each_group(from, to, [&](Index image, Index count) {
                    for (Index n = 0; n < count; ++n) rectify(image + n, &own.x[n * in.size()]);
                    each_rows(count, [&](Index first, Index last) {
                        convolve(own, matrix.data(), image, first, last, y);
                    });
                    for (Index n = image; n < image + count; ++n)
                        moments<T, V>(
                            {y.at(n * pixels), y.pixel}, pixels, c_out, &moment[n * 2 * c_out]
                        );
                });
            }
        );
        merge_parts(moment.data(), images, pixels, c_out, epsilon, parts, stats);
    }

    void convolve(
        Forward& own, const T* matrix, Index image, Index first, Index last, Map<T> y
    ) const {
        const Index tiles = (last - first) * columns;
        input_rows(own, first, last);
        for (int p = 0; p < POINTS; ++p)
            product<T, V>(
                &own.points[p * in_point], c_in, matrix + p * c_in * c_out, c_in, c_out,
                &own.products[p * out_point], c_out, tiles
            );
        for (Index q = first; q < last; ++q) {
            const Index top = q % rows * 2, start = (image + q / rows) * pixels + top * width;
            output_points_backward<T, V>(
                &own.products[(q - first) * columns * c_out], out_point, c_out, columns,
                [&](Index a, Index j, Index v, Vector<T, V> value) {
                    if (top + a < height && j < width)
                        store<T, V>(y.at(start + a * width + j) + v, value);
                }
            );
        }
    }

    struct Backward {
        std::vector<T> x, dx, dy, points, dpoints, dmatrix;
    };

    // dx is added to; dweights may be null
    void backward(Map<const T> y, Returned<T> parts, Map<T> dx, T* dweights) const {
        const std::vector<T> matrix = matrices(true);
        const auto norms = gradients(parts, double(images * pixels), c_out);
        const Blocks blocks(images);
        const Index size = dweights ? c_in * c_out : 0;
        Partial<T> partial(blocks, 9 * size);
        blocks.each(
            2 * work(),
            [&] {
                const Index room = images_each * in.size();
                return Backward{
                    zeros(dweights ? room : 0), zeros(room), zeros(images_each * out.size()),
                    zeros(POINTS * in_point), zeros(POINTS * out_point), zeros(POINTS * size)
                };
            },
            [&](Backward& own, Index block, Index from, Index to) {
                std::fill(own.dmatrix.begin(), own.dmatrix.end(), T(0));
                each_group(from, to, [&](Index image, Index count) {
                    for (Index n = 0; n < count; ++n) {
                        norm_gradient(norms, parts, y, image + n, &own.dy[n * out.size()]);
                        T* top = &own.dx[n * in.size()];
                        std::fill(top, top + 2 * in.row(), T(0));
                        if (dweights) rectify(image + n, &own.x[n * in.size()]);
                    }
                    each_rows(count, [&](Index first, Index last) {
                        transpose(own, matrix.data(), first, last);
                        if (dweights) correlate(own, first, last);
                    });
                    for (Index n = 0; n < count; ++n)
                        finish(image + n, &own.dx[n * in.size()], dx);
                });
                if (dweights) matrices_backward(own.dmatrix.data(), partial.of(block));
            }
        );
        if (!dweights) return;
        const T* total = partial.total();
        for (Index o = 0; o < c_out; ++o)
            for (Index i = 0; i < c_in; ++i)
                for (Index t = 0; t < 9; ++t)
                    dweights[(o * c_in + i) * 9 + t] = total[(t * c_in + i) * c_out + o];
    }

    // into the interior of a padded buffer
    void norm_gradient(
        const std::vector<NormGradient<T>>& norms, const Returned<T>& parts, Map<const T> y,
        Index image, T* dy
    ) const {
        for (Index i = 0; i < height; ++i)
            apply_norms<T, V>(
                norms, parts, y, (image * height + i) * width, width,
                {dy + out.interior(i), c_out}
            );
    }

    // the gradient of the rectified inputs, into own.dx
    void transpose(Backward& own, const T* matrix, Index first, Index last) const {
        const Index tiles = (last - first) * columns;
        for (Index q = first; q < last; ++q)
            output_points<T, V>(
                &own.dy[place(out, q) + out.interior(0)], out.row(), c_out, columns,
                &own.dpoints[(q - first) * columns * c_out], out_point
            );
        for (int p = 0; p < POINTS; ++p)
            product<T, V>(
                &own.dpoints[p * out_point], c_out, matrix + p * c_in * c_out, c_out, c_in,
                &own.points[p * in_point], c_in, tiles
            );
        for (Index q = first; q < last; ++q)
            input_points_backward<T, V>(
                &own.points[(q - first) * columns * c_in], in_point, c_in, columns,
                &own.dx[place(in, q)], in.row()
            );
    }

    // adds to own.dmatrix, from own.dpoints
    void correlate(Backward& own, Index first, Index last) const {
        const Index tiles = (last - first) * columns;
        input_rows(own, first, last);
        for (int p = 0; p < POINTS; ++p)
            outer<T, V>(
                &own.points[p * in_point], c_in, &own.dpoints[p * out_point], c_out, tiles, c_in,
                c_out, &own.dmatrix[p * c_in * c_out]
            );
    }

    // the ReLU's mask, then into dx
    void finish(Index image, const T* drectified, Map<T> dx) const {
        const Vector<T, V> zero = {};
        each_pixel(image, [&](Index pixel, Index place) {
            for (Index v = 0; v < c_in; v += V) {
                const auto r = rectified(x.at(pixel) + v);
                const auto d = load<T, V>(drectified + place + v);
                T* to = dx.at(pixel) + v;
                store<T, V>(to, load<T, V>(to) + (r > zero ? d : zero * r));  // a NaN stays one
            }
        });
    }
};

}  // namespace itnas
