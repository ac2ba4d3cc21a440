// A small model with every operation in it, and steps for it.
#pragma once
#include "check.h"
#include "model.h"

namespace headrace::tests {

inline constexpr int64_t kVocab = 96, kBlockTokens = 64, kBlocks = 24;

// The plan and the bytes of its weights.
class Plan {
  public:
    // Matrices of Q8_0 lie in panels if the kernels read them.
    explicit Plan(bool panels);
    const std::vector<StepSpec>& steps() const { return steps_; }
    const Weights& weights() const { return weights_; }

  private:
    using Names = std::vector<std::string>;

    int64_t add(const char* op, std::vector<int64_t> inputs, Names names, std::map<std::string, double> with = {});
    int64_t norm(int64_t x, const char* name);
    int64_t linear(int64_t x, const std::string& name, Type type, int64_t rows, int64_t columns);
    int64_t conv(int64_t x);
    int64_t attend(int64_t x, int64_t slot);
    int64_t experts(int64_t x);
    int64_t dense(int64_t x);
    std::string matrix(const std::string& name, Type type, int64_t rows, int64_t columns, int64_t count = 1);

    bool panels_;
    Random random_{31};
    std::vector<StepSpec> steps_;
    Weights weights_;
    std::vector<std::vector<uint8_t>> bytes_;  // whose own bytes stay where they are when this grows
};

// New tokens of a sequence.
struct Piece {
    int32_t position;
    std::vector<int32_t> tokens, blocks;
    int32_t slot = -1, rewind = 0;
};

struct Wanted {
    size_t rows = 3;  // the logits of so many tokens of each sequence, the last ones
    int32_t top_logprobs = -1;
    bool experts = false;
};

// A step of greedy sampling.
class Work {
  public:
    explicit Work(const std::vector<Piece>& pieces, const Wanted& wanted = {});
    Batch batch() const;
    int64_t rows() const { return static_cast<int64_t>(rows_.size()); }

  private:
    std::vector<int32_t> tokens_, starts_{0}, positions_, blocks_, block_starts_{0}, slots_, rewinds_, rows_;
    std::vector<int32_t> zeros_, none_, top_logprobs_;
    std::vector<float> floats_, ones_;
    std::vector<uint64_t> seeds_;
    bool experts_;
};

}  // namespace headrace::tests
