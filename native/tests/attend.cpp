// Attention over tiles of a cache, beside a softmax in fp64.
#include <algorithm>
#include <array>

#include "sequence.h"

namespace headrace::tests {
namespace {

constexpr const char* kNames[] = {"fp16", "fp32", "int8"};
constexpr const char* kRandom = "random numbers";

struct Call {
    int64_t position, tokens, heads, begin, end;
};

// Calls every set; heads beyond the call's are left out, tokens stand where they do in `sequence`.
class Bench {
  public:
    Bench(Report& report, const Sets& sets, const Sequence& sequence)
        : report_(report), sets_(sets), sequence_(sequence) {}

    void check(const Call& c, const char* what = kRandom) {
        const int64_t n = sequence_.head_dim, rows = c.tokens * c.heads;
        const auto answer_of = [&](int64_t row) -> const Answer& { return answer(c, row / c.heads, row % c.heads); };
        const auto describe = [&](const char* output) {
            return [=] {
                return shape(output, what, "head_dim", n, "position", c.position, "tokens", c.tokens, "heads", c.heads,
                             "span", c.begin, "to", c.end);
            };
        };
        for (const Kernels* set : sets_) {
            Output<float> sums(rows * n, c.position % 2);
            Output<float> softmax(rows * 2, c.heads % 2);
            call(*set, c, 0, c.heads, sums.data(), softmax.data());
            report_.compare(
                set->name, sums, [&](int64_t i) { return answer_of(i / n).sums[static_cast<size_t>(i % n)]; },
                describe("sums of"));
            report_.compare(
                set->name, softmax,
                [&](int64_t i) { return i % 2 ? answer_of(i / 2).total : answer_of(i / 2).largest; },
                describe("softmax of"));
            if (what == kRandom) check_alone(*set, c, sums);
        }
    }

  private:
    // Tokens one by one, and heads one by one, have the bits that they have together.
    void check_alone(const Kernels& set, const Call& c, Output<float>& together) {
        const int64_t n = sequence_.head_dim, width = c.heads * n;
        const Call last{c.position + c.tokens - 1, 1, c.heads, c.begin, c.end};
        for (int64_t head = 0; head < c.heads; head += std::max<int64_t>(c.heads - 1, 1)) {
            Output<float> alone(n), softmax(2);
            call(set, last, head, 1, alone.data(), softmax.data());
            report_.compare(
                set.name, alone, [&](int64_t i) { return Expected{together[(c.tokens - 1) * width + head * n + i]}; },
                [&] { return shape("alone: head", head, "position", last.position, "head_dim", n); });
        }
    }

    void call(const Kernels& set, const Call& c, int64_t head, int64_t heads, float* sums, float* softmax) {
        const Sequence& s = sequence_;
        set.attend[static_cast<size_t>(s.type)]({s.query(c.position, head), s.heads * s.head_dim, c.tokens, heads,
                                                 s.head_dim, c.position, c.begin, c.end, s.keys.from(c.begin),
                                                 s.values.from(c.begin), sums, reinterpret_cast<Softmax*>(softmax)});
    }

    // Computed once for each position, head and span.
    const Answer& answer(const Call& c, int64_t token, int64_t head) {
        const std::array<int64_t, 4> key{c.position + token, head, c.begin, c.end};
        const auto found = answers_.find(key);
        if (found != answers_.end()) return found->second;
        return answers_.emplace(key, sequence_.answer(key[0], head, c.begin, c.end)).first->second;
    }

