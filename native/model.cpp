#include "model.h"

#include <algorithm>
#include <limits>

#include "cpu.h"
#include "logprobs.h"
#include "require.h"

namespace headrace {
namespace {

constexpr int64_t kMaxThreads = 1024;
constexpr int64_t kMaxBlocks = int64_t{1} << 31;
constexpr int64_t kMaxDraftSlots = 1 << 20, kMaxRewind = 1 << 16;

const Options& checked(const Options& o) {
    require(o.vocab_size > 0 && o.vocab_size < kMaxBlocks, "vocab_size is ", o.vocab_size,
            ": expected a positive number");
    require(o.block_tokens > 0 && o.block_tokens % kTile == 0 && o.block_tokens <= 1 << 20, "block_tokens is ",
            o.block_tokens, ": expected a multiple of ", kTile);
    require(o.blocks > 0 && o.blocks < kMaxBlocks, "blocks is ", o.blocks, ": expected a positive number");
    require(o.threads > 0 && o.threads <= kMaxThreads, "threads is ", o.threads, ": expected 1 to ", kMaxThreads);
    require(o.draft_slots >= 0 && o.draft_slots <= kMaxDraftSlots, "draft_slots is ", o.draft_slots, ": expected 0 to ",
            kMaxDraftSlots);
    require(o.max_rewind >= 0 && o.max_rewind <= kMaxRewind, "max_rewind is ", o.max_rewind, ": expected 0 to ",
            kMaxRewind);
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
      drafts_(plan_.convs, options.draft_slots, options.max_rewind),
      sampling_(static_cast<size_t>(options.threads)),
      buffers_(plan_.buffer_widths.size()),
      pool_(options.threads) {}

std::pair<int64_t, int64_t> Model::routing_shape() const {
    int64_t width = 0;
    for (size_t route : plan_.routes) {
        const Step& step = plan_.steps[route];
        require(!step.selected && (width == 0 || width == step.width), "step ", route,
                " does not route every token to as many experts as the routers before it: batch.experts cannot be set");
        width = step.width;
    }
    return {static_cast<int64_t>(plan_.routes.size()), width};
}

int64_t Model::hidden_width() const {
    const Step& head = plan_.steps.back();
    require(std::holds_alternative<LinearStep>(head.operation),
            "the plan does not end in a linear step, so there is no hidden state before its head");
    return plan_.steps[static_cast<size_t>(head.inputs[0])].width;
}

void Model::step(const Batch& batch, const StepOutputs& out) {
    const std::lock_guard lock(mutex_);
    check(batch);
    for (SampleScratch& scratch : sampling_) scratch.reserve(options_.vocab_size);
    std::vector<float*> values = place_values(batch, plan_.steps.size());
    if (batch.experts) place_routings(batch, values);
    const int64_t n = batch.most_wanted();
    run(batch, values, plan_.steps.size(), [&](int thread) {
        const Range mine = share(batch.row_count(), 1, thread, pool_.threads());
        for (int64_t row = mine.begin; row < mine.end; ++row) {
            float* logits = values.back() + row * options_.vocab_size;
            finish_row(batch, row, {logits, static_cast<size_t>(options_.vocab_size)},
                       sampling_[static_cast<size_t>(thread)], n, out);
        }
    });
    if (batch.experts) write_routings(batch, out.experts);
}

void Model::logits(const Batch& batch, float* out) {
    const std::lock_guard lock(mutex_);
    check(batch);
    std::vector<float*> values = place_values(batch, plan_.steps.size());
    values.back() = out;
    run(batch, values, plan_.steps.size(), [](int) {});
}

void Model::hidden(const Batch& batch, float* out) {
    const std::lock_guard lock(mutex_);
    check(batch);
    hidden_width();
    const size_t steps = plan_.steps.size() - 1;
    std::vector<float*> values = place_values(batch, steps);
    values[static_cast<size_t>(plan_.steps[steps].inputs[0])] = out;
    run(batch, values, steps, [](int) {});
}

void Model::values(const Batch& batch, const std::vector<float*>& outs) {
    const std::lock_guard lock(mutex_);
    check(batch);
    run(batch, outs, plan_.steps.size(), [](int) {});
}

void Model::copy_block(int64_t source, int64_t target) {
    const std::lock_guard lock(mutex_);
    check_block(source);
    check_block(target);
    if (source != target) std::copy_n(cache_.block(source), cache_.block_bytes(), cache_.block(target));
}

void Model::read_block(int64_t block, uint8_t* out) {
    const std::lock_guard lock(mutex_);
    check_block(block);
    std::copy_n(cache_.block(block), cache_.block_bytes(), out);
}

void Model::write_block(int64_t block, std::span<const uint8_t> bytes) {
    const std::lock_guard lock(mutex_);
    check_block(block);
    require(static_cast<int64_t>(bytes.size()) == cache_.block_bytes(), "a cache block has ", cache_.block_bytes(),
            " bytes, but ", bytes.size(), " were given");
    std::copy(bytes.begin(), bytes.end(), cache_.block(block));
}

void Model::check(const Batch& batch) {
    const BatchLimits limits{options_.vocab_size, options_.block_tokens, options_.blocks, options_.max_rewind,
                             drafts_.last_steps()};
    check_batch(batch, limits, block_owner_);
    if (batch.experts) routing_shape();
}

void Model::check_block(int64_t block) const {
    require(block >= 0 && block < options_.blocks, "cache block ", block, " does not exist: expected 0 to ",
            options_.blocks - 1);
}

// Where the first `steps` steps of the plan write.
std::vector<float*> Model::place_values(const Batch& batch, size_t steps) {
    const std::span<const Step> some = std::span<const Step>(plan_.steps).first(steps);
    for (const Step& step : some) {
        const int64_t rows = step.selected ? batch.row_count() : batch.token_count();
        buffers_[static_cast<size_t>(step.buffer)].reserve(rows * step.width);
    }
    std::vector<float*> values;
    for (const Step& step : some) values.push_back(buffers_[static_cast<size_t>(step.buffer)].data());
    return values;
}

// Routings share no buffer with what comes after them, so that they are still there at the end of the step.
void Model::place_routings(const Batch& batch, std::vector<float*>& values) {
    const auto [routes, width] = routing_shape();
    routings_.reserve(routes * batch.token_count() * width);
    for (int64_t i = 0; i < routes; ++i) {
        values[plan_.routes[static_cast<size_t>(i)]] = routings_.data() + i * batch.token_count() * width;
    }
}

void Model::write_routings(const Batch& batch, float* out) {
    const auto [routes, width] = routing_shape();
    for (int64_t t = 0; t < batch.token_count(); ++t) {
        for (int64_t i = 0; i < routes; ++i, out += width) {
            std::copy_n(routings_.data() + (i * batch.token_count() + t) * width, width, out);
        }
    }
}

// The first `steps` steps of the plan; then `last(thread)`.
template <typename Last>
void Model::run(const Batch& batch, const std::vector<float*>& values, size_t steps, const Last& last) {
    if (batch.token_count() == 0) return;
    reserve(scratch_, plan_, batch, options_.threads);
    Pass pass{batch, kernels_, cache_, drafts_, scratch_, pool_, values};
    pool_.run([&](int thread) {
        for (size_t i = 0; i < steps; ++i) {
            if (pass.rows(plan_.steps[i]) == 0) continue;
            headrace::run(plan_, i, pass, thread);
            if (i + 1 == steps || !plan_.steps[i + 1].joined) pool_.sync();
        }
        last(thread);
    });
    drafts_.note(batch);
}

// From logits, which it changes, to all that is wanted of a row; `n` is the most that any row wants.
void Model::finish_row(const Batch& batch, int64_t row, std::span<float> logits, SampleScratch& scratch, int64_t n,
                       const StepOutputs& out) {
    const int32_t target = batch.targets[row], wanted = batch.top_logprobs[row];
    const std::span<float> kept{scratch.logits.data(), logits.size()};  // as the model gave them
    if (wanted >= 0) std::copy(logits.begin(), logits.end(), kept.begin());
    out.ids[row] = target < 0 ? sample_row(batch, row, logits, scratch) : target;
    if (n < 0) return;
    int32_t* top_ids = out.top_ids + row * n;
    float* top_logprobs = out.top_logprobs + row * n;
    const int64_t own = std::max(wanted, 0);
    std::fill(top_ids + own, top_ids + n, -1);
    std::fill(top_logprobs + own, top_logprobs + n, -std::numeric_limits<float>::infinity());
    out.logprobs[row] = std::numeric_limits<float>::quiet_NaN();
    if (wanted < 0) return;
    const LogSoftmax softmax(kept);
    out.logprobs[row] = softmax.of(kept[static_cast<size_t>(out.ids[row])]);
    find_likely(kept, softmax, own, top_ids, top_logprobs);
}

int32_t Model::sample_row(const Batch& b, int64_t row, std::span<float> logits, SampleScratch& scratch) {
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
    return sample(logits, sampling, scratch);
}

}  // namespace headrace
