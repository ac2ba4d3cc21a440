// One step's work as flat arrays, exactly as the engine lays it out (src/headrace/engine/batch.py).
#pragma once
#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

namespace headrace {

// T tokens of S sequences, R of whose logits are wanted. `_starts` are offsets, one more than there are owners.
struct Batch {
    std::span<const int32_t> tokens;        // [T]
    std::span<const int32_t> starts;        // [S + 1] in tokens
    std::span<const int32_t> positions;     // [S] of each sequence's first token
    std::span<const int32_t> blocks;        // cache blocks, in the order of their positions
    std::span<const int32_t> block_starts;  // [S + 1]
    std::span<const int32_t> slots;         // [S] draft slots, or -1
    std::span<const int32_t> rewinds;       // [S] tokens of the slot's last step that do not count
    std::span<const int32_t> rows;          // [R] indices into tokens, ascending

    std::span<const float> temperature;  // [R], as all that follows unless a shape is given
    std::span<const int32_t> top_k;
    std::span<const float> top_p, min_p;
    std::span<const float> repeat_penalty, presence_penalty, frequency_penalty;
    std::span<const uint64_t> seed;
    std::span<const int32_t> history, history_starts;  // history_starts [R + 1]
    std::span<const int32_t> bias_ids, bias_starts;    // bias_starts [R + 1]
    std::span<const float> bias_values;
    std::span<const uint32_t> mask;  // [mask_count, mask_words], bit t % 32 of word t / 32 allows token t
    int64_t mask_count, mask_words;
    std::span<const int32_t> mask_rows;  // row of mask, or -1
    std::span<const int32_t> targets;    // the token that the row is about; -1: one is sampled
    std::span<const int32_t>
        top_logprobs;  // likely tokens that are wanted beside the row's own; -1: no log-probabilities
    bool experts;      // whether the routing is wanted

    int64_t token_count() const { return static_cast<int64_t>(tokens.size()); }
    int64_t row_count() const { return static_cast<int64_t>(rows.size()); }
    int64_t sequence_count() const { return static_cast<int64_t>(positions.size()); }

    // The most likely tokens that any row wants, or -1: no row wants log-probabilities.
    int64_t most_wanted() const {
        return top_logprobs.empty() ? -1 : *std::max_element(top_logprobs.begin(), top_logprobs.end());
    }
};

// What a draft slot remembers of: the last step that named it.
struct DraftStep {
    int64_t end = 0, tokens = 0;  // `tokens` tokens, the last of them at position end - 1
};

struct BatchLimits {
    int64_t vocab_size, block_tokens, blocks;
    int64_t max_rewind;
    std::span<const DraftStep> drafts;  // of each slot
};

// Throws a sentence unless every length, offset, index and parameter is in its range, and no block that a sequence
// writes is used by another. `owner` is scratch.
void check_batch(const Batch& batch, const BatchLimits& limits, std::vector<int32_t>& owner);

}  // namespace headrace
