// What each operation of a plan does in a step. All threads of the pool run the same operation together; each computes
// its own part, and `pool.sync()` stands wherever one part needs another.
#pragma once
#include <vector>

#include "batch.h"
#include "buffer.h"
#include "cache.h"
#include "plan.h"
#include "pool.h"
#include "quant.h"

namespace headrace {

// Memory that operations use for themselves. Its size is settled before a step begins.
struct Scratch {
    Buffer<int32_t> token_position, token_sequence;  // [T]
    QuantisedRows input;                             // what linear and experts read
    Buffer<float> queries;                           // [T, heads, head_dim], rotated
    Buffer<float> inputs;                            // [T + S (taps - 1), width], of a convolution
    std::vector<std::vector<const void*>> tiles;     // for each thread, of an attention's keys and values
    std::vector<Buffer<float>> head;                 // for each thread, [3 head_dim]
    Buffer<float> scores;                            // [T, E], of a router

    // Experts, for a chunk of tokens: their (token, expert) pairs, sorted by expert.
    Buffer<int32_t> pair_token;    // [pairs]
    Buffer<int32_t> place;         // [tokens, top_k] where a token's pairs stand
    Buffer<int32_t> expert_start;  // [E + 1]
    Buffer<float> gate, up, down;  // [pairs, I], [pairs, I], [pairs, H]
    QuantisedRows hidden;          // [pairs, I]
};

// One step in progress.
struct Pass {
    const Batch& batch;
    const Kernels& kernels;
    const Cache& cache;
    Scratch& scratch;
    Pool& pool;
    std::vector<float*> values;  // of each step of the plan

    int64_t rows(const Step& step) const { return step.selected ? batch.row_count() : batch.token_count(); }
};

// Makes room for a batch, and notes where its tokens stand. Only this may throw, for want of memory.
void reserve(Scratch& scratch, const BoundPlan& plan, const Batch& batch, int threads);

// Runs step `index` of the plan on one thread of the pool. Its value is complete after the next `sync`.
void run(const BoundPlan& plan, size_t index, Pass& pass, int thread);

}  // namespace headrace
