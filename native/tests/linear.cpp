// Matrices times activations, from rows and from panels.
#include <algorithm>

#include "matrix.h"
#include "panels.h"

namespace headrace::tests {
namespace {

constexpr int64_t kTokens = 133, kGap = 3;  // numbers between the rows of an output

using Kernel = void (*)(const Linear&);

// Reads a problem's weights by one kernel, calls it in many ways and compares.
struct Bench {
    Report& report;
    const char* set;
    Kernel kernel;
    const Problem& problem;
    const uint8_t* weights;
    int64_t calls = 0;

    int64_t stride() const { return problem.rows + kGap; }

    // expected(m, r) for row m of the call's tokens.
    template <typename Expect>
    void check(const Call& call, Output<float>& out, const Expect& expected) {
        const int64_t rows = stride();
        run(kernel, problem, weights, call, out.data(), rows);
        report.compare(
            set, out,
            [&](int64_t i) {
                const int64_t m = i / rows, r = i % rows;
                const bool written = m < call.tokens && r >= call.row_begin && r < call.row_end;
                return written ? expected(m, r) : kUntouched;
            },
            [&] {
                return shape("rows", call.row_begin, "to", call.row_end, "tokens", call.tokens, "indexed",
                             call.index != nullptr, "columns", problem.columns, "out stride", rows);
            });
    }

