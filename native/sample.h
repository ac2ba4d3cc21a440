// From logits to a token, by the rules of transformers' logits processors, in this order: logit bias, repetition,
// presence and frequency penalty, allowed tokens; then the most likely token if the temperature is 0, else temperature,
// top-k, top-p, min-p, and a draw. Ties go to the lower id. A NaN is never chosen while there is another number.
#pragma once
#include <span>

#include "buffer.h"

namespace headrace {

struct Sampling {
    float temperature;
    int64_t top_k;  // 0: all
    float top_p;    // 1: all
    float min_p;    // 0: all
    float repeat_penalty, presence_penalty, frequency_penalty;
    std::span<const int32_t> history;  // what the penalties look at
    std::span<const int32_t> bias_ids;
    std::span<const float> bias_values;
    const uint32_t* mask;  // bit t % 32 of word t / 32 allows token t; null: all
    double random;         // uniform in [0, 1)
};

struct Candidate {
    float logit;
    int32_t id;
};

// Scratch of one thread.
struct SampleScratch {
    Buffer<Candidate> candidates;  // [V]
    Buffer<double> weights;        // [V]
    Buffer<int32_t> counts;        // [V], zero between calls
    Buffer<float> logits;          // [V], for who needs them as they were

    void reserve(int64_t vocab_size);  // once: a model has one vocabulary
};

// Uniform in [0, 1), a hash of both: the same whatever else runs.
double random_number(uint64_t seed, uint64_t position);

// Changes the logits [V].
int32_t sample(std::span<float> logits, const Sampling& sampling, SampleScratch& scratch);

}  // namespace headrace
