#include "batch.h"

#include <algorithm>
#include <limits>

#include "logprobs.h"
#include "require.h"

namespace headrace {
namespace {

void check_length(const char* name, size_t length, int64_t expected) {
    require(static_cast<int64_t>(length) == expected, "batch.", name, " has length ", length, ": expected ", expected);
}

void check_offsets(const char* name, std::span<const int32_t> offsets, int64_t owners, size_t total, int32_t least) {
    check_length(name, offsets.size(), owners + 1);
    require(offsets.front() == 0 && offsets.back() == static_cast<int64_t>(total), "batch.", name,
            " must run from 0 to ", total);
    for (size_t i = 1; i < offsets.size(); ++i) {
        require(offsets[i] >= offsets[i - 1] && offsets[i] - offsets[i - 1] >= least, "batch.", name, " must grow by ",
                least, " or more at each step, but goes from ", offsets[i - 1], " to ", offsets[i]);
    }
}

void check_indices(const char* name, std::span<const int32_t> indices, int64_t least, int64_t end) {
    for (int32_t index : indices) {
        require(index >= least && index < end, "batch.", name, " holds ", index, ": expected ", least, " to ", end - 1);
    }
}

void check_range(const char* name, std::span<const float> values, int64_t rows, float least, float most) {
    check_length(name, values.size(), rows);
    for (float value : values) {  // written so that NaN fails
        require(value >= least && value <= most, "batch.", name, " holds ", value, ": expected ", least, " to ", most);
    }
}

void check_sequences(const Batch& b, const BatchLimits& limits) {
    check_offsets("starts", b.starts, b.sequence_count(), b.tokens.size(), 1);
    check_offsets("block_starts", b.block_starts, b.sequence_count(), b.blocks.size(), 1);
    check_indices("tokens", b.tokens, 0, limits.vocab_size);
    check_indices("blocks", b.blocks, 0, limits.blocks);
    for (int64_t s = 0; s < b.sequence_count(); ++s) {
        const int64_t end = int64_t{b.positions[s]} + b.starts[s + 1] - b.starts[s];
        const int64_t room = (int64_t{b.block_starts[s + 1]} - b.block_starts[s]) * limits.block_tokens;
        require(b.positions[s] >= 0, "batch.positions holds ", b.positions[s], ": expected 0 or more");
        require(end <= room, "sequence ", s, " reaches position ", end, " but its cache blocks hold ", room);
    }
}

// Two sequences may read the same block; one that is written must belong to one sequence alone, and stand once in it.
void check_writers(const Batch& b, const BatchLimits& limits, std::vector<int32_t>& owner) {
    constexpr int32_t kNobody = -1;
    owner.assign(static_cast<size_t>(limits.blocks), kNobody);
    const auto each_written = [&](auto&& visit) {
        for (int64_t s = 0; s < b.sequence_count(); ++s) {
            const int64_t end = int64_t{b.positions[s]} + b.starts[s + 1] - b.starts[s];
            for (int64_t i = b.positions[s] / limits.block_tokens; i * limits.block_tokens < end; ++i) {
                visit(b.block_starts[s] + i);
            }
        }
    };
    each_written([&](int64_t place) { owner[b.blocks[place]] = static_cast<int32_t>(place); });
    for (int64_t place = 0; place < static_cast<int64_t>(b.blocks.size()); ++place) {
        const int32_t block = b.blocks[place];
        require(owner[block] == kNobody || owner[block] == place, "cache block ", block,
                " is written in this step, so it must stand once in batch.blocks");
    }
}

// A slot is of one sequence, and a sequence goes back only by tokens that its slot still knows.
void check_drafts(const Batch& b, const BatchLimits& limits) {
    check_length("slots", b.slots.size(), b.sequence_count());
    check_length("rewinds", b.rewinds.size(), b.sequence_count());
    check_indices("slots", b.slots, -1, static_cast<int64_t>(limits.drafts.size()));
    check_indices("rewinds", b.rewinds, 0, limits.max_rewind + 1);
    for (auto slot = b.slots.begin(); slot != b.slots.end(); ++slot) {
        require(*slot < 0 || std::find(slot + 1, b.slots.end(), *slot) == b.slots.end(), "draft slot ", *slot,
                " must stand once in batch.slots");
    }
    for (int64_t s = 0; s < b.sequence_count(); ++s) {
        const int64_t rewind = b.rewinds[s];
        if (rewind == 0) continue;
        require(b.slots[s] >= 0, "sequence ", s, " rewinds ", rewind, " tokens, so it must name a draft slot");
        const DraftStep& last = limits.drafts[static_cast<size_t>(b.slots[s])];
        require(rewind <= last.tokens && b.positions[s] == last.end - rewind, "sequence ", s, " rewinds ", rewind,
                " tokens to position ", b.positions[s], " but the last step of draft slot ", b.slots[s], " had ",
                last.tokens, " tokens and ended at position ", last.end);
    }
}

void check_rows(const Batch& b) {
    check_indices("rows", b.rows, 0, b.token_count());
    for (size_t i = 1; i < b.rows.size(); ++i) {
        require(b.rows[i] > b.rows[i - 1], "batch.rows must ascend, but ", b.rows[i], " follows ", b.rows[i - 1]);
    }
}

void check_masks(const Batch& b, const BatchLimits& limits) {
    check_length("mask_rows", b.mask_rows.size(), b.row_count());
    check_indices("mask_rows", b.mask_rows, -1, b.mask_count);
    if (b.mask_count == 0) return;
    const int64_t words = (limits.vocab_size + 31) / 32;
    require(b.mask_words == words, "batch.mask has ", b.mask_words, " words a row: expected ", words);
    const uint32_t last = limits.vocab_size % 32 ? (1u << limits.vocab_size % 32) - 1 : ~0u;
    for (int64_t row = 0; row < b.mask_count; ++row) {
        const std::span<const uint32_t> bits =
            b.mask.subspan(static_cast<size_t>(row * words), static_cast<size_t>(words));
        const bool some =
            (bits.back() & last) || std::any_of(bits.begin(), bits.end() - 1, [](uint32_t w) { return w; });
        require(some, "row ", row, " of batch.mask allows no token");
    }
}

void check_sampling(const Batch& b, const BatchLimits& limits) {
    constexpr float kHuge = std::numeric_limits<float>::max();
    const int64_t rows = b.row_count();
    check_range("temperature", b.temperature, rows, 0, kHuge);
    check_range("top_p", b.top_p, rows, 0, 1);
    check_range("min_p", b.min_p, rows, 0, 1);
    check_range("repeat_penalty", b.repeat_penalty, rows, std::numeric_limits<float>::min(), kHuge);
    check_range("presence_penalty", b.presence_penalty, rows, -kHuge, kHuge);
    check_range("frequency_penalty", b.frequency_penalty, rows, -kHuge, kHuge);
    check_length("top_k", b.top_k.size(), rows);
    check_indices("top_k", b.top_k, 0, int64_t{1} << 31);
    check_length("seed", b.seed.size(), rows);
    check_offsets("history_starts", b.history_starts, rows, b.history.size(), 0);
    check_indices("history", b.history, 0, limits.vocab_size);
    check_offsets("bias_starts", b.bias_starts, rows, b.bias_ids.size(), 0);
    check_indices("bias_ids", b.bias_ids, 0, limits.vocab_size);
    check_range("bias_values", b.bias_values, static_cast<int64_t>(b.bias_ids.size()),
                -std::numeric_limits<float>::infinity(), kHuge);
    check_masks(b, limits);
}

void check_logprobs(const Batch& b, const BatchLimits& limits) {
    check_length("targets", b.targets.size(), b.row_count());
    check_indices("targets", b.targets, -1, limits.vocab_size);
    check_length("top_logprobs", b.top_logprobs.size(), b.row_count());
    check_indices("top_logprobs", b.top_logprobs, -1, kMaxTopLogprobs + 1);
}

}  // namespace

void check_batch(const Batch& batch, const BatchLimits& limits, std::vector<int32_t>& owner) {
    check_sequences(batch, limits);
    check_writers(batch, limits, owner);
    check_drafts(batch, limits);
    check_rows(batch);
    check_sampling(batch, limits);
    check_logprobs(batch, limits);
}

}  // namespace headrace
