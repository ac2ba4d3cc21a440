// The kernels of one row of numbers: quantise, norm, swiglu, add_scaled and to_half, and those that measure the
// machine.
#include <algorithm>
#include <cfloat>
#include <functional>

#include "check.h"

namespace headrace::tests {
namespace {

// Every length around the lanes of a vector, and some long ones.
std::vector<int64_t> lengths() {
    std::vector<int64_t> all;
    for (int64_t n = 1; n <= 70; ++n) all.push_back(n);
    all.insert(all.end(), {127, 128, 129, 2048});
    return all;
}

Input<float> copy(const std::vector<float>& numbers, int64_t slack) {
    Input<float> input(static_cast<int64_t>(numbers.size()), slack);
    std::copy(numbers.begin(), numbers.end(), input.data());
    return input;
}

// Uniform, times a power of two between these for each number.
std::vector<float> random_row(Random& random, int64_t n, int64_t least = 0, int64_t most = 0) {
    std::vector<float> row;
    for (int64_t i = 0; i < n; ++i) {
        row.push_back(std::ldexp(random.uniform(-1, 1), static_cast<int>(random.whole(least, most))));
    }
    return row;
}

// --- quantise --------------------------------------------------------------------------------------------------------

struct Group {
    float scale;
    int8_t q[kGroup];
};

// kernels.h, operation by operation. It leaves q open where the scale is not a number of use; all sets store zeros.
Group quantised(const float* x) {
    Group group{};
    float largest = 0;
    bool nan = false;
    for (int64_t k = 0; k < kGroup; ++k) {
        nan |= std::isnan(x[k]);
        if (std::fabs(x[k]) > largest) largest = std::fabs(x[k]);
    }
    if (nan || std::isinf(largest)) {
        group.scale = nan ? NAN : largest;
        return group;
    }
    if (largest == 0 || std::isinf(127 / largest)) return group;
    group.scale = largest / 127;
    const double inverse = 127 / largest;
    for (int64_t k = 0; k < kGroup; ++k) {
        const auto scaled = static_cast<float>(x[k] * inverse);  // a product of two fp32 is exact in fp64
        const double whole = std::floor(scaled), above = scaled - whole;
        const bool up = above > 0.5 || (above == 0.5 && std::fmod(whole, 2) != 0);
        group.q[k] = static_cast<int8_t>(whole + up);
    }
    return group;
}

void check_quantise(Report& report, const Sets& sets, const std::vector<float>& x, const char* what) {
    const auto n = static_cast<int64_t>(x.size());
    std::vector<Group> groups;
    for (int64_t at = 0; at < n; at += kGroup) groups.push_back(quantised(x.data() + at));
    const auto sum = [&](int64_t half) {
        int32_t total = 0;
        for (int64_t k = 0; k < kHalfGroup; ++k) {
            total -= groups[static_cast<size_t>(half / 2)].q[half % 2 * kHalfGroup + k];
        }
        return Expected{number(total)};
    };
    for (const Kernels* set : sets) {
        for (int64_t shift = 0; shift < 2; ++shift) {
            const Input<float> input = copy(x, shift);
            Output<int8_t> q(n, shift);
            Output<float> scale(n / kGroup, shift);
            Output<int32_t> neg_sum(n / kHalfGroup, shift);
            set->quantise(input.data(), n, q.data(), scale.data(), neg_sum.data());
            const auto describe = [&](const char* output) {
                return [=] { return shape(output, what, "n", n, "shift", shift); };
            };
            const auto group = [&](int64_t i) { return groups[static_cast<size_t>(i / kGroup)]; };
            report.compare(
                set->name, q, [&](int64_t i) { return Expected{number(group(i).q[i % kGroup])}; }, describe("q of"));
            report.compare(
                set->name, scale, [&](int64_t i) { return Expected{group(i * kGroup).scale}; }, describe("scale of"));
            report.compare(set->name, neg_sum, sum, describe("neg_sum of"));
        }
    }
}

void test_quantise(Report& report, const Sets& sets) {
    Random random(3);
    for (int64_t groups : {1, 2, 3, 5, 64}) {
        check_quantise(report, sets, random_row(random, groups * kGroup, -3, 3), "random numbers");
    }
    // Wherever it stands, the largest magnitude, a NaN or an infinity is found.
    for (float special : {3.0f, -3.0f, NAN, HUGE_VALF, -HUGE_VALF, FLT_MAX, -FLT_MAX}) {
        for (int64_t place = 0; place < kGroup; ++place) {
            std::vector<float> x = random_row(random, 3 * kGroup);
            x[static_cast<size_t>(kGroup + place)] = special;
            check_quantise(report, sets, x, "one special number");
        }
    }
    // 127 / max |x| is 1, so x is rounded as it is: k + 1/2 goes to the even neighbour, and what is a bit off does not.
    std::vector<float> ties;
    for (int k = -127; k < 127; ++k) {
        const float tie = static_cast<float>(k) + 0.5f;
        for (float x : {std::nextafter(tie, -200.0f), tie, std::nextafter(tie, 200.0f)}) {
            if (ties.size() % kGroup == 0) ties.push_back(127);
            ties.push_back(x);
        }
    }
    ties.resize(ties.size() / kGroup * kGroup);
    check_quantise(report, sets, ties, "ties");
    // With any other largest magnitude, what lies at a tie is decided by how x (127 / max |x|) rounds.
    std::vector<float> near_ties;
    for (int i = 0; i < 400; ++i) {
        const float largest = random.uniform(0.5f, 4);
        near_ties.push_back(largest);
        for (int64_t k = 1; k < kGroup; ++k) {
            const auto tie = static_cast<float>((static_cast<double>(random.whole(-127, 126)) + 0.5) * largest / 127);
            near_ties.push_back(k % 3 == 0 ? tie : std::nextafter(tie, k % 3 == 1 ? -9.0f : 9.0f));
        }
    }
    check_quantise(report, sets, near_ties, "almost ties");
    // All sizes down to those that count as zero.
    const float edge = 127 / FLT_MAX;
    for (float largest : {0.0f, -0.0f, 0x1p-149f, 0x1p-127f, std::nextafter(edge, 0.0f), std::nextafter(edge, 1.0f),
                          0x1p-120f, 0x1p-60f, 1e30f, FLT_MAX / 2, FLT_MAX}) {
        std::vector<float> x;
        for (int64_t k = 0; k < kGroup; ++k) x.push_back(k % 3 == 0 ? largest : k % 3 == 1 ? -largest / 3 : 0.0f);
        check_quantise(report, sets, x, "one size");
    }
}

// --- norm and swiglu -------------------------------------------------------------------------------------------------

// A sum of n squares has a relative error of n units at most, whatever the order. The mean and eps add two, the root
// halves what came before it; the root itself, the quotient and the two products round once each.
Expected normed(const std::vector<float>& x, double weight, double eps, size_t i) {
    const auto n = static_cast<double>(x.size());
    double squares = 0;
    for (float number : x) squares += double{number} * number;
    const double value = x[i] / std::sqrt(squares / n + eps) * weight;
    return {value, std::expm1(((n + 2) / 2 + 4) * kUnit) * std::fabs(value) + kLeast * (1 + std::fabs(weight))};
}

void check_norm(Report& report, const Sets& sets, const std::vector<float>& x, float eps, const char* what) {
    const auto n = static_cast<int64_t>(x.size());
    Random random(4);
    const std::vector<float> weight = random_row(random, n, 1, 1);
    std::vector<Expected> expected;
    for (size_t i = 0; i < x.size(); ++i) expected.push_back(normed(x, weight[i], eps, i));
    for (const Kernels* set : sets) {
        for (int64_t shift = 0; shift < 2; ++shift) {
            const Input<float> input = copy(x, shift), weights = copy(weight, shift);
            Output<float> out(n, shift), in_place(n, shift);
            set->norm(input.data(), weights.data(), eps, n, out.data());
            report.compare(
                set->name, out, [&](int64_t i) { return expected[static_cast<size_t>(i)]; },
                [&] { return shape("of", what, "n", n, "shift", shift); });
            std::copy(x.begin(), x.end(), in_place.data());
            set->norm(in_place.data(), weights.data(), eps, n, in_place.data());
            report.compare(
                set->name, in_place, [&](int64_t i) { return Expected{out[i]}; },
                [&] { return shape("in place, of", what, "n", n, "shift", shift); });
        }
    }
}

void test_norm(Report& report, const Sets& sets) {
    Random random(5);
    for (int64_t n : lengths()) check_norm(report, sets, random_row(random, n, -2, 2), 1e-5f, "random numbers");
    check_norm(report, sets, std::vector<float>(40, 0.0f), 1e-5f, "zeros");
    check_norm(report, sets, std::vector<float>(40, 0.0f), 0, "zeros without eps");  // 0 / 0
    check_norm(report, sets, random_row(random, 40, -140, -130), 1e-5f, "denormals");
    check_norm(report, sets, random_row(random, 40, 55, 60), 1e-5f, "huge numbers");
    for (float special : {NAN, HUGE_VALF, -HUGE_VALF}) {
        for (size_t place : {0, 15, 16, 39}) {
            std::vector<float> x = random_row(random, 40);
            x[place] = special;
            check_norm(report, sets, x, 1e-5f, "one special number");
        }
    }
}

// An exponential has a relative error of 2 units (see kExponential in check.h); the sum, the quotient and the product
// round once each. Where e^-gate is larger than e^88, an exponential may stay at that (simd.h).
Expected gated(double gate, double up) {
    const double value = gate / (1 + std::exp(-gate)) * up, relative = std::expm1(kExponential + 3 * kUnit);
    const double bounded = gate < -88 ? std::fabs(gate * up) * std::exp(-88.0) * (1 + relative) : 0;
    return {value, relative * std::fabs(value) + bounded + kLeast * (1 + std::fabs(up))};
}

void check_swiglu(Report& report, const Sets& sets, const std::vector<float>& gate, const std::vector<float>& up,
                  const char* what) {
    const auto n = static_cast<int64_t>(gate.size());
    std::vector<Expected> expected;
    for (size_t i = 0; i < gate.size(); ++i) expected.push_back(gated(gate[i], up[i]));
    for (const Kernels* set : sets) {
        for (int64_t shift = 0; shift < 2; ++shift) {
            const Input<float> gates = copy(gate, shift), ups = copy(up, shift);
            Output<float> out(n, shift);
            set->swiglu(gates.data(), ups.data(), n, out.data());
            report.compare(
                set->name, out, [&](int64_t i) { return expected[static_cast<size_t>(i)]; },
                [&] { return shape("of", what, "n", n, "shift", shift); });
            for (bool over_gate : {true, false}) {
                Output<float> in_place(n, shift);
                const std::vector<float>& replaced = over_gate ? gate : up;
                std::copy(replaced.begin(), replaced.end(), in_place.data());
                set->swiglu(over_gate ? in_place.data() : gates.data(), over_gate ? ups.data() : in_place.data(), n,
                            in_place.data());
                report.compare(
                    set->name, in_place, [&](int64_t i) { return Expected{out[i]}; },
                    [&] { return shape("in place, of", what, "n", n, "shift", shift); });
            }
        }
    }
}

void test_swiglu(Report& report, const Sets& sets) {
    Random random(6);
    for (int64_t n : lengths()) {
        check_swiglu(report, sets, random_row(random, n, 0, 4), random_row(random, n), "random numbers");
    }
    std::vector<float> sweep, ups;
    for (float gate = -105; gate < 105; gate += 1.0f / 128) {
        sweep.push_back(gate);
        ups.push_back(random.uniform(-2, 2));
    }
    check_swiglu(report, sets, sweep, ups, "sweep");
    // Neighbours of where an exponential stops, denormals, both zeros, infinities, NaN; each beside each.
    const float numbers[] = {0.0f,    -0.0f,  1.4e-45f, -1.4e-45f, 1e-38f, 86.999f,   87.0f, 87.001f, 88.0f,
                             88.001f, -87.0f, -88.0f,   -89.0f,    1e30f,  HUGE_VALF, NAN,   -NAN};
    std::vector<float> gates, all_ups;
    for (float gate : numbers) {
        for (float up : {1.0f, -1.0f, 0.0f, 1.4e-45f, HUGE_VALF, NAN}) {
            const bool vanishes = (gate != 0 && std::fabs(gate) < 1e-37f) || gate < -88;  // once it is divided, in fp32
            if (vanishes && std::isinf(up)) continue;
            gates.push_back(gate);
            all_ups.push_back(up);
        }
    }
    check_swiglu(report, sets, gates, all_ups, "special numbers");
}

// --- add_scaled ------------------------------------------------------------------------------------------------------

// One rounding: every instruction set gives the same bits.
void check_add_scaled(Report& report, const Sets& sets, float weight, const std::vector<float>& x,
                      const std::vector<float>& before, const char* what) {
    const auto n = static_cast<int64_t>(x.size());
    for (const Kernels* set : sets) {
        for (int64_t shift = 0; shift < 2; ++shift) {
            const Input<float> input = copy(x, shift);
            Output<float> out(n, shift);
            std::copy(before.begin(), before.end(), out.data());
            set->add_scaled(weight, input.data(), n, out.data());
            report.compare(
                set->name, out,
                [&](int64_t i) {
                    return Expected{std::fma(weight, x[static_cast<size_t>(i)], before[static_cast<size_t>(i)])};
                },
                [&] { return shape("of", what, "n", n, "shift", shift); });
        }
    }
}

void test_add_scaled(Report& report, const Sets& sets) {
    Random random(9);
    for (int64_t n : lengths()) {
        const std::vector<float> x = random_row(random, n, -4, 4), before = random_row(random, n, -4, 4);
        check_add_scaled(report, sets, random.uniform(0, 1), x, before, "random numbers");
        check_add_scaled(report, sets, 0, x, before, "a weight of zero");
    }
    const std::vector<float> special = {0.0f,      -0.0f,      1.4e-45f, FLT_MAX, -FLT_MAX,
                                        HUGE_VALF, -HUGE_VALF, NAN,      1,       0x1p-126f};
    for (float weight : {1.0f, -3.0f, 1e-30f, HUGE_VALF, NAN}) {
        for (float number : special) {
            check_add_scaled(report, sets, weight, special, std::vector<float>(special.size(), number),
                             "special numbers");
        }
    }
}

// --- to_half and the machine's limits --------------------------------------------------------------------------------

void check_halves(Report& report, const Sets& sets, const std::vector<float>& x, const char* what) {
    const auto n = static_cast<int64_t>(x.size());
    for (const Kernels* set : sets) {
        for (int64_t shift = 0; shift < 2; ++shift) {
            const Input<float> input = copy(x, shift);
            Output<uint16_t> out(n, shift);
            set->to_half(input.data(), n, out.data());
            report.compare(
                set->name, out, [&](int64_t i) { return Expected{half_value(half_bits(x[static_cast<size_t>(i)]))}; },
                [&] { return shape("of", what, "n", n, "shift", shift); });
        }
    }
}

void test_to_half(Report& report, const Sets& sets) {
    Random random(7);
    for (int64_t n : lengths()) check_halves(report, sets, random_row(random, n, -30, 20), "random numbers");
    // Every fp16 and what lies between it and the next: the tie, and the floats on either side of both.
    std::vector<float> all;
    for (uint32_t bits = 0; bits <= 0x7c00; ++bits) {
        const auto here = static_cast<float>(half_value(static_cast<uint16_t>(bits)));
        const double next = bits < 0x7bff ? half_value(static_cast<uint16_t>(bits + 1)) : 65536;
        const auto tie = static_cast<float>((here + next) / 2);
        for (float x :
             {here, std::nextafter(here, HUGE_VALF), std::nextafter(tie, 0.0f), tie, std::nextafter(tie, HUGE_VALF)}) {
            all.push_back(x);
            all.push_back(-x);
        }
    }
    all.insert(all.end(), {NAN, -NAN, FLT_MAX, -FLT_MAX, 0x1p-149f, -0x1p-149f, 0x1p-126f});
    check_halves(report, sets, all, "every number");
    for (uint32_t payload = 1; payload < 0x7fffff; payload = payload * 3 + 1) {  // NaN stays NaN, whatever its payload
        const uint32_t bits = 0x7f800000u | payload;
        float nan;
        std::memcpy(&nan, &bits, sizeof nan);
        check_halves(report, sets, {1, nan, -1}, "NaN");
    }
}

// What they are for is their speed (probe.h); what they say must be true nevertheless.
void test_limits(Report& report, const Sets& sets) {
    for (int64_t n : {128, 256, 384, 4096}) {
        Random random(8);
        Input<float> x(n, n % 3);
        double sum = 0;
        for (int64_t i = 0; i < n; ++i) sum += x[i] = static_cast<float>(random.whole(-99, 99));  // every sum is exact
        for (const Kernels* set : sets) {
            Output<float> out(1);
            out[0] = set->read(x.data(), n);
            report.compare(set->name, out, [&](int64_t) { return Expected{sum}; }, [&] { return shape("n", n); });
        }
    }
    for (const Kernels* set : sets) {
        float keep = 1;
        const int64_t once = set->multiply_adds(1, &keep), often = set->multiply_adds(1000, &keep);
        report.require(set->name, once > 0 && often == 1000 * once && std::isfinite(keep),
                       [&] { return shape("multiply-adds", once, "and", often); });
    }
}

}  // namespace

void test_rows(Report& report, const Sets& sets) {
    const std::pair<const char*, void (*)(Report&, const Sets&)> tests[] = {
        {"quantise", test_quantise},     {"norm", test_norm},       {"swiglu", test_swiglu},
        {"add_scaled", test_add_scaled}, {"to_half", test_to_half}, {"read, multiply_adds", test_limits},
    };
    for (const auto& [kernel, test] : tests) {
        report.begin(kernel);
        test(report, sets);
        report.end();
    }
}

}  // namespace headrace::tests
