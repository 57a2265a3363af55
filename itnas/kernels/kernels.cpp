// CPU kernels of the search engine: what torch has no fast form of on one core.
//
// A map is (images, pixels, channels) with the channels contiguous (channels_last) and a stride
// between pixels, so that it may be a slice of a wider map. Statistics are doubles. Every
// function works image by image, so that intermediate values stay in the cache.
// itnas/native.py declares the functions and is the only caller.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

namespace {

using Index = std::int64_t;

// V values of T, added and multiplied together; unaligned
template <typename T, int V>
struct Lane {
    typedef T type __attribute__((vector_size(V * sizeof(T)), aligned(sizeof(T)), may_alias));
};

template <typename T, int V>
inline typename Lane<T, V>::type load(const T* p) {
    return *reinterpret_cast<const typename Lane<T, V>::type*>(p);
}

template <typename T, int V>
inline void store(T* p, typename Lane<T, V>::type v) {
    *reinterpret_cast<typename Lane<T, V>::type*>(p) = v;
}

// A map's view: `pixel` elements from one pixel to the next
template <typename T>
struct Map {
    T* data;
    Index pixel;
    T* at(Index n) const { return data + n * pixel; }
};

// Zero-bordered copy of one image: (H + 2p, W + 2p, C)
struct Padded {
    Index height, width, border, channels;
    Index row() const { return (width + 2 * border) * channels; }
    Index size() const { return (height + 2 * border) * row(); }
    Index interior(Index i) const { return (i + border) * row() + border * channels; }
};

// ---- matrix products -----------------------------------------------------------------------

// y[r][n] = sum over k of x[r][k] w[k][n], for R rows and N vectors of columns
template <typename T, int V, int R, int N>
inline void product_tile(const T* x, Index xs, const T* w, Index k, Index ws, T* y, Index ys) {
    typename Lane<T, V>::type sum[R][N] = {};
    for (Index i = 0; i < k; ++i) {
        typename Lane<T, V>::type b[N];
        for (int n = 0; n < N; ++n) b[n] = load<T, V>(w + i * ws + n * V);
        for (int r = 0; r < R; ++r)
            for (int n = 0; n < N; ++n) sum[r][n] += x[r * xs + i] * b[n];
    }
    for (int r = 0; r < R; ++r)
        for (int n = 0; n < N; ++n) store<T, V>(y + r * ys + n * V, sum[r][n]);
}

// calls f with how many vectors of columns to take together, as a constant, and the first column
template <int V, typename F>
inline void by_columns(Index c, F f) {
    Index n = 0;
    for (; n + 4 * V <= c; n += 4 * V) f(std::integral_constant<int, 4>(), n);
    for (; n + 2 * V <= c; n += 2 * V) f(std::integral_constant<int, 2>(), n);
    for (; n < c; n += V) f(std::integral_constant<int, 1>(), n);
}

// the same for rows, so many that N vectors of columns each stay in registers
template <int N, typename F>
inline void by_rows(Index rows, F f) {
    constexpr int R = N == 1 ? 8 : 6;
    Index r = 0;
    for (; r + R <= rows; r += R) f(std::integral_constant<int, R>(), r);
    for (; r + 2 <= rows; r += 2) f(std::integral_constant<int, 2>(), r);
    for (; r < rows; ++r) f(std::integral_constant<int, 1>(), r);
}

// (rows, k) times (k, k) -> (rows, k)
template <typename T, int V>
void product(const T* x, Index xs, const T* w, Index k, T* y, Index ys, Index rows) {
    by_columns<V>(k, [&](auto vectors, Index n) {
        by_rows<vectors()>(rows, [&](auto height, Index r) {
            product_tile<T, V, height(), vectors()>(
                x + r * xs, xs, w + n, k, k, y + r * ys + n, ys
            );
        });
    });
}

// w[k][n] += sum over rows of x[row][k] y[row][n], both (rows, c) and dense
template <typename T, int V, int R, int N>
inline void outer_tile(const T* x, const T* y, Index rows, Index c, T* w) {
    typename Lane<T, V>::type sum[R][N] = {};
    for (Index p = 0; p < rows; ++p) {
        typename Lane<T, V>::type b[N];
        for (int n = 0; n < N; ++n) b[n] = load<T, V>(y + p * c + n * V);
        for (int r = 0; r < R; ++r)
            for (int n = 0; n < N; ++n) sum[r][n] += x[p * c + r] * b[n];
    }
    for (int r = 0; r < R; ++r)
        for (int n = 0; n < N; ++n) {
            T* to = w + r * c + n * V;
            store<T, V>(to, load<T, V>(to) + sum[r][n]);
        }
}

template <typename T, int V>
void outer(const T* x, const T* y, Index rows, Index c, T* w) {
    by_columns<V>(c, [&](auto vectors, Index n) {
        by_rows<vectors()>(c, [&](auto height, Index k) {
            outer_tile<T, V, height(), vectors()>(x + k, y + n, rows, c, w + k * c + n);
        });
    });
}

// ---- depthwise convolutions of one image ---------------------------------------------------

// R neighbouring outputs of one row; x points at the first tap of the first one
template <typename T, int V, int K, int D, int S, int R>
inline void depthwise_tile(const T* x, Index row, Index c, const T* w, T* y, Index ys) {
    for (Index v = 0; v < c; v += V) {
        typename Lane<T, V>::type sum[R] = {};
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
        for (; j + 4 <= width; j += 4)
            depthwise_tile<T, V, K, D, S, 4>(from + j * S * c, row, c, w, to + j * c, c);
        for (; j < width; ++j)
            depthwise_tile<T, V, K, D, S, 1>(from + j * S * c, row, c, w, to + j * c, c);
    }
}

// w[tap][c] += sum over outputs of x at the tap times g (rows of g `grow` apart)
template <typename T, int V, int K, int D, int S>
void depthwise_weights(
    const T* x, Index row, Index c, const T* g, Index grow, Index height, Index width, T* w
) {
    for (Index v = 0; v < c; v += V) {
        typename Lane<T, V>::type sum[K * K] = {};
        for (Index i = 0; i < height; ++i)
            for (Index j = 0; j < width; ++j) {
                const auto b = load<T, V>(g + i * grow + j * c + v);
                const T* from = x + i * S * row + j * S * c + v;
                for (int a = 0; a < K; ++a)
                    for (int e = 0; e < K; ++e)
                        sum[a * K + e] += load<T, V>(from + a * D * row + e * D * c) * b;
            }
        for (int t = 0; t < K * K; ++t) store<T, V>(w + t * c + v, load<T, V>(w + t * c + v) + sum[t]);
    }
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

// ---- batch norm ----------------------------------------------------------------------------

// Mean and 1 / standard deviation per channel, from images one by one (Chan's update). Works in
// `state`: mean (c) and sum of squared deviations (c) until `finish`, then mean and 1 / deviation.
template <typename T, int V>
class Statistics {
  public:
    Statistics(Index c, double* state, double count) : c_(c), count_(count), state_(state) {
        if (count == 0) std::fill(state, state + 2 * c, 0.0);
    }

    void add(Map<const T> y, Index pixels) {
        const double before = count_, total = count_ + double(pixels);
        double *mean = state_, *square = state_ + c_;
        for (Index v = 0; v < c_; v += V) {
            typename Lane<T, V>::type sums[4] = {}, squares[4] = {};
            Index p = 0;
            for (; p + 4 <= pixels; p += 4)
                for (int n = 0; n < 4; ++n) sums[n] += load<T, V>(y.at(p + n) + v);
            for (; p < pixels; ++p) sums[0] += load<T, V>(y.at(p) + v);
            const auto here = ((sums[0] + sums[1]) + (sums[2] + sums[3])) / T(pixels);
            auto deviate = [&](typename Lane<T, V>::type& sum, Index at) {
                const auto d = load<T, V>(y.at(at) + v) - here;
                sum += d * d;
            };
            for (p = 0; p + 4 <= pixels; p += 4)
                for (int n = 0; n < 4; ++n) deviate(squares[n], p + n);
            for (; p < pixels; ++p) deviate(squares[0], p);
            const auto around = (squares[0] + squares[1]) + (squares[2] + squares[3]);
            for (int n = 0; n < V; ++n) {
                const double delta = double(here[n]) - mean[v + n];
                mean[v + n] += delta * pixels / total;
                square[v + n] += double(around[n]) + delta * delta * before * pixels / total;
            }
        }
        count_ = total;
    }

    void finish(double epsilon) {
        for (Index n = c_; n < 2 * c_; ++n) state_[n] = 1.0 / std::sqrt(state_[n] / count_ + epsilon);
    }

  private:
    Index c_;
    double count_;
    double* state_;
};

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

    template <int V>
    void apply(Map<const T> g, Map<const T> y, Map<T> dy, Index pixels) const {
        const Index c = Index(a.size());
        for (Index v = 0; v < c; v += V) {
            const auto av = load<T, V>(&a[v]), bv = load<T, V>(&b[v]), dv = load<T, V>(&d[v]);
            for (Index p = 0; p < pixels; ++p)
                store<T, V>(
                    dy.at(p) + v, av * load<T, V>(g.at(p) + v) + bv * load<T, V>(y.at(p) + v) + dv
                );
        }
    }
};

// ---- ReLU, depthwise convolution, pointwise convolution ------------------------------------

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
    }

    // calls f with kernel, dilation and stride as constants
    template <typename F>
    void dispatch(F f) const {
        auto strided = [&](auto k, auto d) {
            if (stride == 1) f(k, d, std::integral_constant<int, 1>());
            else f(k, d, std::integral_constant<int, 2>());
        };
        auto dilated = [&](auto k) {
            if (dilation == 1) strided(k, std::integral_constant<int, 1>());
            else strided(k, std::integral_constant<int, 2>());
        };
        if (kernel == 3) dilated(std::integral_constant<int, 3>());
        else dilated(std::integral_constant<int, 5>());
    }

    // ReLU of the (normalised) image into the interior of a padded buffer
    void rectify(Index image, T* buffer) const {
        typename Lane<T, V>::type zero = {};
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
            depthwise<T, V, k(), d(), s()>(
                rectified, padded.row(), c, depth.data(), to, out_width * c, out_height, out_width
            );
        });
    }

    void forward(Map<T> y, double* stats, double epsilon) const {
        const Index pixels = out_height * out_width;
        std::vector<T> rectified(padded.size(), T(0)), deep(pixels * c);
        Statistics<T, V> statistics(c, stats, 0);
        for (Index n = 0; n < images; ++n) {
            rectify(n, rectified.data());
            convolve(rectified.data(), deep.data());
            T* to = y.at(n * pixels);
            product<T, V>(deep.data(), c, point.data(), c, to, y.pixel, pixels);
            statistics.add({to, y.pixel}, pixels);
        }
        statistics.finish(epsilon);
    }

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
        std::vector<T> rectified(padded.size(), T(0)), dy(pixels * c), deep(pixels * c);
        std::vector<T> ddeep(gather ? around.size() : pixels * c, T(0));
        std::vector<T> drectified(gather ? height * width * c : padded.size());
        std::vector<T> dpoint(c * c, T(0)), ddepth(taps * c, T(0));
        std::vector<double> total(2 * c, 0.0);
        const Index grow = gather ? around.row() : out_width * c;  // rows of ddeep
        T* dfirst = ddeep.data() + (gather ? around.interior(0) : 0);
        for (Index n = 0; n < images; ++n) {
            const Map<const T> yn{y.at(n * pixels), y.pixel}, gn{g.at(n * pixels), g.pixel};
            norm.template apply<V>(gn, yn, {dy.data(), c}, pixels);
            for (Index i = 0; i < out_height; ++i)
                product<T, V>(
                    dy.data() + i * out_width * c, c, transposed.data(), c, dfirst + i * grow, c,
                    out_width
                );
            rectify(n, rectified.data());
            if (point_gradient) {
                convolve(rectified.data(), deep.data());
                outer<T, V>(deep.data(), dy.data(), pixels, c, dpoint.data());
                dispatch([&](auto k, auto d, auto s) {
                    depthwise_weights<T, V, k(), d(), s()>(
                        rectified.data(), padded.row(), c, dfirst, grow, out_height, out_width,
                        ddepth.data()
                    );
                });
            }
            if (!gather) std::fill(drectified.begin(), drectified.end(), T(0));
            dispatch([&](auto k, auto d, auto s) {
                if constexpr (s() == 1)
                    depthwise<T, V, k(), d(), 1>(
                        ddeep.data(), grow, c, flipped.data(), drectified.data(), width * c, height,
                        width
                    );
                else
                    depthwise_scatter<T, V, k(), d(), s()>(
                        drectified.data(), padded.row(), c, depth.data(), dfirst, grow, out_height,
                        out_width
                    );
            });
            finish_image(n, rectified.data(), drectified.data(), gather, dx, total.data());
        }
        if (input_sums) std::copy(total.begin(), total.end(), input_sums);
        if (!point_gradient) return;
        for (Index o = 0; o < c; ++o)
            for (Index i = 0; i < c; ++i) point_gradient[o * c + i] = dpoint[i * c + o];
        for (Index t = 0; t < taps; ++t)
            for (Index n = 0; n < c; ++n) depth_gradient[n * taps + t] = ddepth[t * c + n];
    }

    // the ReLU's mask, then into dx
    void finish_image(
        Index image, const T* rectified, const T* drectified, bool dense, Map<T> dx, double* total
    ) const {
        const typename Lane<T, V>::type zero = {};
        for (Index v = 0; v < c; v += V) {
            typename Lane<T, V>::type sum = {}, product = {};
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

// ---- weighted sums of maps -----------------------------------------------------------------

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
    typename Lane<T, V>::type sum[R];
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
    for (Index b = 0; b < images; ++b)
        for (Index t = 0; t < terms.targets; ++t)
            for (Index v = 0; v < c; v += V) {
                Index p = b * pixels;
                for (; p + 4 <= (b + 1) * pixels; p += 4)
                    combine_pixels<T, V, 4>(p, v, c, terms, t, &scale[v], &shift[t * c + v],
                                            out[t], out_strides[t], add);
                for (; p < (b + 1) * pixels; ++p)
                    combine_pixels<T, V, 1>(p, v, c, terms, t, &scale[v], &shift[t * c + v],
                                            out[t], out_strides[t], add);
            }
}

// per term: sums of its target's g (c) and of g times the normalised y (c)
template <typename T, int V>
void combine_sums(
    Index images, Index pixels, Index c, Terms<T> terms, T* const* g, const Index* g_strides,
    double* sums
) {
    std::fill(sums, sums + terms.count() * 2 * c, 0.0);
    std::vector<T> centre(terms.count() * c, T(0));
    for (Index m = 0; m < terms.count(); ++m)
        if (terms.stats[m])
            for (Index n = 0; n < c; ++n) centre[m * c + n] = T(terms.stats[m][n]);
    for (Index b = 0; b < images; ++b)
        for (Index t = 0; t < terms.targets; ++t) {
            const Map<const T> gt{g[t] + b * pixels * g_strides[t], g_strides[t]};
            for (Index v = 0; v < c; v += V) {
                typename Lane<T, V>::type total[4] = {};
                Index p = 0;
                for (; p + 4 <= pixels; p += 4)
                    for (int n = 0; n < 4; ++n) total[n] += load<T, V>(gt.at(p + n) + v);
                for (; p < pixels; ++p) total[0] += load<T, V>(gt.at(p) + v);
                total[0] = (total[0] + total[1]) + (total[2] + total[3]);
                for (Index m = terms.starts[t]; m < terms.starts[t + 1]; ++m) {
                    const Index stride = terms.strides[m];
                    const T* y = terms.y[m] + b * pixels * stride + v;
                    const auto mean = load<T, V>(&centre[m * c + v]);
                    typename Lane<T, V>::type sum[4] = {};
                    for (p = 0; p + 4 <= pixels; p += 4)
                        for (int n = 0; n < 4; ++n)
                            sum[n] += load<T, V>(gt.at(p + n) + v) *
                                      (load<T, V>(y + (p + n) * stride) - mean);
                    for (; p < pixels; ++p)
                        sum[0] += load<T, V>(gt.at(p) + v) * (load<T, V>(y + p * stride) - mean);
                    sum[0] = (sum[0] + sum[1]) + (sum[2] + sum[3]);
                    double* to = sums + m * 2 * c + v;
                    for (int n = 0; n < V; ++n) {
                        to[n] += double(total[0][n]);
                        to[c + n] += double(sum[0][n]);
                    }
                }
            }
        }
    for (Index m = 0; m < terms.count(); ++m)
        if (terms.stats[m])
            for (Index n = 0; n < c; ++n) sums[(2 * m + 1) * c + n] *= terms.stats[m][c + n];
}

// dx += d (+ e) where x is positive: the gradient of a ReLU
template <typename T, int V>
void rectify_backward(
    Index pixels, Index c, Map<const T> x, Map<const T> d, const T* e, Map<T> dx
) {
    const typename Lane<T, V>::type zero = {};
    for (Index p = 0; p < pixels; ++p)
        for (Index v = 0; v < c; v += V) {
            auto value = load<T, V>(d.at(p) + v);
            if (e) value += load<T, V>(e + p * d.pixel + v);
            const auto at = load<T, V>(x.at(p) + v);
            T* to = dx.at(p) + v;
            store<T, V>(to, load<T, V>(to) + (at > zero ? value : zero * at));
        }
}

// ---- pools of 3x3 --------------------------------------------------------------------------

struct Window {
    Index i0, i1, j0, j1;
    Window(Index i, Index j, int stride, Index height, Index width)
        : i0(std::max<Index>(i * stride - 1, 0)), i1(std::min(i * stride + 2, height)),
          j0(std::max<Index>(j * stride - 1, 0)), j1(std::min(j * stride + 2, width)) {}
    Index count() const { return (i1 - i0) * (j1 - j0); }
};

template <typename T, int V>
inline typename Lane<T, V>::type largest(Map<const T> x, const Window& w, Index width, Index v) {
    auto top = load<T, V>(x.at(w.i0 * width + w.j0) + v);
    for (Index i = w.i0; i < w.i1; ++i)
        for (Index j = w.j0; j < w.j1; ++j) {
            const auto value = load<T, V>(x.at(i * width + j) + v);
            top = (value > top) | (value != value) ? value : top;
        }
    return top;
}

// Means of 3x3 windows at stride 1, or the transpose of that map: sums over a padded copy, with
// 1 / the number of pixels in a window after the sum or before it
template <typename T, int V>
class Box {
  public:
    Box(Index height, Index width, Index c)
        : padded_{height, width, 1, c}, ones_(9 * c, T(1)), buffer_(padded_.size(), T(0)),
          sums_(height * width * c) {}

    template <typename Out>
    void run(Map<const T> x, bool transposed, Out out) {
        const Index height = padded_.height, width = padded_.width, c = padded_.channels;
        for (Index i = 0; i < height; ++i)
            for (Index j = 0; j < width; ++j) {
                const T factor = transposed ? share(i, j) : T(1);
                T* to = buffer_.data() + padded_.interior(i) + j * c;
                for (Index v = 0; v < c; v += V)
                    store<T, V>(to + v, load<T, V>(x.at(i * width + j) + v) * factor);
            }
        depthwise<T, V, 3, 1, 1>(
            buffer_.data(), padded_.row(), c, ones_.data(), sums_.data(), width * c, height, width
        );
        for (Index i = 0; i < height; ++i)
            for (Index j = 0; j < width; ++j) {
                const T factor = transposed ? T(1) : share(i, j);
                for (Index v = 0; v < c; v += V)
                    out(i * width + j, v, load<T, V>(&sums_[(i * width + j) * c + v]) * factor);
            }
    }

  private:
    T share(Index i, Index j) const {
        return T(1) / T(Window(i, j, 1, padded_.height, padded_.width).count());
    }

    Padded padded_;
    std::vector<T> ones_, buffer_, sums_;
};

template <typename T, int V>
void pool(
    Index images, Index height, Index width, Index c, bool maximum, int stride, Map<const T> x,
    Map<T> y, double* stats, double epsilon
) {
    const Index oh = (height - 1) / stride + 1, ow = (width - 1) / stride + 1;
    std::vector<double> unused(stats ? 0 : 2 * c);
    Statistics<T, V> statistics(c, stats ? stats : unused.data(), 0);
    const bool boxed = !maximum && stride == 1;
    Box<T, V> box(height, width, c);
    for (Index b = 0; b < images; ++b) {
        const Map<const T> xb{x.at(b * height * width), x.pixel};
        const Map<T> yb{y.at(b * oh * ow), y.pixel};
        if (boxed)
            box.run(xb, false, [&](Index at, Index v, auto value) {
                store<T, V>(yb.at(at) + v, value);
            });
        for (Index i = 0; i < oh && !boxed; ++i)
            for (Index j = 0; j < ow; ++j) {
                const Window w(i, j, stride, height, width);
                for (Index v = 0; v < c; v += V) {
                    typename Lane<T, V>::type value = {};
                    if (maximum) {
                        value = largest<T, V>(xb, w, width, v);
                    } else {
                        for (Index a = w.i0; a < w.i1; ++a)
                            for (Index e = w.j0; e < w.j1; ++e)
                                value += load<T, V>(xb.at(a * width + e) + v);
                        value /= T(w.count());
                    }
                    store<T, V>(yb.at(i * ow + j) + v, value);
                }
            }
        if (stats) statistics.add({yb.data, yb.pixel}, oh * ow);
    }
    if (stats) statistics.finish(epsilon);
}

// dx += the pool's transpose of dy; the first of equal maxima takes all, as in torch
template <typename T, int V>
void pool_backward(
    Index images, Index height, Index width, Index c, bool maximum, int stride, Map<const T> x,
    Map<const T> dy, Map<T> dx
) {
    const Index oh = (height - 1) / stride + 1, ow = (width - 1) / stride + 1;
    const typename Lane<T, V>::type zero = {};
    const bool boxed = !maximum && stride == 1;
    Box<T, V> box(height, width, c);
    for (Index b = 0; b < images; ++b) {
        const Map<const T> xb{x.at(b * height * width), x.pixel};
        const Map<const T> db{dy.at(b * oh * ow), dy.pixel};
        const Map<T> to{dx.at(b * height * width), dx.pixel};
        if (boxed)
            box.run(db, true, [&](Index at, Index v, auto value) {
                T* p = to.at(at) + v;
                store<T, V>(p, load<T, V>(p) + value);
            });
        for (Index i = 0; i < oh && !boxed; ++i)
            for (Index j = 0; j < ow; ++j) {
                const Window w(i, j, stride, height, width);
                for (Index v = 0; v < c; v += V) {
                    auto g = load<T, V>(db.at(i * ow + j) + v);
                    auto top = zero;
                    if (maximum) top = largest<T, V>(xb, w, width, v);
                    else g /= T(w.count());
                    for (Index a = w.i0; a < w.i1; ++a)
                        for (Index e = w.j0; e < w.j1; ++e) {
                            T* p = to.at(a * width + e) + v;
                            if (!maximum) {
                                store<T, V>(p, load<T, V>(p) + g);
                                continue;
                            }
                            const auto value = load<T, V>(xb.at(a * width + e) + v);
                            const auto here = value == top;
                            store<T, V>(p, load<T, V>(p) + (here ? g : zero));
                            g = here ? zero : g;
                        }
                }
            }
    }
}

// calls f with the widest vector that divides the channels
template <typename T, typename F>
void with_vectors(Index c, F f) {
    constexpr int wide = 64 / sizeof(T);
    if (c % wide == 0) f(std::integral_constant<int, wide>());
    else if (c % 8 == 0) f(std::integral_constant<int, 8>());
    else if (c % 4 == 0) f(std::integral_constant<int, 4>());
    else f(std::integral_constant<int, 1>());
}

}  // namespace

using T = REAL;  // float or double, given to the compiler: one library each

extern "C" {

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

void statistics(
    Index images, Index pixels, Index c, const T* y, Index ys, double* stats, double before,
    int last, double epsilon
) {
    with_vectors<T>(c, [&](auto v) {
        Statistics<T, v()> statistics(c, stats, before);
        for (Index b = 0; b < images; ++b) statistics.add({y + b * pixels * ys, ys}, pixels);
        if (last) statistics.finish(epsilon);
    });
}

void norm_backward(
    Index pixels, Index c, const T* g, Index gs, const T* y, Index ys, const double* stats,
    const double* sums, double weight, double count, T* dy, Index dys
) {
    with_vectors<T>(c, [&](auto v) {
        NormGradient<T>(stats, sums, weight, count, c)
            .template apply<v()>({g, gs}, {y, ys}, {dy, dys}, pixels);
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

void rectify_backward(
    Index pixels, Index c, const T* x, Index xs, const T* d, Index ds, const T* e, T* dx,
    Index dxs
) {
    with_vectors<T>(c, [&](auto v) {
        rectify_backward<T, v()>(pixels, c, {x, xs}, {d, ds}, e, {dx, dxs});
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
