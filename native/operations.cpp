#include "operations.h"

#include <algorithm>
#include <cmath>

#include "attention.h"
#include "panels.h"

namespace headrace {
namespace {

constexpr int64_t kRowUnit = 16;        // rows of a matrix, and channels, are dealt out in whole vectors
constexpr int64_t kExpertTokens = 512;  // tokens whose experts run together: bounds the memory of their pairs
constexpr int64_t kBlockPairs = 132;    // of an expert that meet a piece of its rows together: it stays in the cache
constexpr int64_t kExpertRows = 256;    // of a piece, at most

// --- matrices --------------------------------------------------------------------------------------------------------

// Rows of a matrix that are dealt out at a time: enough to stream from memory, and so many that the activations of a
// prompt, which each piece reads anew, count for little.
int64_t piece_rows(const Matrix& w, int64_t tokens, int threads) {
    const int64_t unit = w.panels ? kPanelRows : kRowUnit, pieces = tokens > kQueryTile ? 4 : 8;
    const int64_t rows = std::max(w.rows / (pieces * threads), std::min<int64_t>(256, w.rows / threads));
    return std::max(rows / unit * unit, unit);
}

// This thread's part of out = a w^T + bias (none if null): whole columns of `out`.
void multiply(Dealer& dealer, const Job& job, const Matrix& w, const Activations& a, const int32_t* index,
              int64_t tokens, float* out, int64_t out_stride, const float* bias = nullptr) {
    const auto* kernels = w.panels ? job.pass.kernels.panels : job.pass.kernels.linear;
    const int64_t piece = piece_rows(w, tokens, job.pass.pool.threads());
    dealer.deal((w.rows + piece - 1) / piece, [&](int64_t i) {
        const int64_t begin = i * piece, end = std::min(begin + piece, w.rows);
        kernels[static_cast<size_t>(w.type)](
            {w.data, w.row_bytes, w.columns, begin, end, a, index, tokens, out, out_stride});
        for (int64_t t = 0; bias && t < tokens; ++t) {
            for (int64_t r = begin; r < end; ++r) out[t * out_stride + r] += bias[r];
        }
    });
}

void quantise_input(const Job& job, const float* x, int64_t width) {
    const Range mine = job.mine(job.rows());
    for (int64_t t = mine.begin; t < mine.end; ++t) {
        job.pass.scratch.input.write(job.pass.kernels, t, x + t * width, width);
    }
    job.pass.pool.sync();
}

void run(const Embed& embed, const Job& job, float* out) {
    const Matrix& table = embed.table;
    const Range mine = job.mine(job.rows());
    for (int64_t t = mine.begin; t < mine.end; ++t) {
        const int64_t token = job.pass.batch.tokens[t];
        float* row = out + t * table.columns;
        const auto type = static_cast<size_t>(table.type);
        if (table.panels) {
            kDequantisePanel[type](table.data, table.row_bytes, token, table.columns, row);
        } else {
            kDequantise[type](table.data + token * table.row_bytes, table.columns, row);
        }
    }
}

void run(const LinearStep& linear, const Job& job, float* out) {
    const float* x = job.in(0);
    if (linear.quantise) quantise_input(job, x, linear.matrices[0].columns);
    const Activations a = job.pass.scratch.input.view(x, 0, linear.matrices[0].columns);
    Dealer dealer(job.pass.pool);
    for (size_t i = 0; i < linear.matrices.size(); ++i) {
        const Matrix& w = linear.matrices[i];
        const float* bias = linear.biases.empty() ? nullptr : linear.biases[i].data();
        multiply(dealer, job, w, a, nullptr, job.rows(), out, job.step.width, bias);
        out += w.rows;
    }
}

// --- one number or row after another ---------------------------------------------------------------------------------

void run(const Norm& norm, const Job& job, float* out) {
    const int64_t width = job.step.width;
    const Range mine = job.mine(job.rows());
    for (int64_t t = mine.begin; t < mine.end; ++t) {
        float* y = out + t * width;
        job.pass.kernels.norm(job.in(0) + t * width, norm.weight.data(), norm.eps, width, y);
        if (norm.quantise) job.pass.scratch.input.write(job.pass.kernels, t, y, width);
    }
}

void run(const SwiGlu&, const Job& job, float* out) {
    const int64_t width = job.step.width;
    const bool fused = job.step.inputs.size() == 1;  // gate and up side by side
    const float* gate = job.in(0);
    const float* up = fused ? gate + width : job.in(1);
    const int64_t stride = fused ? 2 * width : width;
    const Range mine = job.mine(job.rows());
    for (int64_t t = mine.begin; t < mine.end; ++t) {
        job.pass.kernels.swiglu(gate + t * stride, up + t * stride, width, out + t * width);
    }
}

void run(const Add&, const Job& job, float* out) {
    const int64_t width = job.step.width;
    const Range mine = job.mine(job.rows());
    const float *x = job.in(0), *y = job.in(1);
    for (int64_t i = mine.begin * width; i < mine.end * width; ++i) out[i] = x[i] + y[i];
}

void run(const Select&, const Job& job, float* out) {
    const int64_t width = job.step.width;
    const Range mine = job.mine(job.rows());
    for (int64_t r = mine.begin; r < mine.end; ++r) {
        std::copy_n(job.in(0) + job.pass.batch.rows[r] * width, width, out + r * width);
    }
}

// --- short convolution -----------------------------------------------------------------------------------------------

// A sequence's convolution: rows of bcx [n, 3 width] to rows of out [n, width], for the channels of one thread. `u`
// holds the convolution's inputs, taps - 1 of them from the past: u[taps - 1 + t] = B[t] x[t].
void convolve(const Conv& c, const float* bcx, int64_t n, Range channels, float* u, float* out) {
    float* now = u + (c.taps - 1) * c.width;
    for (int64_t t = 0; t < n; ++t) {
        const float *b = bcx + t * 3 * c.width, *x = b + 2 * c.width;
        for (int64_t h = channels.begin; h < channels.end; ++h) now[t * c.width + h] = b[h] * x[h];
    }
    for (int64_t t = 0; t < n; ++t) {
        const float* gate = bcx + t * 3 * c.width + c.width;
        float* y = out + t * c.width;
        for (int64_t h = channels.begin; h < channels.end; ++h) y[h] = c.bias.empty() ? 0 : c.bias[h];
        for (int64_t k = 0; k < c.taps; ++k) {
            const float *weight = c.weight.data() + k * c.width, *input = u + (t + k) * c.width;
            for (int64_t h = channels.begin; h < channels.end; ++h) y[h] += weight[h] * input[h];
        }
        for (int64_t h = channels.begin; h < channels.end; ++h) y[h] *= gate[h];
    }
}

void copy_rows(const float* from, float* to, int64_t rows, int64_t width, Range channels) {
    for (int64_t i = 0; i < rows; ++i) {
        std::copy(from + i * width + channels.begin, from + i * width + channels.end, to + i * width + channels.begin);
    }
}

void run(const Conv& c, const Job& job, float* out) {
    const Batch& batch = job.pass.batch;
    const Cache& cache = job.pass.cache;
    const DraftSlots& drafts = job.pass.drafts;
    const Range channels = job.mine(c.width, kRowUnit);
    const int64_t past = c.taps - 1, block_tokens = cache.block_tokens();
    for (int64_t s = 0; s < batch.sequence_count(); ++s) {
        const int64_t first = batch.starts[s], n = batch.starts[s + 1] - first, position = batch.positions[s];
        const int32_t* blocks = batch.blocks.data() + batch.block_starts[s];
        const int64_t slot = batch.slots[s], rewind = batch.rewinds[s];
        float* u = job.pass.scratch.inputs.data() + (first + s * past) * c.width;
        if (rewind > 0) {
            copy_rows(drafts.inputs(c.slot, slot, rewind), u, past, c.width, channels);
        } else if (position > 0) {
            copy_rows(cache.inputs(c.slot, blocks[(position - 1) / block_tokens]), u, past, c.width, channels);
        } else {
            for (int64_t i = 0; i < past; ++i) {
                std::fill(u + i * c.width + channels.begin, u + i * c.width + channels.end, 0.0f);
            }
        }
        convolve(c, job.in(0) + first * 3 * c.width, n, channels, u, out + first * c.width);
        for (int64_t b = position / block_tokens; b * block_tokens < position + n; ++b) {
            const int64_t written = std::min((b + 1) * block_tokens, position + n) - position;  // tokens up to its last
            copy_rows(u + written * c.width, cache.inputs(c.slot, blocks[b]), past, c.width, channels);
        }
        if (slot < 0) continue;
        const int64_t kept = std::min(n, drafts.max_rewind());
        copy_rows(u + (n - kept) * c.width, drafts.inputs(c.slot, slot, kept), past + kept, c.width, channels);
    }
}

void run(const AttendStep& a, const Job& job, float* out) { attend(a, job, out); }

// --- mixture of experts ----------------------------------------------------------------------------------------------

// The top_k best experts by score + bias, ties to the lower number, and the scores as weights. `row` [2 top_k].
void choose(const Route& r, const float* scores, float* row) {
    float* weights = row + r.top_k;
    float sum = 0;
    for (int64_t j = 0; j < r.top_k; ++j) {
        int64_t best = -1;
        float most = 0;
        for (int64_t e = 0; e < r.experts; ++e) {
            if (std::find(row, row + j, static_cast<float>(e)) != row + j) continue;
            const float score = r.bias.empty() ? scores[e] : scores[e] + r.bias[static_cast<size_t>(e)];
            if (best < 0 || score > most) best = e, most = score;
        }
        row[j] = static_cast<float>(best);
        weights[j] = scores[best];
        sum += weights[j];
    }
    for (int64_t j = 0; j < r.top_k; ++j) {
        if (r.normalise) weights[j] /= sum + 1e-6f;
        weights[j] *= r.scale;
    }
}

void run(const Route& r, const Job& job, float* out) {
    const int64_t width = static_cast<int64_t>(r.gate.size()) / r.experts;
    const Matrix gate{Type::F32, r.experts, width, width * static_cast<int64_t>(sizeof(float)),
                      reinterpret_cast<const uint8_t*>(r.gate.data())};
    float* scores = job.pass.scratch.scores.data();
    Dealer dealer(job.pass.pool);
    multiply(dealer, job, gate, {job.in(0), nullptr, nullptr, nullptr}, nullptr, job.rows(), scores, r.experts);
    job.pass.pool.sync();
    const Range mine = job.mine(job.rows());
    for (int64_t t = mine.begin; t < mine.end; ++t) {
        float* score = scores + t * r.experts;
        for (int64_t e = 0; e < r.experts; ++e) score[e] = 1 / (1 + std::exp(-score[e]));
        choose(r, score, out + t * job.step.width);
    }
}

// Sorts the (token, expert) pairs of tokens first .. first + n - 1 by expert, then by token. One thread does it.
void sort_pairs(const Experts& x, Scratch& scratch, const float* routing, int64_t first, int64_t n) {
    const int64_t experts = static_cast<int64_t>(x.gate.size());
    int32_t* start = scratch.expert_start.data();
    std::fill_n(start, experts + 1, 0);
    const auto each = [&](const auto& visit) {
        for (int64_t t = first; t < first + n; ++t) {
            const float* row = routing + t * 2 * x.top_k;
            for (int64_t j = 0; j < x.top_k; ++j) visit(t, static_cast<int64_t>(row[j]), row[x.top_k + j]);
        }
    };
    each([&](int64_t, int64_t expert, float) { ++start[expert + 1]; });
    for (int64_t e = 1; e <= experts; ++e) start[e] += start[e - 1];
    each([&](int64_t token, int64_t expert, float weight) {
        const int32_t place = start[expert]++;
        scratch.pair_token.data()[place] = static_cast<int32_t>(token);
        scratch.pair_weight.data()[place] = weight;
    });
    for (int64_t e = experts; e > 0; --e) start[e] = start[e - 1];  // each had moved on to the next one's start
    start[0] = 0;
}

// Rows of an expert's matrix that are dealt out at a time: whole groups of activations, for up gives down's input.
int64_t expert_rows(const Matrix& w, int threads) {
    return std::clamp<int64_t>(w.rows / (4 * threads), 128, kExpertRows) / kGroup * kGroup;
}

// Calls body(first, n) for an expert's pairs, as many at a time as stay in the cache with a piece of their outputs.
template <typename Body>
void for_blocks(Scratch& scratch, size_t expert, const Body& body) {
    const int32_t* start = scratch.expert_start.data();
    for (int64_t first = start[expert]; first < start[expert + 1]; first += kBlockPairs) {
        body(first, std::min<int64_t>(kBlockPairs, start[expert + 1] - first));
    }
}

// Some rows of a matrix: out [tokens, rows], which the kernel is told as if all rows were there.
void multiply_rows(const Job& job, const Matrix& w, Range rows, const Activations& a, const int32_t* index,
                   int64_t tokens, float* out) {
    const auto* kernels = w.panels ? job.pass.kernels.panels : job.pass.kernels.linear;
    kernels[static_cast<size_t>(w.type)]({w.data, w.row_bytes, w.columns, rows.begin, rows.end, a, index, tokens,
                                          out - rows.begin, rows.end - rows.begin});
}

// Some channels of what `down` reads, for all pairs of an expert: gate and up side by side, SwiGLU and quantising while
// they are in the cache.
void activate(const Experts& x, const Job& job, size_t expert, Range channels) {
    Scratch& scratch = job.pass.scratch;
    OfThread& mine = scratch.of_thread[static_cast<size_t>(job.thread)];
    const int64_t n = channels.end - channels.begin;
    const Activations a = scratch.input.view(job.in(0), 0, job.step.width);
    for_blocks(scratch, expert, [&](int64_t first, int64_t pairs) {
        const int32_t* tokens = scratch.pair_token.data() + first;
        multiply_rows(job, x.gate[expert], channels, a, tokens, pairs, mine.piece.data());
        multiply_rows(job, x.up[expert], channels, a, tokens, pairs, mine.up.data());
        for (int64_t p = 0; p < pairs; ++p) {
            float* gate = mine.piece.data() + p * n;
            float* hidden = x.quantise_hidden ? gate : scratch.hidden.data() + (first + p) * x.hidden + channels.begin;
            job.pass.kernels.swiglu(gate, mine.up.data() + p * n, n, hidden);
            if (!x.quantise_hidden) continue;
            scratch.hidden_rows.write(job.pass.kernels, first + p, x.hidden, channels.begin, hidden, n);
        }
    });
}

// Some columns of the sum over each token's experts, in the order of their numbers.
void combine(const Experts& x, const Job& job, int64_t first_token, int64_t tokens, Range columns, float* out) {
    Scratch& scratch = job.pass.scratch;
    OfThread& mine = scratch.of_thread[static_cast<size_t>(job.thread)];
    const int64_t width = job.step.width, n = columns.end - columns.begin;
    for (int64_t t = first_token; t < first_token + tokens; ++t) std::fill_n(out + t * width + columns.begin, n, 0.0f);
    for (size_t e = 0; e < x.down.size(); ++e) {
        for_blocks(scratch, e, [&](int64_t first, int64_t pairs) {
            const Activations hidden = scratch.hidden_rows.view(scratch.hidden.data(), first, x.hidden);
            multiply_rows(job, x.down[e], columns, hidden, nullptr, pairs, mine.piece.data());
            for (int64_t p = 0; p < pairs; ++p) {
                job.pass.kernels.add_scaled(scratch.pair_weight.data()[first + p], mine.piece.data() + p * n, n,
                                            out + scratch.pair_token.data()[first + p] * width + columns.begin);
            }
        });
    }
}

void run(const Experts& x, const Job& job, float* out) {
    Pool& pool = job.pass.pool;
    const int64_t width = job.step.width;
    if (x.quantise) quantise_input(job, job.in(0), width);
    for (int64_t first = 0; first < job.rows(); first += kExpertTokens) {
        const int64_t n = std::min(kExpertTokens, job.rows() - first);
        if (first > 0) pool.sync();
        if (job.thread == 0) sort_pairs(x, job.pass.scratch, job.in(1), first, n);
        pool.sync();
        const int32_t* start = job.pass.scratch.expert_start.data();
        const auto pieces = [&](const Matrix& w, const auto& body) {
            const int64_t rows = expert_rows(w, pool.threads()), count = (w.rows + rows - 1) / rows;
            return std::pair(count, [=](int64_t i) { body(Range{i * rows, std::min((i + 1) * rows, w.rows)}); });
        };
        Dealer inner(pool);
        for (size_t e = 0; e < x.gate.size(); ++e) {
            if (start[e] == start[e + 1]) continue;
            const auto [count, body] = pieces(x.gate[e], [&, e](Range r) { activate(x, job, e, r); });
            inner.deal(count, body);
        }
        pool.sync();
        Dealer outer(pool);
        const auto [count, body] = pieces(x.down[0], [&](Range r) { combine(x, job, first, n, r, out); });
        outer.deal(count, body);
    }
}

struct Reserve {
    Scratch& scratch;
    const Batch& batch;
    const Step& step;
    int64_t tokens;  // enough for rows, too
    int threads;

