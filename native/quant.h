// Activations as the quantised kernels read them: int8 in groups of 32, each with a scale (kernels.h gives the
// formula).
#pragma once
#include "buffer.h"
#include "kernels/kernels.h"

namespace headrace {

class QuantisedRows {
  public:
    // Room for `rows` rows of at most `columns` numbers.
    void reserve(int64_t rows, int64_t columns);

    // Row `row` becomes x [columns]. Threads may write different rows at the same time.
    void write(const Kernels& kernels, int64_t row, const float* x, int64_t columns) {
        write(kernels, row, columns, 0, x, columns);
    }

    // Numbers `at` to at + n - 1 of row `row` become x [n], whole groups. Threads may write different ones at a time.
    void write(const Kernels& kernels, int64_t row, int64_t columns, int64_t at, const float* x, int64_t n);

    // The rows from `first` on, of `columns` numbers each; x [rows, columns] is what the float kernels read instead.
    Activations view(const float* x, int64_t first, int64_t columns);

  private:
    Buffer<int8_t> q_;
    Buffer<float> scale_;
    Buffer<int32_t> neg_sum_;
};

}  // namespace headrace
