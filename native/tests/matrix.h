// A random matrix and random activations for it, and what their product must be.
#pragma once
#include <iterator>
#include <span>

#include "check.h"
#include "weights.h"

namespace headrace::tests {

inline constexpr Type kAllTypes[] = {Type::F32,  Type::F16,  Type::BF16, Type::Q8_0, Type::Q4_0,
                                     Type::Q6_K, Type::Q4_1, Type::Q5_0, Type::Q5_1, Type::IQ4_NL,
                                     Type::Q3_K, Type::Q4_K, Type::Q5_K};
static_assert(std::size(kAllTypes) == kTypes);
inline constexpr std::span<const Type> kPanelTypes = std::span(kAllTypes).subspan(3);  // the quantised ones

// `slack` as in Input: bytes for the weights, numbers for the activations.
struct Problem {
    Type type;
    int64_t rows, columns, tokens, row_bytes;
    Input<uint8_t> weights;
    Input<float> x;
    Input<int8_t> q;
    Input<float> scale;
    Input<int32_t> neg_sum;

    Problem(Type type, int64_t rows, int64_t columns, int64_t tokens, int64_t slack, uint64_t seed);

    Matrix matrix() const { return {type, rows, columns, row_bytes, weights.data()}; }
    Activations activations() const { return {x.data(), q.data(), scale.data(), neg_sum.data()}; }
    uint8_t* row(int64_t r) { return weights.data() + r * row_bytes; }
    void sum_up();  // neg_sum of q

    // [tokens, rows]. Of a quantised type: the definition in kernels.h to the last bit, which leaves no choice. Of a
    // float type: the exact product; a sum of K products in any order, whether fused or not, rounds each of its terms
    // K times at most, and each product once where it is too small to be normal.
    std::vector<Expected> product() const;
};

// Calls the kernel for some tokens and rows. `index` as in Linear.
struct Call {
    int64_t row_begin, row_end, tokens;
    const int32_t* index = nullptr;
};
void run(void (*kernel)(const Linear&), const Problem& p, const uint8_t* weights, const Call& call, float* out,
         int64_t out_stride);

}  // namespace headrace::tests
