// One step's work as flat arrays, exactly as the engine lays it out (src/headrace/engine/batch.py).
#pragma once
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

    int64_t token_count() const { return static_cast<int64_t>(tokens.size()); }
    int64_t row_count() const { return static_cast<int64_t>(rows.size()); }
    int64_t sequence_count() const { return static_cast<int64_t>(positions.size()); }
};

struct BatchLimits {
    int64_t vocab_size, block_tokens, blocks;
};

// Throws a sentence unless every length, offset, index and parameter is in its range, and no block that a sequence
// writes is used by another. `owner` is scratch.
void check_batch(const Batch& batch, const BatchLimits& limits, std::vector<int32_t>& owner);

}  // namespace headrace
