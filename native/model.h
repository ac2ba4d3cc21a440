// A plan bound to weights, kernels, threads and a cache, and the step: tokens in, logits or sampled tokens out.
#pragma once
#include <mutex>
#include <string>
#include <vector>

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
};

class Model {
  public:
    // Throws a sentence if the plan, the weights and the options do not fit together. The bytes of the weights stay
    // where they are and must outlive the model.
    Model(const std::vector<StepSpec>& specs, const Weights& weights, const Options& options);

    const std::vector<Step>& steps() const { return plan_.steps; }
    int64_t vocab_size() const { return options_.vocab_size; }

    // Each checks the batch first and throws a sentence, before anything has changed; then runs it. One at a time.
    void step(const Batch& batch, int32_t* ids);                       // ids [R]
    void logits(const Batch& batch, float* out);                       // out [R, V]
    void values(const Batch& batch, const std::vector<float*>& outs);  // the value of every step

  private:
    void check(const Batch& batch);
    std::vector<float*> place_values(const Batch& batch);
    void run(const Batch& batch, const std::vector<float*>& values, int32_t* ids);
    int32_t sample_row(const Batch& batch, int64_t row, float* logits, int thread);

    Options options_;
    BoundPlan plan_;
    const Kernels& kernels_;
    Cache cache_;
    Scratch scratch_;
    std::vector<SampleScratch> sampling_;  // for each thread
    std::vector<Buffer<float>> buffers_;   // of the plan
    std::vector<int32_t> block_owner_;
    std::mutex mutex_;
    Pool pool_;
};

}  // namespace headrace
