// CPU kernels of the search engine: what torch has no fast form of.
//
// A map is (images, pixels, channels) with the channels contiguous (channels_last) and a stride
// between pixels, so that it may be a slice of a wider map. Statistics are doubles. Every function
// works image by image, so that intermediate values stay in the cache, and in blocks of images,
// one thread each (blocks.h). itnas/kernels/library.py declares the functions and is the only
// caller.

#include "blocks.h"
#include "norm.h"
#include "pointwise.h"
#include "pools.h"
#include "separable.h"
#include "sums.h"
#include "winograd.h"

using namespace itnas;
using T = REAL;  // float or double, given to the compiler: one library each

extern "C" {

const char* instruction_set() { return INSTRUCTION_SET; }

void use_threads(int count) { helpers().use(count); }

// task(0) .. task(count - 1), each on one thread
void each(Index count, void (*task)(Index)) {
    std::atomic<Index> next{0};
    auto body = [&] {
        for (Index n = next++; n < count; n = next++) task(n);
    };
    helpers().run(count, body);
}

void separable(
    Index images, Index height, Index width, Index c, int kernel, int dilation, int stride,
    const T* x, Index xs, const double* input, const T* depthwise, const T* pointwise, T* y,
    Index ys, double* stats, double epsilon
) {
    with_vectors<T>(c, [&](auto v) {
        Separable<T, v()>(
            images, height, width, c, kernel, dilation, stride, {x, xs}, input, depthwise,
            pointwise
        ).forward({y, ys}, stats, epsilon);
    });
}

void separable_backward(
    Index images, Index height, Index width, Index c, int kernel, int dilation, int stride,
    const T* x, Index xs, const double* input, const T* depthwise, const T* pointwise,
    const T* y, Index ys, const double* stats, const double* sums, double weight, const T* g,
    Index gs, T* dx, Index dxs, double* input_sums, T* depth_gradient, T* point_gradient
) {
    with_vectors<T>(c, [&](auto v) {
        Separable<T, v()>(
            images, height, width, c, kernel, dilation, stride, {x, xs}, input, depthwise,
            pointwise
        ).backward({y, ys}, stats, sums, weight, {g, gs}, {dx, dxs}, input_sums,
                   depth_gradient, point_gradient);
    });
}

void pointwise(
    Index images, Index height, Index width, Index c_in, Index c_out, Index first, int rectify,
    const T* x, Index xs, const T* one, const T* two, T* y, Index ys, Index parts,
    double* const* stats, double epsilon
) {
    with_vectors<T>(c_in | (c_out / parts), [&](auto v) {
        Pointwise<T, v()>(
            images, height, width, c_in, c_out, first, rectify, {x, xs}, one, two
        ).forward({y, ys}, parts, stats, epsilon);
    });
}

void pointwise_backward(
    Index images, Index height, Index width, Index c_in, Index c_out, Index first, int rectify,
    const T* x, Index xs, const T* one, const T* two, const T* y, Index ys, Index parts,
    T* const* g, const Index* strides, double* const* stats, double* const* sums,
    const double* weights, T* dx, Index dxs, T* done, T* dtwo
) {
    with_vectors<T>(c_in | (c_out / parts), [&](auto v) {
        Pointwise<T, v()>(
            images, height, width, c_in, c_out, first, rectify, {x, xs}, one, two
        ).backward({y, ys}, {parts, g, strides, stats, sums, weights}, {dx, dxs}, done, dtwo);
    });
}

void winograd(
    Index images, Index height, Index width, Index c_in, Index c_out, const T* x, Index xs,
    const T* weights, T* y, Index ys, Index parts, double* const* stats, double epsilon
) {
    with_vectors<T>(c_in | (c_out / parts), [&](auto v) {
        Winograd<T, v()>(
            images, height, width, c_in, c_out, {x, xs}, weights
        ).forward({y, ys}, parts, stats, epsilon);
    });
}

void winograd_backward(
    Index images, Index height, Index width, Index c_in, Index c_out, const T* x, Index xs,
    const T* weights, const T* y, Index ys, Index parts, T* const* g, const Index* strides,
    double* const* stats, double* const* sums, const double* part_weights, T* dx, Index dxs,
    T* dweights
) {
    with_vectors<T>(c_in | (c_out / parts), [&](auto v) {
        Winograd<T, v()>(
            images, height, width, c_in, c_out, {x, xs}, weights
        ).backward({y, ys}, {parts, g, strides, stats, sums, part_weights}, {dx, dxs}, dweights);
    });
}

// mean and 1 / standard deviation of every channel
void measure(
    Index images, Index pixels, Index c, const T* y, Index ys, double* stats, double epsilon
) {
    std::vector<T> moment(images * 2 * c);
    with_vectors<T>(c, [&](auto v) {
        Blocks(images).each(2.0 * double(images * pixels * c), [&](Index first, Index last) {
            for (Index b = first; b < last; ++b)
                moments<T, v()>({y + b * pixels * ys, ys}, pixels, c, &moment[b * 2 * c]);
        });
    });
    merge_moments(moment.data(), images, pixels, c, epsilon, stats);
}

void norm_backward(
    Index pixels, Index c, const T* g, Index gs, const T* y, Index ys, const double* stats,
    const double* sums, double weight, double count, T* dy, Index dys
) {
    const NormGradient<T> norm(stats, sums, weight, count, c);
    with_vectors<T>(c, [&](auto v) {
        Blocks(pixels).each(2.0 * double(pixels * c), [&](Index first, Index last) {
            norm.template apply<v()>(
                {g + first * gs, gs}, {y + first * ys, ys}, {dy + first * dys, dys}, last - first
            );
        });
    });
}

void combine(
    Index images, Index pixels, Index c, Index targets, const Index* starts, T* const* y,
    const Index* strides, double* const* stats, const double* weights, T* const* out,
    const Index* out_strides, int add
) {
    with_vectors<T>(c, [&](auto v) {
        combine<T, v()>(
            images, pixels, c, {targets, starts, y, strides, stats}, weights, out,
            out_strides, add
        );
    });
}

void combine_sums(
    Index images, Index pixels, Index c, Index targets, const Index* starts, T* const* y,
    const Index* strides, double* const* stats, T* const* g, const Index* g_strides,
    double* sums
) {
    with_vectors<T>(c, [&](auto v) {
        combine_sums<T, v()>(
            images, pixels, c, {targets, starts, y, strides, stats}, g, g_strides, sums
        );
    });
}

void pool(
    Index images, Index height, Index width, Index c, int maximum, int stride, const T* x,
    Index xs, T* y, Index ys, double* stats, double epsilon
) {
    with_vectors<T>(c, [&](auto v) {
        pool<T, v()>(
            images, height, width, c, maximum, stride, {x, xs}, {y, ys}, stats, epsilon
        );
    });
}

void pool_backward(
    Index images, Index height, Index width, Index c, int maximum, int stride, const T* x,
    Index xs, const T* dy, Index dys, T* dx, Index dxs
) {
    with_vectors<T>(c, [&](auto v) {
        pool_backward<T, v()>(
            images, height, width, c, maximum, stride, {x, xs}, {dy, dys}, {dx, dxs}
        );
    });
}

}  // extern "C"
