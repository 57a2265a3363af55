// Work in blocks that do not depend on the number of threads, so that no sum does.
#pragma once

#include <algorithm>
#include <atomic>
#include <vector>

#include "helpers.h"
#include "vectors.h"

namespace itnas {

constexpr Index BLOCKS = 16;             // of the images of a batch, at most
constexpr double SMALLEST_WORK = 1048576;  // multiplications; less is done by one thread

// Consecutive images, or rows of anything that is done one by one
struct Blocks {
    Index items, size, count;
    explicit Blocks(Index items)
        : items(items), size(std::max<Index>((items + BLOCKS - 1) / BLOCKS, 1)),
          count((items + size - 1) / size) {}

    // f(own, block, first item, last item + 1), with a thread's `own` from make()
    template <typename Make, typename F>
    void each(double work, Make make, F f) const {
        std::atomic<Index> next{0};
        auto body = [&] {
            auto own = make();
            for (Index b = next++; b < count; b = next++)
                f(own, b, b * size, std::min((b + 1) * size, items));
        };
        if (work < SMALLEST_WORK) body();
        else helpers().run(count, body);
    }

    // f(first item, last item + 1)
    template <typename F>
    void each(double work, F f) const {
        each(work, [] { return 0; }, [&](int, Index, Index from, Index to) { f(from, to); });
    }
};

// One buffer a block, added up in the order of the blocks
template <typename T>
class Partial {
  public:
    Partial(const Blocks& blocks, Index size)
        : count_(blocks.count), size_(size), values_(blocks.count * size, T(0)) {}

    T* of(Index block) { return values_.data() + block * size_; }

    const T* total() {
        for (Index b = 1; b < count_; ++b)
            for (Index n = 0; n < size_; ++n) values_[n] += values_[b * size_ + n];
        return values_.data();
    }

  private:
    Index count_, size_;
    std::vector<T> values_;
};

}  // namespace itnas
