#include "quant.h"

namespace headrace {

void QuantisedRows::reserve(int64_t rows, int64_t columns) {
    q_.reserve(rows * columns);
    scale_.reserve(rows * (columns / kGroup));
    neg_sum_.reserve(rows * (columns / kHalfGroup));
}

void QuantisedRows::write(const Kernels& kernels, int64_t row, int64_t columns, int64_t at, const float* x, int64_t n) {
    const int64_t first = row * columns + at;
    kernels.quantise(x, n, q_.data() + first, scale_.data() + first / kGroup, neg_sum_.data() + first / kHalfGroup);
}

Activations QuantisedRows::view(const float* x, int64_t first, int64_t columns) {
    return {x + first * columns, q_.data() + first * columns, scale_.data() + first * (columns / kGroup),
            neg_sum_.data() + first * (columns / kHalfGroup)};
}

}  // namespace headrace
