// Log-probabilities of the model's own distribution: the log-softmax of its logits, before anything that sampling does
// to them. In fp64, in the order of ids, so the bits depend on the logits alone.
#pragma once
#include <cstdint>
#include <span>

namespace headrace {

inline constexpr int64_t kMaxTopLogprobs = 64;  // likely tokens that a row may ask for

// What makes log-probabilities of logits. All are NaN if a logit is NaN or +infinity, or if all are -infinity.
struct LogSoftmax {
    double largest, log_total;  // of the logits, and of the sum of exp(logit - largest)

    explicit LogSoftmax(std::span<const float> logits);
    float of(float logit) const { return static_cast<float>(logit - largest - log_total); }
};

// The n most likely tokens, best first, ties to the lower id, and their log-probabilities. Where there are fewer, for a
// NaN is none, the rest is -1 and -infinity.
void find_likely(std::span<const float> logits, const LogSoftmax& softmax, int64_t n, int32_t* ids, float* logprobs);

}  // namespace headrace
