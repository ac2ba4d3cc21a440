#include "sample.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace headrace {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

// The finaliser of splitmix64 (Steele, Lea and Flood, 2014).
uint64_t mix(uint64_t z) {
    z += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

bool better(const Candidate& a, const Candidate& b) { return a.logit > b.logit || (a.logit == b.logit && a.id < b.id); }

void apply_penalties(std::span<float> logits, const Sampling& s, std::span<int32_t> counts) {
    for (int32_t id : s.history) ++counts[id];
    for (int32_t id : s.history) {
        const int32_t count = std::exchange(counts[id], 0);
        if (count == 0) continue;  // not the first time that this id comes by
        float& logit = logits[id];
        logit = logit > 0 ? logit / s.repeat_penalty : logit * s.repeat_penalty;
        logit -= s.presence_penalty;
        logit -= s.frequency_penalty * static_cast<float>(count);
    }
}

void apply_mask(std::span<float> logits, const uint32_t* mask) {
    for (size_t id = 0; id < logits.size(); ++id) {
        if (!(mask[id / 32] >> id % 32 & 1)) logits[id] = kNever;
    }
}

// Where no logit is a number, the lowest NaN: a row of -infinity may be barred for good. If all are that, the lowest.
int32_t most_likely(std::span<const float> logits, const uint32_t* mask) {
    const auto preferred = [](float a, float b) {
        if (std::isnan(a)) return b == kNever;
        return a > b || (std::isnan(b) && a > kNever);
    };
    int32_t best = -1;
    for (int32_t id = 0; id < static_cast<int32_t>(logits.size()); ++id) {
        if (mask && !(mask[id / 32] >> id % 32 & 1)) continue;
        if (best < 0 || preferred(logits[id], logits[best])) best = id;
    }
    return best;
}

// Candidates are kept unordered but for what each rule needs: `sorted` of them, from the front, are in their final
// order.
class Candidates {
  public:
    Candidates(std::span<const float> logits, float temperature, SampleScratch& scratch)
        : items_(scratch.candidates.data()), weights_(scratch.weights.data()) {
        for (int32_t id = 0; id < static_cast<int32_t>(logits.size()); ++id) {
            const float logit = logits[id] / temperature;
            if (logit > kNever) items_[count_++] = {logit, id};  // neither -infinity nor NaN
        }
        if (count_)
            largest_ = std::max_element(items_, items_ + count_, [](auto& a, auto& b) { return better(b, a); })->logit;
    }

    bool usable() const { return count_ > 0 && largest_ < std::numeric_limits<float>::infinity(); }

    void keep_top_k(int64_t k) {
        if (k == 0 || k >= count_) return;
        std::nth_element(items_, items_ + k, items_ + count_, better);
        count_ = k;
    }

    // Keeps a token while the more likely ones have less than top_p together.
    void keep_top_p(double top_p) {
        if (top_p >= 1) return;
        double total = 0, before = 0;
        for (int64_t i = 0; i < count_; ++i) total += weight(items_[i]);
        int64_t kept = 0;
        for (; kept < count_; ++kept) {
            if (kept > 0 && before >= top_p * total) break;
            sort_up_to(kept + 1);
            before += weight(items_[kept]);
        }
        count_ = kept;
    }

    // Keeps what is at least min_p times as likely as the most likely token.
    void keep_min_p(double min_p) {
        if (min_p <= 0) return;
        const double least = largest_ + std::log(min_p);
        const auto unlikely = [&](const Candidate& c) { return c.logit < least; };
        count_ = std::remove_if(items_, items_ + count_, unlikely) - items_;
    }

    int32_t draw(double random) {
        double total = 0;
        for (int64_t i = 0; i < count_; ++i) total += weights_[i] = weight(items_[i]);
        double left = random * total;
        for (int64_t i = 0; i < count_; ++i) {
            left -= weights_[i];
            if (left < 0) return items_[i].id;
        }
        return items_[count_ - 1].id;  // rounding
    }

  private:
    double weight(const Candidate& c) const { return std::exp(static_cast<double>(c.logit) - largest_); }

    void sort_up_to(int64_t count) {
        if (count <= sorted_) return;
        const int64_t end = std::min(count_, std::max<int64_t>(64, 4 * sorted_));
        std::partial_sort(items_ + sorted_, items_ + end, items_ + count_, better);
        sorted_ = end;
    }

    Candidate* items_;
    double* weights_;
    int64_t count_ = 0, sorted_ = 0;
    float largest_ = kNever;
};

}  // namespace

void SampleScratch::reserve(int64_t vocab_size) {
    if (counts.data()) return;
    candidates.reserve(vocab_size);
    weights.reserve(vocab_size);
    logits.reserve(vocab_size);
    counts.reserve(vocab_size);
    std::fill_n(counts.data(), vocab_size, 0);
}

double random_number(uint64_t seed, uint64_t position) {
    return static_cast<double>(mix(mix(seed) ^ mix(~position)) >> 11) * 0x1p-53;
}

int32_t sample(std::span<float> logits, const Sampling& s, SampleScratch& scratch) {
    for (size_t i = 0; i < s.bias_ids.size(); ++i) logits[s.bias_ids[i]] += s.bias_values[i];
    apply_penalties(logits, s, {scratch.counts.data(), logits.size()});
    if (s.mask) apply_mask(logits, s.mask);
    if (s.temperature == 0) return most_likely(logits, s.mask);
    Candidates candidates(logits, s.temperature, scratch);
    if (!candidates.usable()) return most_likely(logits, s.mask);
    candidates.keep_top_k(s.top_k);
    candidates.keep_top_p(s.top_p);
    candidates.keep_min_p(s.min_p);
    return candidates.draw(s.random);
}

}  // namespace headrace