    // All at once by the definition; what parts of it give must be the same bits.
    void check_whole_and_parts(const std::vector<Expected>& expected, const std::vector<Call>& parts) {
        Output<float> whole(problem.tokens * stride());
        check({0, problem.rows, problem.tokens}, whole,
              [&](int64_t m, int64_t r) { return expected[static_cast<size_t>(m * problem.rows + r)]; });
        for (const Call& part : parts) {
            Output<float> out(part.tokens * stride(), ++calls % 2);
            check(part, out, [&](int64_t m, int64_t r) {
                return Expected{whole[(part.index ? part.index[m] : m) * stride() + r]};
            });
        }
    }
};

// Tokens in another order, some of them twice.
std::vector<int32_t> shuffled(int64_t tokens) {
    std::vector<int32_t> index;
    for (int64_t m = 0; m < tokens; ++m) index.push_back(static_cast<int32_t>((m * 37 + 5) % (tokens - 1)));
    return index;
}

// The numbers of tokens are those around the tiles of 4 and 8 (rows), 4 and 6 (panels) and blocks of 132 (panels).
std::vector<int64_t> token_counts() {
    std::vector<int64_t> counts{131, 132, 133};
    for (int64_t tokens = 1; tokens <= 14; ++tokens) counts.push_back(tokens);
    return counts;
}

// Each number of rows with each number of tokens, from the first row on or up to the last.
std::vector<Call> calls(int64_t all_rows, const std::vector<int64_t>& row_counts, const int32_t* index) {
    std::vector<Call> parts;
    for (int64_t tokens : token_counts()) {
        for (int64_t rows : row_counts) {
            const bool many = tokens > 14, around_a_tile = rows % 16 <= 1 || rows % 16 == 15;
            if (many && !around_a_tile) continue;
            const int64_t begin = (tokens + rows) % 2 ? 0 : all_rows - rows;
            parts.push_back({begin, begin + rows, tokens, tokens % 3 ? nullptr : index});
        }
    }
    return parts;
}

std::vector<int64_t> up_to(int64_t last) {
    std::vector<int64_t> all;
    for (int64_t i = 1; i <= last; ++i) all.push_back(i);
    return all;
}

// Columns: one block after another, or every number around a vector's lanes.
std::vector<int64_t> column_counts(Type type) {
    if (info(type).block == 256) return {256, 512, 768};
    if (info(type).quantised) return {32, 64, 96, 160, 256};
    std::vector<int64_t> columns = up_to(18);
    columns.insert(columns.end(), {31, 32, 33, 47, 48, 63, 64, 65, 100});
    return columns;
}

// --- extremes --------------------------------------------------------------------------------------------------------

// Every row has a kind of weights and every token a kind of activations, so that each kind meets each.

void set_scale(Problem& p, int64_t r, double d, double least) {
    const uint16_t half = half_bits(d), minimum = half_bits(least);
    const TypeInfo& layout = info(p.type);
    for (int64_t at = 0; at < p.row_bytes; at += layout.block_bytes) {
        std::memcpy(p.row(r) + at + scale_offset(p.type), &half, sizeof half);
        if (has_minimum(p.type)) std::memcpy(p.row(r) + at + 2, &minimum, sizeof minimum);
    }
}

// Every integer of the row as small or as large as the format has it, and so every scale s.
void fill_integers(Problem& p, int64_t r, bool largest) {
    uint8_t* row = p.row(r);
    for (int64_t i = 0; i < p.row_bytes; ++i) {
        const int64_t at = i % info(p.type).block_bytes;
        const bool is_signed = p.type == Type::Q8_0 || (p.type == Type::Q6_K && at >= 192);
        row[i] = is_signed ? (largest ? 127 : 128) : (largest ? 255 : 0);
    }
}

void quantised_weights(Problem& p) {
    constexpr double kMost = 65504, kLeastHalf = 0x1p-24, kLargestDenormal = 0x1p-14 - 0x1p-24;
    const double scales[] = {kMost, -kMost, kMost, kLeastHalf, -kMost, 0.0, -0.0, HUGE_VAL, NAN, kLargestDenormal, 1};
    for (int64_t r = 0; r < p.rows; ++r) {
        const auto kinds = static_cast<int64_t>(std::size(scales));
        const int64_t kind = r % kinds;
        if (kind < 3) fill_integers(p, r, kind != 2);
        set_scale(p, r, scales[kind], scales[(kind + r / kinds) % kinds]);  // minima like it, and others beside it
    }
}

void quantised_activations(Problem& p) {
    constexpr float kHuge = 3.40282347e+38f, kDenormal = 1.4e-45f;
    const float scales[] = {0, kHuge, 1, -1, kDenormal, 1e30f, NAN, HUGE_VALF, 1.17549435e-38f};
    const int64_t groups = p.columns / kGroup;
    for (int64_t m = 0; m < p.tokens; ++m) {
        const int64_t kind = m % static_cast<int64_t>(std::size(scales));
        for (int64_t k = 0; k < p.columns; ++k) {
            int8_t& q = p.q[m * p.columns + k];
            if (kind < 4) q = kind == 0 ? 0 : kind == 1 ? 127 : kind == 2 ? -127 : k % 2 ? 127 : -127;
        }
        // What is not finite stands in one group only: the first NaN, the last infinity.
        for (int64_t g = 0; g < groups; ++g) {
            const bool everywhere = std::isfinite(scales[kind]);
            const bool here = everywhere || g == (std::isnan(scales[kind]) ? 0 : groups - 1);
            p.scale[m * groups + g] = here ? scales[kind] : 1;
        }
    }
    p.sum_up();
}

// The number's bits in the row, at column k.
void put(Problem& p, int64_t r, int64_t k, float x) {
    const uint16_t half = half_bits(x);
    uint8_t* at = p.row(r) + k * info(p.type).block_bytes;
    if (p.type == Type::F32) std::memcpy(at, &x, 4);
    if (p.type == Type::F16) std::memcpy(at, &half, 2);
    if (p.type == Type::BF16) std::memcpy(at, reinterpret_cast<const uint8_t*>(&x) + 2, 2);
}

void float_weights(Problem& p) {
    const float most = p.type == Type::F32 ? 3.40282347e+38f : p.type == Type::F16 ? 65504.0f : 0x1.fep127f;
    const float least = p.type == Type::F32 ? 0x1p-149f : p.type == Type::F16 ? 0x1p-24f : 0x1p-133f;
    const float specials[] = {most, -most, NAN, HUGE_VALF, -HUGE_VALF};
    for (int64_t r = 0; r < p.rows; ++r) {
        const int64_t kind = r % 8, at = (r * 5 + 1) % p.columns;  // a special number stands at one column
        for (int64_t k = 0; k < p.columns; ++k) {
            const bool one_number = kind < 2;  // no sum may overflow: the definition leaves open when it would
            if (one_number || kind == 6) put(p, r, k, k % 2 ? 0.0f : -0.0f);
            if (kind == 5) put(p, r, k, k % 3 ? least : -least);
        }
        if (kind < 5) put(p, r, at, specials[kind]);
    }
}

void float_activations(Problem& p) {
    for (int64_t m = 0; m < p.tokens; ++m) {
        const int64_t kind = m % 6;
        float* x = p.x.data() + m * p.columns;
        for (int64_t k = 0; k < p.columns; ++k) {
            if (kind == 0) x[k] = k % 2 ? -0.0f : 0.0f;
            if (kind == 1) x[k] = static_cast<float>(k + 1) * 0x1p-149f;
            if (kind == 2) x[k] = k % 3 ? 1.0f : -1.0f;
            if (kind > 2) x[k] /= 2;
        }
        if (kind == 3) x[p.columns - 1] = NAN;
        if (kind == 4) x[p.columns / 2] = HUGE_VALF;
    }
}

Problem extreme(Type type, int64_t rows, int64_t columns) {
    Problem p(type, rows, columns, 19, 1, 77);
    if (info(type).quantised) {
        quantised_weights(p);
        quantised_activations(p);
    } else {
        float_weights(p);
        float_activations(p);
    }
    return p;
}

Input<uint8_t> in_panels(const Problem& p, int64_t slack) {
    Input<uint8_t> panels(p.weights.size(), slack);
    to_panels(p.matrix(), panels.data());
    return panels;
}

}  // namespace

void test_linear(Report& report, const Sets& sets) {
    constexpr int64_t kRows = 70;
    const std::vector<int32_t> index = shuffled(kTokens);
    for (Type type : kAllTypes) {
        report.begin(std::string("linear ") + info(type).name);
        for (int64_t columns : column_counts(type)) {
            // Float kernels know tiles of 2 or 4 rows only; they have more columns instead.
            const bool all_rows = info(type).quantised || columns == 33;
            const std::vector<int64_t> row_counts = all_rows ? up_to(kRows) : std::vector<int64_t>{1, 2, 3, 4, 5, 16};
            const std::vector<Call> parts = calls(kRows, row_counts, index.data());
            const int64_t slack = columns % 32 ? columns % 2 : columns / 32 % 3;
            const Problem p(type, kRows, columns, kTokens, slack, static_cast<uint64_t>(columns));
            const std::vector<Expected> expected = p.product();
            for (const Kernels* set : sets) {
                const Kernel kernel = set->linear[static_cast<size_t>(type)];
                Bench{report, set->name, kernel, p, p.weights.data()}.check_whole_and_parts(expected, parts);
            }
        }
        const Problem p = extreme(type, 44, info(type).block == 256 ? 512 : 64);
        const std::vector<Expected> expected = p.product();
        for (const Kernels* set : sets) {
            const Kernel kernel = set->linear[static_cast<size_t>(type)];
            Bench{report, set->name, kernel, p, p.weights.data()}.check_whole_and_parts(expected, {{3, 44, 19}});
        }
        report.end();
    }
}

void test_panels(Report& report, const Sets& sets) {
    constexpr int64_t kRows = 96;
    const std::vector<int32_t> index = shuffled(kTokens);
    for (Type type : kPanelTypes) {
        report.begin(std::string("panels ") + info(type).name);
        const auto check = [&](const Problem& p, int64_t slack, const std::vector<Call>& parts) {
            const Input<uint8_t> panels = in_panels(p, slack);
            const std::vector<Expected> expected = p.product();
            for (const Kernels* set : sets) {
                const Kernel kernel = set->panels[static_cast<size_t>(type)];
                if (!kernel) continue;
                Bench{report, set->name, kernel, p, panels.data()}.check_whole_and_parts(expected, parts);
                // And they are the bits that the same instruction set makes of rows.
                Output<float> rows(p.tokens * p.rows), out(p.tokens * p.rows);
                const Call all{0, p.rows, p.tokens};
                run(set->linear[static_cast<size_t>(type)], p, p.weights.data(), all, rows.data(), p.rows);
                run(kernel, p, panels.data(), all, out.data(), p.rows);
                report.compare(
                    set->name, out, [&](int64_t i) { return Expected{rows[i]}; },
                    [&] { return shape("beside rows, columns", p.columns); });
            }
        };
        for (int64_t columns : column_counts(type)) {
            const int64_t slack = columns / 32 % 3;
            check(Problem(type, kRows, columns, kTokens, slack, static_cast<uint64_t>(columns)), slack,
                  calls(kRows, {32, 64, 96}, index.data()));
        }
        check(extreme(type, 64, info(type).block == 256 ? 512 : 64), 1, {{32, 64, 19}});
        report.end();
    }
}

// Rows of an embedding, which are no kernels: weight d s q to the nearest fp32. They serve every instruction set.
void test_embedding(Report& report, const Sets&) {
    constexpr int64_t kRows = 64;
    for (Type type : kAllTypes) {
        report.begin(std::string("embedding ") + info(type).name);
        for (int64_t columns : column_counts(type)) {
            const Problem p(type, kRows, columns, 1, columns % 2, static_cast<uint64_t>(columns));
            const auto check = [&](int64_t r, const char* order, const auto& read) {
                const Row row = decode(type, p.weights.data() + r * p.row_bytes, columns);
                Output<float> out(columns, r % 2);
                read(out.data());
                report.compare(
                    "all", out,
                    [&](int64_t k) {
                        const auto i = static_cast<size_t>(k);
                        constexpr double kEitherZero = kLeast / 2;
                        if (!row.numbers.empty()) return Expected{row.numbers[i]};
                        const float d = row.d[i / kGroup], least = row.e.empty() ? 0 : row.e[i / kGroup];
                        return Expected{std::fma(d, static_cast<float>(row.integers[i]), -least), kEitherZero};
                    },
                    [&] { return shape(order, r, "columns", columns); });
            };
            const auto at = static_cast<size_t>(type);
            for (int64_t r = 0; r < kRows; ++r) {
                check(r, "row", [&](float* out) { kDequantise[at](p.weights.data() + r * p.row_bytes, columns, out); });
            }
            if (!has_panels(type, kRows)) continue;
            const Input<uint8_t> panels = in_panels(p, 0);
            for (int64_t r = 0; r < kRows; ++r) {
                check(r, "row of panels",
                      [&](float* out) { kDequantisePanel[at](panels.data(), p.row_bytes, r, columns, out); });
            }
            Output<int8_t> back(p.weights.size());
            Matrix in_order = p.matrix();
            in_order.data = panels.data();
            in_order.panels = true;
            from_panels(in_order, reinterpret_cast<uint8_t*>(back.data()));
            report.compare(
                "all", back, [&](int64_t i) { return Expected{number(static_cast<int8_t>(p.weights[i]))}; },
                [&] { return shape("from panels, columns", columns); });
        }
        report.end();
    }
}

}  // namespace headrace::tests
