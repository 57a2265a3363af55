// Vectors of the machine, maps of channels_last values, and loops over both.
#pragma once

#include <cstdint>
#include <type_traits>

namespace itnas {

// Bytes of a vector and how many vectors the processor has room for. Sums that are kept in
// registers must fit: what does not is written to the stack at every step.
#if defined(__AVX512F__)
constexpr int VECTOR_BYTES = 64, REGISTERS = 32;
constexpr const char* INSTRUCTION_SET = "avx512";
#elif defined(__AVX2__) && defined(__FMA__)
constexpr int VECTOR_BYTES = 32, REGISTERS = 16;
constexpr const char* INSTRUCTION_SET = "avx2";
#elif defined(__SSE2__)
constexpr int VECTOR_BYTES = 16, REGISTERS = 16;
constexpr const char* INSTRUCTION_SET = "sse2";
#elif defined(__aarch64__)
constexpr int VECTOR_BYTES = 16, REGISTERS = 32;
constexpr const char* INSTRUCTION_SET = "neon";
#else
#error "no vectors are known for this processor"
#endif

using Index = std::int64_t;

template <int N>
using Constant = std::integral_constant<int, N>;

// V values of T, added and multiplied together; unaligned
template <typename T, int V>
struct Lane {
    typedef T type __attribute__((vector_size(V * sizeof(T)), aligned(sizeof(T)), may_alias));
};

template <typename T, int V>
using Vector = typename Lane<T, V>::type;

template <typename T, int V>
inline Vector<T, V> load(const T* p) {
    return *reinterpret_cast<const Vector<T, V>*>(p);
}

template <typename T, int V>
inline void store(T* p, Vector<T, V> v) {
    *reinterpret_cast<Vector<T, V>*>(p) = v;
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

// calls f with the widest vector (values as a constant) that divides the channels
template <typename T, int V = VECTOR_BYTES / int(sizeof(T)), typename F>
void with_vectors(Index c, F f) {
    if constexpr (V * sizeof(T) < 16) f(Constant<1>());
    else if (c % V == 0) f(Constant<V>());
    else with_vectors<T, V / 2>(c, f);
}

}  // namespace itnas
