#include "quant.h"

namespace headrace {

void QuantisedRows::reserve(int64_t rows, int64_t columns) {
    q_.reserve(rows * columns);
    scale_.reserve(rows * (columns / kGroup));
    neg_sum_.reserve(rows * (columns / kHalfGroup));
}

void QuantisedRows::write(const Kernels& kernels, int64_t row, const float* x, int64_t columns) {
    kernels.quantise(x, columns, q_.data() + row * columns, scale_.data() + row * (columns / kGroup),
                     neg_sum_.data() + row * (columns / kHalfGroup));
}

Activations QuantisedRows::view(const float* x, int64_t first, int64_t columns) {
    return {x + first * columns, q_.data() + first * columns, scale_.data() + first * (columns / kGroup),
            neg_sum_.data() + first * (columns / kHalfGroup)};
}

}  // namespace headrace
