#include "sequence.h"

#include <algorithm>

namespace headrace::tests {
namespace {

// The query as the kernels of an int8 cache see it: whole numbers, and what one is worth. Exactly so in every set.
struct Query {
    std::vector<double> numbers;
    double unit = 1;
};

Query seen_query(const float* q, int64_t n, KvType type) {
    if (type != KvType::I8) return {std::vector<double>(q, q + n), 1};
    Query out;
    float largest = 0;
    bool nan = false;
    for (int64_t d = 0; d < n; ++d) {
        largest = std::max(largest, std::fabs(q[d]));
        nan |= std::isnan(q[d]);
    }
    const float inverse = 32767 / largest;
    const bool usable = !nan && std::isfinite(inverse) && std::isfinite(largest);
    out.unit = nan ? NAN : std::isinf(largest) ? largest : usable ? largest / 32767 : 0;
    for (int64_t d = 0; d < n; ++d) out.numbers.push_back(usable ? std::nearbyint(q[d] * inverse) : 0);
    return out;
}

}  // namespace

Tiles::Tiles(KvType type, bool keys, int64_t head_dim, int64_t positions, Random& random)
    : type_(type), keys_(keys), head_dim_(head_dim), stride_((head_dim + kHeadUnit - 1) / kHeadUnit * kHeadUnit) {
    const bool whole = type == KvType::I8;
    const int64_t unit = whole ? 1 : type == KvType::F16 ? 2 : 4, numbers = kTile * stride_;
    for (int64_t begin = 0; begin < positions; begin += kTile) {
        const int64_t slack = begin / kTile % 2 ? 0 : whole ? 4 : unit;  // an int8 tile has scales of fp32 in it
        tiles_.emplace_back(numbers * unit + (whole ? kTile * 4 : 0), slack);
        for (int64_t i = 0; i < numbers; ++i) store(tiles_.back().data(), i, whole ? 127 : NAN);
        if (whole) std::fill_n(scales(tiles_.back().data()), kTile, NAN);
        pointers_.push_back(tiles_.back().data());
    }
    numbers_.resize(static_cast<size_t>(positions * head_dim));
    scales_.resize(static_cast<size_t>(positions), 1);
    for (int64_t p = 0; p < positions; ++p) {
        if (whole) set_scale(p, random.uniform(0.001f, 0.02f));
        for (int64_t d = 0; d < head_dim; ++d) {
            set(p, d, whole ? static_cast<float>(random.whole(-127, 127)) : random.uniform(-1.5f, 1.5f));
        }
    }
}

void Tiles::set(int64_t p, int64_t d, float x) {
    const int64_t at = p % kTile;
    const bool pairs = type_ == KvType::I8;
    const int64_t i = !pairs  ? (keys_ ? d * kTile + at : at * stride_ + d)
                      : keys_ ? (d / 2 * kTile + at) * 2 + d % 2
                              : (at / 2 * stride_ + d) * 2 + at % 2;
    store(tiles_[static_cast<size_t>(p / kTile)].data(), i, x);
    numbers_[static_cast<size_t>(p * head_dim_ + d)] = type_ == KvType::F16 ? half_value(half_bits(x)) : x;
}

void Tiles::store(uint8_t* tile, int64_t i, float x) {
    const uint16_t half = half_bits(x);
    if (type_ == KvType::F16) std::memcpy(tile + 2 * i, &half, 2);
    if (type_ == KvType::F32) std::memcpy(tile + 4 * i, &x, 4);
    if (type_ == KvType::I8) tile[i] = static_cast<uint8_t>(static_cast<int8_t>(x));
}

Sequence::Sequence(KvType type, int64_t heads, int64_t head_dim, int64_t positions, int64_t slack, Random& random)
    : type(type),
      heads(heads),
      head_dim(head_dim),
      q(positions * heads * head_dim, slack),
      keys(type, true, head_dim, positions, random),
      values(type, false, head_dim, positions, random) {
    for (int64_t i = 0; i < q.size(); ++i) q[i] = random.uniform(-1, 1);
}

// The softmax of what a token sees from `begin` on, in fp64. Where a kernel's rounding takes it:
//   scores    A sum of head_dim products in fp32 rounds each term head_dim times. In an int8 cache the sum is exact and
//             three steps round it: to fp32, times the query's unit times the key's scale.
//   weights   A score's error, and that of the largest, are relative errors of a weight, as are those of the
//             exponential and of its argument, the difference to the largest. Each tile that raises the largest
//             multiplies everything before it by another exponential.
//   sums      add up as many terms as there are positions, and are multiplied once for each tile. In an int8 cache,
//             weight times scale is rounded to a whole number of units: half a unit, and 2^-7 for a quotient that was
//             itself rounded (32767 times three units of fp32).
// A weight below e^-87, and an int8 cache's below 32767 / FLT_MAX of the largest, counts as zero.
Answer Sequence::answer(int64_t position, int64_t head, int64_t begin, int64_t end) const {
    const int64_t last = std::min(position + 1, end), seen = last - begin;
    if (seen <= 0) return {{-HUGE_VAL}, {0}, std::vector<Expected>(static_cast<size_t>(head_dim))};
    const Query query = seen_query(this->query(position, head), head_dim, type);
    const bool whole = type == KvType::I8;
    std::vector<double> weights;
    double off = 0, largest = -HUGE_VAL, least = HUGE_VAL;
    for (int64_t p = begin; p < last; ++p) {
        double score = 0, magnitude = 0;
        for (int64_t d = 0; d < head_dim; ++d) {
            score += query.numbers[static_cast<size_t>(d)] * keys.at(p, d);
            magnitude += std::fabs(query.numbers[static_cast<size_t>(d)] * keys.at(p, d));
        }
        const double unit = query.unit * keys.scale(p);
        const double rounds = whole ? 3 : static_cast<double>(head_dim);
        off = std::max(off, rounds * kUnit * (whole ? std::fabs(score * unit) : magnitude) + kLeast);
        weights.push_back(score * unit);
        largest = std::max(largest, score * unit);
        least = std::min(least, score * unit);
    }
    double total = 0;
    for (double& weight : weights) total += weight = std::exp(weight - largest);
    const auto tiles = static_cast<double>((seen + kTile - 1) / kTile), count = static_cast<double>(seen);
    const double range = std::min(largest - least, 88.0);
    const double relative =
        std::expm1(2 * (off + range * kUnit) + (tiles + 1) * kExponential + (count + 2 * tiles + 2) * kUnit);
    const double lost = count * std::exp(-87.0);
    Answer answer{{largest, off}, {total, relative * total + lost}, {}};
    for (int64_t d = 0; d < head_dim; ++d) {
        double sum = 0, magnitude = 0, most = 0, rounding = 0;
        for (int64_t tile = begin; tile < last; tile += kTile) {
            double unit = 0, numbers = 0;
            for (int64_t p = tile; p < std::min(tile + kTile, last); ++p) {
                const double weight = weights[static_cast<size_t>(p - begin)] * values.scale(p);
                sum += weight * values.at(p, d);
                magnitude += std::fabs(weight * values.at(p, d));
                most = std::max(most, std::fabs(values.at(p, d)));
                unit = std::max(unit, weight / 32767);
                numbers += std::fabs(values.at(p, d));
            }
            if (whole) rounding += (0.5 + 0x1p-7) * unit * numbers;
        }
        answer.sums.push_back({sum, relative * (magnitude + rounding) + rounding + lost * most});
    }
    return answer;
}

}  // namespace headrace::tests
