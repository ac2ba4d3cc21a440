#include "matrix.h"

namespace headrace::tests {
namespace {

float quantised_product(const Row& w, const int8_t* q, const float* scale) {
    float f = 0;
    for (size_t g = 0; g < w.d.size(); ++g) {
        int32_t sum = 0;
        int32_t all = 0;
        for (size_t k = g * kGroup; k < (g + 1) * kGroup; ++k) sum += w.integers[k] * q[k], all += q[k];
        const auto product = static_cast<float>(sum);
        f = w.e.empty() ? std::fma(product, w.d[g] * scale[g], f)
                        : std::fma(std::fma(static_cast<float>(-all), w.e[g], product * w.d[g]), scale[g], f);
    }
    return f;
}

Expected float_product(const Row& w, const float* x) {
    double sum = 0, magnitude = 0;
    for (size_t k = 0; k < w.numbers.size(); ++k) {
        sum += w.numbers[k] * x[k];
        magnitude += std::fabs(w.numbers[k] * x[k]);
    }
    const auto columns = static_cast<double>(w.numbers.size());
    return {sum, std::expm1(columns * kUnit) * magnitude + columns * kLeast};
}

}  // namespace

Problem::Problem(Type type, int64_t rows, int64_t columns, int64_t tokens, int64_t slack, uint64_t seed)
    : type(type),
      rows(rows),
      columns(columns),
      tokens(tokens),
      row_bytes(columns / info(type).block * info(type).block_bytes),
      weights(rows * row_bytes, slack),
      x(tokens * columns, slack),
      q(tokens * columns, slack),
      scale(tokens * (columns / kGroup), slack),
      neg_sum(tokens * (columns / kHalfGroup), slack) {
    Random random(seed);
    fill_weights(random, type, weights.data(), weights.size());
    for (int64_t i = 0; i < x.size(); ++i) x[i] = random.uniform(-2, 2);
    for (int64_t i = 0; i < q.size(); ++i) q[i] = static_cast<int8_t>(random.whole(-127, 127));  // as quantise gives
    for (int64_t i = 0; i < scale.size(); ++i) scale[i] = random.uniform(0, 0.02f);
    sum_up();
}

void Problem::sum_up() {
    for (int64_t i = 0; i < neg_sum.size(); ++i) {
        neg_sum[i] = 0;
        for (int64_t k = i * kHalfGroup; k < (i + 1) * kHalfGroup; ++k) neg_sum[i] -= q[k];
    }
}

std::vector<Expected> Problem::product() const {
    std::vector<Row> decoded;
    for (int64_t r = 0; r < rows; ++r) decoded.push_back(decode(type, weights.data() + r * row_bytes, columns));
    std::vector<Expected> out;
    for (int64_t m = 0; m < tokens; ++m) {
        for (const Row& w : decoded) {
            out.push_back(info(type).quantised ? Expected{quantised_product(w, q.data() + m * columns,
                                                                            scale.data() + m * (columns / kGroup))}
                                               : float_product(w, x.data() + m * columns));
        }
    }
    return out;
}

void run(void (*kernel)(const Linear&), const Problem& p, const uint8_t* weights, const Call& call, float* out,
         int64_t out_stride) {
    kernel({weights, p.row_bytes, p.columns, call.row_begin, call.row_end, p.activations(), call.index, call.tokens,
            out, out_stride});
}

}  // namespace headrace::tests
