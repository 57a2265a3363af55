// ReLU, depthwise convolution, pointwise convolution, statistics of the result: one pass.
#pragma once

#include <algorithm>
#include <vector>

#include "depthwise.h"
#include "norm.h"
#include "products.h"

namespace itnas {

template <typename T, int V>
struct Separable {
    Index images, height, width, c;
    int kernel, dilation, stride;
    Map<const T> x;
    const double* input;  // statistics of x, which is normalised first; null: taken as it is
    std::vector<T> depth, flipped, point, transposed;  // [tap][c], [c in][c out]
    std::vector<T> scale, shift;
    Padded padded;
    Index out_height, out_width;

    static constexpr int WIDE = VECTOR_BYTES / int(sizeof(T));
    bool rows;  // a vector holds several pixels of a row
    std::vector<T> wide_depth, wide_flipped;  // [tap][WIDE]

    Separable(
        Index images, Index height, Index width, Index c, int kernel, int dilation, int stride,
        Map<const T> x, const double* input, const T* depthwise, const T* pointwise
    )
        : images(images), height(height), width(width), c(c), kernel(kernel), dilation(dilation),
          stride(stride), x(x), input(input), depth(kernel * kernel * c), flipped(depth.size()),
          point(c * c), transposed(pointwise, pointwise + c * c), scale(c, T(1)), shift(c, T(0)) {
        const int taps = kernel * kernel;
        for (int t = 0; t < taps; ++t)
            for (Index n = 0; n < c; ++n) {
                depth[t * c + n] = depthwise[n * taps + t];
                flipped[(taps - 1 - t) * c + n] = depthwise[n * taps + t];
            }
        for (Index o = 0; o < c; ++o)
            for (Index i = 0; i < c; ++i) point[i * c + o] = pointwise[o * c + i];
        if (input)
            for (Index n = 0; n < c; ++n) {
                scale[n] = T(input[c + n]);
                shift[n] = T(-input[n] * input[c + n]);
            }
        padded = {height, width, dilation * (kernel / 2), c};
        out_height = (height - 1) / stride + 1;
        out_width = (width - 1) / stride + 1;
        rows = c < WIDE && WIDE % c == 0 && stride == 1 && width * c % WIDE == 0;
        if (rows) {
            wide_depth = repeated<T, WIDE>(depth, c);
            wide_flipped = repeated<T, WIDE>(flipped, c);
        }
    }

    static std::vector<T> zeros(Index size) { return std::vector<T>(size, T(0)); }

    // multiplications of a forward pass
    double work() const {
        return double(images * out_height * out_width * c) * double(kernel * kernel + c);
    }

    // calls f with kernel, dilation and stride as constants
    template <typename F>
    void dispatch(F f) const {
        auto strided = [&](auto k, auto d) {
            if (stride == 1) f(k, d, Constant<1>());
            else f(k, d, Constant<2>());
        };
        auto dilated = [&](auto k) {
            if (dilation == 1) strided(k, Constant<1>());
            else strided(k, Constant<2>());
        };
        if (kernel == 3) dilated(Constant<3>());
        else dilated(Constant<5>());
    }

    // ReLU of the (normalised) image into the interior of a padded buffer
    void rectify(Index image, T* buffer) const {
        Vector<T, V> zero = {};
        for (Index i = 0; i < height; ++i) {
            T* to = buffer + padded.interior(i);
            for (Index j = 0; j < width; ++j) {
                const T* from = x.at((image * height + i) * width + j);
                for (Index v = 0; v < c; v += V) {
                    auto value = load<T, V>(from + v);
                    if (input) value = value * load<T, V>(&scale[v]) + load<T, V>(&shift[v]);
                    store<T, V>(to + j * c + v, value < zero ? zero : value);  // keeps a NaN
                }
            }
        }
    }

    void convolve(const T* rectified, T* to) const {
        dispatch([&](auto k, auto d, auto s) {
            if (rows)
                depthwise_rows<T, WIDE, k(), d()>(
                    rectified, padded.row(), c, wide_depth.data(), to, out_width * c, out_height,
                    out_width
                );
            else
                depthwise<T, V, k(), d(), s()>(
                    rectified, padded.row(), c, depth.data(), to, out_width * c, out_height,
                    out_width
                );
        });
    }

    // buffers of a thread
    struct Forward {
        std::vector<T> rectified, deep;
    };

    void forward(Map<T> y, double* stats, double epsilon) const {
        const Index pixels = out_height * out_width;
        std::vector<T> moment(images * 2 * c);
        Blocks(images).each(
            work(), [&] { return Forward{zeros(padded.size()), std::vector<T>(pixels * c)}; },
            [&](Forward& own, Index, Index first, Index last) {
                for (Index n = first; n < last; ++n) {
                    rectify(n, own.rectified.data());
                    convolve(own.rectified.data(), own.deep.data());
                    T* to = y.at(n * pixels);
                    product<T, V>(own.deep.data(), c, point.data(), c, c, to, y.pixel, pixels);
                    moments<T, V>({to, y.pixel}, pixels, c, &moment[n * 2 * c]);
                }
            }
        );
        merge_moments(moment.data(), images, pixels, c, epsilon, stats);
    }

    struct Backward {
        std::vector<T> rectified, dy, deep, ddeep, drectified;
    };