    void operator()(const LinearStep& linear) const {
        if (linear.quantise) scratch.input.reserve(tokens, linear.matrices[0].columns);
    }
    void operator()(const Conv& c) const {
        scratch.inputs.reserve((tokens + batch.sequence_count() * (c.taps - 1)) * c.width);
    }
    void operator()(const AttendStep& a) const { reserve_attention(scratch, a, batch, threads); }
    void operator()(const Route& r) const { scratch.scores.reserve(tokens * r.experts); }
    void operator()(const Norm& norm) const {
        if (norm.quantise) scratch.input.reserve(tokens, step.width);
    }
    void operator()(const Experts& x) const {
        const int64_t pairs = std::min(tokens, kExpertTokens) * x.top_k;
        if (x.quantise) scratch.input.reserve(tokens, step.width);
        if (x.quantise_hidden) {
            scratch.hidden_rows.reserve(pairs, x.hidden);
        } else {
            scratch.hidden.reserve(pairs * x.hidden);
        }
        scratch.pair_token.reserve(pairs);
        scratch.pair_weight.reserve(pairs);
        scratch.expert_start.reserve(static_cast<int64_t>(x.gate.size()) + 1);
        for (OfThread& own : scratch.of_thread) {
            own.piece.reserve(std::min(pairs, kBlockPairs) * kExpertRows);
            own.up.reserve(std::min(pairs, kBlockPairs) * kExpertRows);
        }
    }
    template <typename Other>
    void operator()(const Other&) const {}
};

}  // namespace

void reserve(Scratch& scratch, const BoundPlan& plan, const Batch& batch, int threads) {
    find_query_tiles(scratch, batch);
    scratch.of_thread.resize(static_cast<size_t>(threads));
    for (const Step& step : plan.steps)
        std::visit(Reserve{scratch, batch, step, batch.token_count(), threads}, step.operation);
    scratch.token_position.reserve(batch.token_count());
    scratch.token_sequence.reserve(batch.token_count());
    for (int64_t s = 0; s < batch.sequence_count(); ++s) {
        for (int64_t t = batch.starts[s]; t < batch.starts[s + 1]; ++t) {
            scratch.token_position.data()[t] = static_cast<int32_t>(batch.positions[s] + t - batch.starts[s]);
            scratch.token_sequence.data()[t] = static_cast<int32_t>(s);
        }
    }
}

void run(const BoundPlan& plan, size_t index, Pass& pass, int thread) {
    const Job job{plan.steps[index], pass, thread};
    std::visit([&](const auto& operation) { run(operation, job, pass.values[index]); }, plan.steps[index].operation);
}

}  // namespace headrace
