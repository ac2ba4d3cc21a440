// What each operation of a plan does in a step. All threads of the pool run the same operation together; each computes
// its own part, and `pool.sync()` stands wherever one part needs another.
#pragma once
#include <array>
#include <vector>

#include "batch.h"
#include "buffer.h"
#include "cache.h"
#include "drafts.h"
#include "plan.h"
#include "pool.h"
#include "quant.h"

namespace headrace {

inline constexpr int64_t kSpan = 1024;  // positions whose softmax is computed in one piece

// Consecutive new tokens of one sequence, at most kQueryTile, which read keys and values together.
struct QueryTile {
    int64_t sequence, first, tokens, position;
    int64_t spans;      // that they see
    int64_t first_row;  // in a list of all (span, token): span after span, tile after tile
};

// A span of a tile, which ends before `end_row` of that list.
struct QuerySpan {
    int64_t tile, span, end_row;
};

// Attention over some span, before it is divided by its softmax's total.
struct Partial {
    Buffer<float> sums;       // [tokens, heads, head_dim]
    Buffer<Softmax> softmax;  // [tokens, heads]
};

// Memory that one thread uses for itself.
struct OfThread {
    std::array<const void*, kSpan / kTile> keys, values;  // the tiles of a span
    Buffer<float> head;                                   // [3 head_dim]
    Partial span, whole;                                  // of kQueryTile tokens and the query heads of one kv head
    Buffer<float> piece, up;                              // [kBlockPairs, rows], of an expert's piece
};

// Memory that operations use for themselves. Its size is settled before a step begins.
struct Scratch {
    Buffer<int32_t> token_position, token_sequence;  // [T]
    QuantisedRows input;                             // what linear and experts read
    Buffer<float> queries;                           // [T, heads, head_dim], rotated
    std::vector<QueryTile> query_tiles;              // of the batch
    std::vector<QuerySpan> query_spans;
    Partial spans;  // of all tokens, where threads share contexts
    std::vector<OfThread> of_thread;
    Buffer<float> inputs;  // [T + S (taps - 1), width], of a convolution
    Buffer<float> scores;  // [T, E], of a router

    // Experts, for a chunk of tokens: their (token, expert) pairs, sorted by expert.
    Buffer<int32_t> pair_token;    // [pairs]
    Buffer<float> pair_weight;     // [pairs]
    Buffer<int32_t> expert_start;  // [E + 1]
    Buffer<float> hidden;          // [pairs, I], what float matrices read
    QuantisedRows hidden_rows;     // [pairs, I], what quantised ones read
};

// One step in progress.
struct Pass {
    const Batch& batch;
    const Kernels& kernels;
    const Cache& cache;
    const DraftSlots& drafts;
    Scratch& scratch;
    Pool& pool;
    std::vector<float*> values;  // of each step of the plan

    int64_t rows(const Step& step) const { return step.selected ? batch.row_count() : batch.token_count(); }
};

// One operation on one thread.
struct Job {
    const Step& step;
    Pass& pass;
    int thread;

    const float* in(size_t i) const { return pass.values[static_cast<size_t>(step.inputs[i])]; }
    int64_t rows() const { return pass.rows(step); }
    Range mine(int64_t total, int64_t unit = 1) const { return share(total, unit, thread, pass.pool.threads()); }
};

// Makes room for a batch, and notes where its tokens stand. Only this may throw, for want of memory.
void reserve(Scratch& scratch, const BoundPlan& plan, const Batch& batch, int threads);

// Runs step `index` of the plan on one thread of the pool. Its value is complete after the next `sync`.
void run(const BoundPlan& plan, size_t index, Pass& pass, int thread);

}  // namespace headrace