    // g: gradient of the weighted, normalised y. dx: added to (x as it is) or written, with its
    // sums (x normalised here). Gradients of the weights, in the layout of the weights: may be null.
    void backward(
        Map<const T> y, const double* stats, const double* sums, double weight, Map<const T> g,
        Map<T> dx, double* input_sums, T* depth_gradient, T* point_gradient
    ) const {
        const Index pixels = out_height * out_width, taps = kernel * kernel;
        const NormGradient<T> norm(stats, sums, weight, double(images * pixels), c);
        const Padded around{out_height, out_width, padded.border, c};
        const bool gather = stride == 1;
        const Index grow = gather ? around.row() : out_width * c;  // rows of ddeep
        const Blocks blocks(images);
        Partial<T> dpoint(blocks, point_gradient ? c * c : 0);
        Partial<T> ddepth(blocks, point_gradient ? taps * c : 0);
        Partial<double> total(blocks, input_sums ? 2 * c : 0);
        blocks.each(
            3 * work(),
            [&] {
                return Backward{
                    zeros(padded.size()), std::vector<T>(pixels * c), std::vector<T>(pixels * c),
                    zeros(gather ? around.size() : pixels * c),
                    std::vector<T>(gather ? height * width * c : padded.size())
                };
            },
            [&](Backward& own, Index block, Index first, Index last) {
                T* dfirst = own.ddeep.data() + (gather ? around.interior(0) : 0);
                for (Index n = first; n < last; ++n) {
                    norm.template apply<V>(
                        {g.at(n * pixels), g.pixel}, {y.at(n * pixels), y.pixel},
                        {own.dy.data(), c}, pixels
                    );
                    for (Index i = 0; i < out_height; ++i)
                        product<T, V>(
                            own.dy.data() + i * out_width * c, c, transposed.data(), c, c,
                            dfirst + i * grow, c, out_width
                        );
                    rectify(n, own.rectified.data());
                    if (point_gradient)
                        weights(own, dfirst, grow, dpoint.of(block), ddepth.of(block));
                    transpose(own, dfirst, grow);
                    finish_image(
                        n, own.rectified.data(), own.drectified.data(), gather, dx,
                        total.of(block)
                    );
                }
            }
        );
        if (input_sums) std::copy_n(total.total(), 2 * c, input_sums);
        if (!point_gradient) return;
        const T *point_sum = dpoint.total(), *depth_sum = ddepth.total();
        for (Index o = 0; o < c; ++o)
            for (Index i = 0; i < c; ++i) point_gradient[o * c + i] = point_sum[i * c + o];
        for (Index t = 0; t < taps; ++t)
            for (Index n = 0; n < c; ++n) depth_gradient[n * taps + t] = depth_sum[t * c + n];
    }

    // one image's part of the weights' gradients
    void weights(Backward& own, const T* dfirst, Index grow, T* dpoint, T* ddepth) const {
        convolve(own.rectified.data(), own.deep.data());
        outer<T, V>(
            own.deep.data(), c, own.dy.data(), c, out_height * out_width, c, c, dpoint
        );
        dispatch([&](auto k, auto d, auto s) {
            if (rows)
                depthwise_weights_of_rows<T, WIDE, k(), d()>(
                    own.rectified.data(), padded.row(), c, dfirst, grow, out_height, out_width,
                    ddepth
                );
            else
                depthwise_weights<T, V, k(), d(), s()>(
                    own.rectified.data(), padded.row(), c, dfirst, grow, out_height, out_width,
                    ddepth
                );
        });
    }

    // the gradient of the rectified image
    void transpose(Backward& own, const T* dfirst, Index grow) const {
        if (stride != 1) std::fill(own.drectified.begin(), own.drectified.end(), T(0));
        dispatch([&](auto k, auto d, auto s) {
            if (rows)
                depthwise_rows<T, WIDE, k(), d()>(
                    own.ddeep.data(), grow, c, wide_flipped.data(), own.drectified.data(),
                    width * c, height, width
                );
            else if constexpr (s() == 1)
                depthwise<T, V, k(), d(), 1>(
                    own.ddeep.data(), grow, c, flipped.data(), own.drectified.data(), width * c,
                    height, width
                );
            else
                depthwise_scatter<T, V, k(), d(), s()>(
                    own.drectified.data(), padded.row(), c, depth.data(), dfirst, grow, out_height,
                    out_width
                );
        });
    }

    // the ReLU's mask, then into dx
    void finish_image(
        Index image, const T* rectified, const T* drectified, bool dense, Map<T> dx, double* total
    ) const {
        const Vector<T, V> zero = {};
        for (Index v = 0; v < c; v += V) {
            Vector<T, V> sum = {}, product = {};
            const auto a = load<T, V>(&scale[v]), b = load<T, V>(&shift[v]);
            for (Index i = 0; i < height; ++i)
                for (Index j = 0; j < width; ++j) {
                    const Index inside = padded.interior(i) + j * c + v;
                    const auto r = load<T, V>(rectified + inside);
                    auto d = load<T, V>(drectified + (dense ? (i * width + j) * c + v : inside));
                    d = r > zero ? d : zero * r;  // a NaN stays one
                    const Index pixel = (image * height + i) * width + j;
                    T* to = dx.at(pixel) + v;
                    if (input) {
                        sum += d;
                        product += d * (load<T, V>(x.at(pixel) + v) * a + b);
                        store<T, V>(to, d);
                    } else {
                        store<T, V>(to, load<T, V>(to) + d);
                    }
                }
            if (input)
                for (int n = 0; n < V; ++n) {
                    total[v + n] += double(sum[n]);
                    total[c + v + n] += double(product[n]);
                }
        }
    }
};

}  // namespace itnas