    Report& report_;
    const Sets& sets_;
    const Sequence& sequence_;
    std::map<std::array<int64_t, 4>, Answer> answers_;
};

// Around the ends of tiles and of spans.
void test_shapes(Report& report, const Sets& sets, KvType type) {
    Random random(9);
    for (int64_t head_dim : {16, 24, 64, 80}) {
        const Sequence sequence(type, 6, head_dim, 145, head_dim / 8 % 2, random);
        Bench bench(report, sets, sequence);
        for (int64_t position : {0, 1, 2, 30, 49, 61, 62, 63, 64, 65, 112, 126, 127, 128, 129}) {
            for (int64_t tokens : {1, 2, 3, 16}) {
                for (int64_t heads = 1; heads <= 6; ++heads) {
                    if (tokens > 2 && heads != 1 && heads != 6) continue;
                    bench.check({position, tokens, heads, 0, 1024});
                    bench.check({position, tokens, heads, 64, 128});
                    if ((position < 64) == (heads < 4)) bench.check({position, tokens, heads, 0, 64});
                }
            }
        }
    }
    const Sequence sequence(type, 2, 16, 1040, 1, random);
    Bench bench(report, sets, sequence);
    for (int64_t position : {1007, 1020, 1023, 1024}) {
        bench.check({position, 16, 2, 0, 1024});
        bench.check({position, 16, 2, 1024, 2048});
    }
}

// --- extremes --------------------------------------------------------------------------------------------------------

// A number that is none, in one key, value, scale or query: who sees it gets NaN, and nobody else changes.
struct Spoiled {
    const char* where;
    float by;
    bool query() const { return *where == 'q'; }
    bool value() const { return *where == 'v'; }
};

void test_not_finite(Report& report, const Sets& sets, KvType type, const Spoiled& spoiled) {
    constexpr int64_t kHeads = 2, kDim = 24, kPosition = 60, kTokens = 10, kAt = 66, kBadDim = 5, kEnd = 1024;
    Random random(10);
    Sequence sequence(type, kHeads, kDim, 80, 0, random);
    // An infinite key makes an infinite score, not one of minus infinity, which would weigh nothing.
    for (int64_t i = kBadDim; i < sequence.q.size(); i += kDim) sequence.q[i] = std::fabs(sequence.q[i]);
    const auto run = [&](const Kernels& set) {
        Output<float> sums(kTokens * kHeads * kDim), softmax(kTokens * kHeads * 2);
        set.attend[static_cast<size_t>(type)]({sequence.query(kPosition, 0), kHeads * kDim, kTokens, kHeads, kDim,
                                               kPosition, 0, kEnd, sequence.keys.from(0), sequence.values.from(0),
                                               sums.data(), reinterpret_cast<Softmax*>(softmax.data())});
        return sums;
    };
    std::vector<Output<float>> clean;
    for (const Kernels* set : sets) clean.push_back(run(*set));
    const bool scales = type == KvType::I8;  // are what can be spoiled in an int8 cache: those of all dimensions
    Tiles& tiles = spoiled.value() ? sequence.values : sequence.keys;
    if (spoiled.query()) {
        sequence.q[(kAt * kHeads + 1) * kDim + kBadDim] = spoiled.by;
    } else if (scales) {
        tiles.set_scale(kAt, spoiled.by);
    } else {
        tiles.set(kAt, kBadDim, spoiled.by);
    }
    const auto expected = [&](int64_t i, float before) {
        const int64_t position = kPosition + i / kDim / kHeads, head = i / kDim % kHeads;
        const bool one_number = spoiled.value() && !scales;  // of a value: its dimension's business
        if (spoiled.query() ? position != kAt || head != 1 : position < kAt) return Expected{before};
        if (one_number && i % kDim != kBadDim) return Expected{before};
        return Expected{one_number ? double{spoiled.by} : NAN};
    };
    for (size_t i = 0; i < sets.size(); ++i) {
        Output<float> sums = run(*sets[i]);
        report.compare(
            sets[i]->name, sums, [&](int64_t j) { return expected(j, clean[i][j]); },
            [&] { return shape(spoiled.where, spoiled.by, "at position", kAt); });
    }
}

// All integers as large as they can be, with the most dimensions: their sums reach 2^31 but for 17 millions.
void test_full_sums(Report& report, const Sets& sets) {
    Random random(11);
    for (int64_t head_dim : {int64_t{16}, kMaxInt8HeadDim}) {
        for (float sign : {1.0f, -1.0f}) {
            Sequence sequence(KvType::I8, 5, head_dim, 70, 0, random);
            for (int64_t i = 0; i < sequence.q.size(); ++i) sequence.q[i] = i % 3 ? 2 * sign : -2 * sign;
            for (int64_t p = 0; p < 70; ++p) {
                sequence.keys.set_scale(p, 1e-4f);
                for (int64_t d = 0; d < head_dim; ++d) {
                    sequence.keys.set(p, d, (p * 5 * head_dim + d) % 3 ? 127 : -127);
                    sequence.values.set(p, d, p % 5 ? 127 : -127);
                }
            }
            Bench(report, sets, sequence).check({58, 12, 5, 0, 1024}, "largest integers");
        }
    }
}

// Queries, keys and values that are zero, denormal or large, scores that tie to half a unit or lie far apart.
void test_sizes(Report& report, const Sets& sets, KvType type) {
    const bool whole = type == KvType::I8;
    const float kLargest = type == KvType::F32 ? 1e18f : whole ? 127 : 65504;
    struct Size {
        const char* name;
        float q, key, value;
    };
    const Size kSizes[] = {
        {"zeros", 0, 1, 1},
        {"zero keys and values", 1, 0, 0},
        {"denormals", 1e-40f, whole ? 1.0f : 1e-7f, whole ? 1.0f : 6e-8f},
        {"large values", 1, 1, kLargest},
        {"far apart", 100, 1, 1},
    };
    for (const Size& size : kSizes) {
        Random random(12);
        Sequence sequence(type, 3, 24, 80, 0, random);
        for (int64_t i = 0; i < sequence.q.size(); ++i) sequence.q[i] *= size.q;
        for (int64_t p = 0; p < 80; ++p) {
            if (whole && size.q == 100) sequence.keys.set_scale(p, 1);
            if (whole && size.value == 0) sequence.values.set_scale(p, 0);
            if (whole && size.key == 0) sequence.keys.set_scale(p, 0);
            for (int64_t d = 0; d < 24; ++d) {
                if (size.key != 1) sequence.keys.set(p, d, size.key * static_cast<float>(random.whole(-1, 1)));
                if (size.value != 1) sequence.values.set(p, d, size.value * static_cast<float>(random.whole(-1, 1)));
            }
        }
        Bench(report, sets, sequence).check({55, 16, 3, 0, 1024}, size.name);
    }
    if (!whole) return;
    // The largest magnitude of a query is 32767, so the others are rounded as they are.
    Random random(13);
    Sequence sequence(type, 1, 16, 64, 0, random);
    for (int64_t i = 0; i < sequence.q.size(); ++i) {
        sequence.q[i] = i % 16 ? static_cast<float>(random.whole(-9, 9)) + 0.5f : 32767;
    }
    for (int64_t p = 0; p < 64; ++p) {
        sequence.keys.set_scale(p, 1e-3f);
        sequence.keys.set(p, 0, 0);
    }
    Bench(report, sets, sequence).check({48, 16, 1, 0, 64}, "ties");
}

}  // namespace

void test_attend(Report& report, const Sets& sets) {
    for (KvType type : {KvType::F16, KvType::F32, KvType::I8}) {
        report.begin(std::string("attend ") + kNames[static_cast<size_t>(type)]);
        test_shapes(report, sets, type);
        for (const Spoiled& spoiled : {Spoiled{"key", NAN}, Spoiled{"value", NAN}, Spoiled{"query", NAN},
                                       Spoiled{"value", HUGE_VALF}, Spoiled{"query", HUGE_VALF}}) {
            test_not_finite(report, sets, type, spoiled);
        }
        if (type != KvType::I8) test_not_finite(report, sets, type, {"key", HUGE_VALF});
        test_sizes(report, sets, type);
        if (type == KvType::I8) test_full_sums(report, sets);
        report.end();
    }
}

}  // namespace headrace::tests
