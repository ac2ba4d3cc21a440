// A plan bound to weights, kernels, threads and a cache, and the step: tokens in, sampled tokens out, or logits, their
// logarithms, or what the model thinks.
#pragma once
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "drafts.h"
#include "operations.h"
#include "sample.h"

namespace headrace {

struct Options {
    int64_t vocab_size;
    int64_t block_tokens;  // a multiple of kTile
    int64_t blocks;
    KvType kv;
    int threads;
    std::string isa;  // empty: the best
    int64_t draft_slots = 0, max_rewind = 0;
};

// Where a step writes what it gives. N is the batch's most_wanted(); L and K are how many routers the plan has and how
// many experts each of them chooses.
struct StepOutputs {
    int32_t* ids;         // [R]
    float* logprobs;      // [R], NaN for rows that want none; this and the next two may be null if N is -1
    int32_t* top_ids;     // [R, N], -1 beyond what a row wants
    float* top_logprobs;  // [R, N], -infinity beyond
    float* experts;       // [T, L, 2 K], numbers, best first, then weights; may be null if the batch wants none
};

class Model {
  public:
    // Throws a sentence if the plan, the weights and the options do not fit together. The bytes of the weights stay
    // where they are and must outlive the model.
    Model(const std::vector<StepSpec>& specs, const Weights& weights, const Options& options);

    const std::vector<Step>& steps() const { return plan_.steps; }
    int64_t vocab_size() const { return options_.vocab_size; }
    int64_t block_bytes() const { return cache_.block_bytes(); }

    // L and 2 K. Throws a sentence unless all routers choose equally many experts for each token.
    std::pair<int64_t, int64_t> routing_shape() const;
    // Of what the head, the plan's last step, reads. Throws a sentence if that is not one value.
    int64_t hidden_width() const;

    // Each checks its arguments first and throws a sentence, before anything has changed; then does it. One at a time.
    void step(const Batch& batch, const StepOutputs& out);
    void logits(const Batch& batch, float* out);                       // out [R, V]
    void hidden(const Batch& batch, float* out);                       // out [R, hidden_width()]: no logits are made
    void values(const Batch& batch, const std::vector<float*>& outs);  // the value of every step
    void copy_block(int64_t source, int64_t target);
    void read_block(int64_t block, uint8_t* out);                     // out [block_bytes()]
    void write_block(int64_t block, std::span<const uint8_t> bytes);  // as read_block gave them

  private:
    void check(const Batch& batch);
    void check_block(int64_t block) const;
    std::vector<float*> place_values(const Batch& batch, size_t steps);
    void place_routings(const Batch& batch, std::vector<float*>& values);
    void write_routings(const Batch& batch, float* out);
    template <typename Last>
    void run(const Batch& batch, const std::vector<float*>& values, size_t steps, const Last& last);
    void finish_row(const Batch& batch, int64_t row, std::span<float> logits, SampleScratch& scratch, int64_t n,
                    const StepOutputs& out);
    int32_t sample_row(const Batch& batch, int64_t row, std::span<float> logits, SampleScratch& scratch);

    Options options_;
    BoundPlan plan_;
    const Kernels& kernels_;
    Cache cache_;
    DraftSlots drafts_;
    Scratch scratch_;
    std::vector<SampleScratch> sampling_;  // for each thread
    std::vector<Buffer<float>> buffers_;   // of the plan
    Buffer<float> routings_;               // [L, T, 2 K]
    std::vector<int32_t> block_owner_;
    std::mutex mutex_;
    Pool pool_;
};

}  // namespace headrace
