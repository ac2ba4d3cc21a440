#include "model.h"

#include "cpu.h"
#include "require.h"

namespace headrace {
namespace {

constexpr int64_t kMaxThreads = 1024;
constexpr int64_t kMaxBlocks = int64_t{1} << 31;

const Options& checked(const Options& o) {
    require(o.vocab_size > 0 && o.vocab_size < kMaxBlocks, "vocab_size is ", o.vocab_size,
            ": expected a positive number");
    require(o.block_tokens > 0 && o.block_tokens % kTile == 0 && o.block_tokens <= 1 << 20, "block_tokens is ",
            o.block_tokens, ": expected a multiple of ", kTile);
    require(o.blocks > 0 && o.blocks < kMaxBlocks, "blocks is ", o.blocks, ": expected a positive number");
    require(o.threads > 0 && o.threads <= kMaxThreads, "threads is ", o.threads, ": expected 1 to ", kMaxThreads);
    return o;
}

const Kernels& checked(const Kernels& kernels, const Weights& weights) {
    for (const auto& [name, matrices] : weights) {
        for (const Matrix& m : matrices) {
            require(!m.panels || kernels.panels[static_cast<size_t>(m.type)], "weight ", name, " lies in panels of ",
                    info(m.type).name, ", which ", kernels.name, " kernels do not read");
        }
    }
    return kernels;
}

template <typename T>
std::span<const T> part(std::span<const T> all, std::span<const int32_t> starts, int64_t i) {
    return all.subspan(static_cast<size_t>(starts[i]), static_cast<size_t>(starts[i + 1] - starts[i]));
}

}  // namespace

Model::Model(const std::vector<StepSpec>& specs, const Weights& weights, const Options& options)
    : options_(checked(options)),
      plan_(bind_plan(specs, weights, options.vocab_size)),
      kernels_(checked(find_kernels(options.isa), weights)),
      cache_(plan_.attends, plan_.convs, options.kv, options.block_tokens, options.blocks),
      sampling_(static_cast<size_t>(options.threads)),
      buffers_(plan_.buffer_widths.size()),
      pool_(options.threads) {}

void Model::step(const Batch& batch, int32_t* ids) {
    const std::lock_guard lock(mutex_);
    check(batch);
    for (SampleScratch& scratch : sampling_) scratch.reserve(options_.vocab_size);
    run(batch, place_values(batch), ids);
}

void Model::logits(const Batch& batch, float* out) {
    const std::lock_guard lock(mutex_);
    check(batch);
    std::vector<float*> values = place_values(batch);
    values.back() = out;
    run(batch, values, nullptr);
}

void Model::values(const Batch& batch, const std::vector<float*>& outs) {
    const std::lock_guard lock(mutex_);
    check(batch);
    run(batch, outs, nullptr);
}

void Model::check(const Batch& batch) {
    check_batch(batch, {options_.vocab_size, options_.block_tokens, options_.blocks}, block_owner_);
}

std::vector<float*> Model::place_values(const Batch& batch) {
    for (const Step& step : plan_.steps) {
        const int64_t rows = step.selected ? batch.row_count() : batch.token_count();
        buffers_[static_cast<size_t>(step.buffer)].reserve(rows * step.width);
    }
    std::vector<float*> values;
    for (const Step& step : plan_.steps) values.push_back(buffers_[static_cast<size_t>(step.buffer)].data());
    return values;
}

void Model::run(const Batch& batch, const std::vector<float*>& values, int32_t* ids) {
    if (batch.token_count() == 0) return;
    reserve(scratch_, plan_, batch, options_.threads);
    Pass pass{batch, kernels_, cache_, scratch_, pool_, values};
    pool_.run([&](int thread) {
        for (size_t i = 0; i < plan_.steps.size(); ++i) {
            if (pass.rows(plan_.steps[i]) == 0) continue;
            headrace::run(plan_, i, pass, thread);
            if (i + 1 == plan_.steps.size() || !plan_.steps[i + 1].joined) pool_.sync();
        }
        if (!ids) return;
        const Range mine = share(batch.row_count(), 1, thread, pool_.threads());
        for (int64_t row = mine.begin; row < mine.end; ++row) {
            ids[row] = sample_row(batch, row, values.back() + row * options_.vocab_size, thread);
        }
    });
}

int32_t Model::sample_row(const Batch& b, int64_t row, float* logits, int thread) {
    const int64_t words = b.mask_words, token = b.rows[row];
    const auto position = static_cast<uint64_t>(scratch_.token_position.data()[token]);
    const Sampling sampling{
        .temperature = b.temperature[row],
        .top_k = b.top_k[row],
        .top_p = b.top_p[row],
        .min_p = b.min_p[row],
        .repeat_penalty = b.repeat_penalty[row],
        .presence_penalty = b.presence_penalty[row],
        .frequency_penalty = b.frequency_penalty[row],
        .history = part(b.history, b.history_starts, row),
        .bias_ids = part(b.bias_ids, b.bias_starts, row),
        .bias_values = part(b.bias_values, b.bias_starts, row),
        .mask = b.mask_rows[row] < 0 ? nullptr : b.mask.data() + b.mask_rows[row] * words,
        .random = random_number(b.seed[row], position),
    };
    return sample({logits, static_cast<size_t>(options_.vocab_size)}, sampling, sampling_[static_cast<size_t>(thread)]);
}

}  // namespace headrace
