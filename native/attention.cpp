#include "attention.h"

#include <algorithm>
#include <cmath>

namespace headrace {
namespace {

OfThread& of_thread(const Job& job) { return job.pass.scratch.of_thread[static_cast<size_t>(job.thread)]; }

// --- new tokens

// x [head_dim] turned by the angles whose cosines and sines are given: dimension i with dimension i + head_dim / 2.
void rotate(float* x, const float* cosines, const float* sines, int64_t half, float scale) {
    for (int64_t i = 0; i < half; ++i) {
        const float a = x[i], b = x[half + i];
        x[i] = (a * cosines[i] - b * sines[i]) * scale;
        x[half + i] = (b * cosines[i] + a * sines[i]) * scale;
    }
}

struct Qkv {
    const float *q, *k, *v;
    int64_t q_stride, kv_stride;
};

Qkv split(const AttendStep& a, const Job& job) {
    const int64_t q = a.heads * a.head_dim, kv = a.kv_heads * a.head_dim;
    if (job.step.inputs.size() == 3) return {job.in(0), job.in(1), job.in(2), q, kv};
    return {job.in(0), job.in(0) + q, job.in(0) + q + kv, q + 2 * kv, q + 2 * kv};
}

void norm_head(const Kernels& kernels, const float* x, const Vector& weight, float eps, int64_t n, float* out) {
    if (weight.empty()) {
        std::copy_n(x, n, out);
    } else {
        kernels.norm(x, weight.data(), eps, n, out);
    }
}

// Norms and rotates the heads of token t; queries go to scratch, keys and values to the cache.
void place_token(const AttendStep& a, const Job& job, const Qkv& qkv, int64_t t) {
    const Kernels& kernels = job.pass.kernels;
    const Batch& batch = job.pass.batch;
    const int64_t n = a.head_dim, half = n / 2;
    const int64_t position = job.pass.scratch.token_position.data()[t];
    float* cosines = of_thread(job).head.data();
    float *sines = cosines + half, *key = cosines + n;
    uint16_t* rounded = reinterpret_cast<uint16_t*>(cosines + 2 * n);
    for (int64_t i = 0; i < half; ++i) {
        const float angle = static_cast<float>(position) * a.frequencies[i];
        cosines[i] = static_cast<float>(std::cos(static_cast<double>(angle)));
        sines[i] = static_cast<float>(std::sin(static_cast<double>(angle)));
    }
    const float scale = 1 / std::sqrt(static_cast<float>(n));
    for (int64_t h = 0; h < a.heads; ++h) {
        float* query = job.pass.scratch.queries.data() + (t * a.heads + h) * n;
        norm_head(kernels, qkv.q + t * qkv.q_stride + h * n, a.q_norm, a.eps, n, query);
        rotate(query, cosines, sines, half, scale);
    }
    const int64_t bt = job.pass.cache.block_tokens();
    const int64_t s = job.pass.scratch.token_sequence.data()[t];
    const int64_t block = batch.blocks[batch.block_starts[s] + position / bt];
    for (int64_t h = 0; h < a.kv_heads; ++h) {
        norm_head(kernels, qkv.k + t * qkv.kv_stride + h * n, a.k_norm, a.eps, n, key);
        rotate(key, cosines, sines, half, 1);
        job.pass.cache.write(kernels, a.slot, block, h, position % bt, key, qkv.v + t * qkv.kv_stride + h * n, rounded);
    }
}

// --- what they see

// Whether threads share the contexts of single tiles: where there are so few that whole ones would leave threads idle.
bool shares_contexts(const AttendStep& a, const Scratch& scratch, int threads) {
    const auto tiles = static_cast<int64_t>(scratch.query_tiles.size()) * a.kv_heads;
    return scratch.query_spans.size() > scratch.query_tiles.size() && tiles % threads && tiles < 4 * threads;
}

// One span of a tile for one kv head.
void attend_span(const AttendStep& a, const Job& job, const QueryTile& tile, int64_t kv_head, int64_t span, float* sums,
                 Softmax* softmax) {
    const Batch& batch = job.pass.batch;
    const Cache& cache = job.pass.cache;
    OfThread& own = of_thread(job);
    const int64_t begin = span * kSpan, end = begin + kSpan, tiles_per_block = cache.block_tokens() / kTile;
    for (int64_t at = begin; at < std::min(end, tile.position + tile.tokens); at += kTile) {
        const auto i = static_cast<size_t>((at - begin) / kTile);
        const int64_t block = batch.blocks[batch.block_starts[tile.sequence] + at / cache.block_tokens()];
        own.keys[i] = cache.keys(a.slot, block, kv_head, at / kTile % tiles_per_block);
        own.values[i] = cache.values(a.slot, block, kv_head, at / kTile % tiles_per_block);
    }
    const int64_t heads = a.heads / a.kv_heads, stride = a.heads * a.head_dim;
    const float* q = job.pass.scratch.queries.data() + tile.first * stride + kv_head * heads * a.head_dim;
    job.pass.kernels.attend[static_cast<size_t>(cache.type())]({q, stride, tile.tokens, heads, a.head_dim,
                                                                tile.position, begin, end, own.keys.data(),
                                                                own.values.data(), sums, softmax});
}

// Adds a span to the spans before it: `rows` heads of tokens, of `n` dimensions. A token that stands before the span
// has seen nothing of it.
void merge(const float* sums, const Softmax* softmax, int64_t rows, int64_t n, Partial& whole) {
    for (int64_t r = 0; r < rows; ++r) {
        if (softmax[r].total == 0) continue;
        Softmax& all = whole.softmax.data()[r];
        float* out = whole.sums.data() + r * n;
        const float largest = std::max(all.largest, softmax[r].largest);
        const float before = std::exp(all.largest - largest), now = std::exp(softmax[r].largest - largest);
        all = {largest, all.total * before + softmax[r].total * now};
        for (int64_t d = 0; d < n; ++d) out[d] = out[d] * before + sums[r * n + d] * now;
    }
}

void clear(Partial& whole, int64_t rows, int64_t n) {
    std::fill_n(whole.sums.data(), rows * n, 0.0f);
    std::fill_n(whole.softmax.data(), rows, Softmax{-INFINITY, 0});
}

void write(const AttendStep& a, const QueryTile& tile, int64_t kv_head, Partial& whole, float* out) {
    const int64_t heads = a.heads / a.kv_heads, n = a.head_dim;
    for (int64_t r = 0; r < tile.tokens * heads; ++r) {
        const float *sums = whole.sums.data() + r * n, total = whole.softmax.data()[r].total;
        float* to = out + (tile.first + r / heads) * a.heads * n + (kv_head * heads + r % heads) * n;
        for (int64_t d = 0; d < n; ++d) to[d] = sums[d] / total;
    }
}

// Whole contexts are dealt out, those of one kv head after those of another.
void attend_contexts(const AttendStep& a, const Job& job, float* out) {
    OfThread& own = of_thread(job);
    const std::vector<QueryTile>& tiles = job.pass.scratch.query_tiles;
    const auto count = static_cast<int64_t>(tiles.size());
    Dealer(job.pass.pool).deal(count * a.kv_heads, [&](int64_t item) {
        const QueryTile& tile = tiles[static_cast<size_t>(item % count)];
        const int64_t kv_head = item / count, rows = tile.tokens * (a.heads / a.kv_heads);
        clear(own.whole, rows, a.head_dim);
        for (int64_t span = 0; span < tile.spans; ++span) {
            attend_span(a, job, tile, kv_head, span, own.span.sums.data(), own.span.softmax.data());
            merge(own.span.sums.data(), own.span.softmax.data(), rows, a.head_dim, own.whole);
        }
        write(a, tile, kv_head, own.whole, out);
    });
}

// Spans are dealt out; then contexts are merged.
void attend_spans(const AttendStep& a, const Job& job, float* out) {
    Scratch& scratch = job.pass.scratch;
    OfThread& own = of_thread(job);
    const std::vector<QueryTile>& tiles = scratch.query_tiles;
    const auto tile_count = static_cast<int64_t>(tiles.size());
    const auto span_count = static_cast<int64_t>(scratch.query_spans.size());
    const int64_t heads = a.heads / a.kv_heads, rows_of_head = scratch.query_spans.back().end_row * heads;
    const auto row_of = [&](int64_t kv_head, int64_t row) { return kv_head * rows_of_head + row * heads; };
    Dealer(job.pass.pool).deal(span_count * a.kv_heads, [&](int64_t item) {
        const QuerySpan& span = scratch.query_spans[static_cast<size_t>(item % span_count)];
        const QueryTile& tile = tiles[static_cast<size_t>(span.tile)];
        const int64_t kv_head = item / span_count, row = row_of(kv_head, span.end_row - tile.tokens);
        attend_span(a, job, tile, kv_head, span.span, scratch.spans.sums.data() + row * a.head_dim,
                    scratch.spans.softmax.data() + row);
    });
    job.pass.pool.sync();
    const Range mine = job.mine(tile_count * a.kv_heads);
    for (int64_t item = mine.begin; item < mine.end; ++item) {
        const QueryTile& tile = tiles[static_cast<size_t>(item % tile_count)];
        const int64_t kv_head = item / tile_count, rows = tile.tokens * heads;
        clear(own.whole, rows, a.head_dim);
        for (int64_t span = 0; span < tile.spans; ++span) {
            const int64_t row = row_of(kv_head, tile.first_row + span * tile.tokens);
            merge(scratch.spans.sums.data() + row * a.head_dim, scratch.spans.softmax.data() + row, rows, a.head_dim,
                  own.whole);
        }
        write(a, tile, kv_head, own.whole, out);
    }
}

}  // namespace

void reserve_attention(Scratch& scratch, const AttendStep& a, const Batch& batch, int threads) {
    const int64_t heads = a.heads / a.kv_heads;
    scratch.queries.reserve(batch.token_count() * a.heads * a.head_dim);
    for (OfThread& own : scratch.of_thread) {
        own.head.reserve(3 * a.head_dim);
        for (Partial* partial : {&own.span, &own.whole}) {
            partial->sums.reserve(kQueryTile * heads * a.head_dim);
            partial->softmax.reserve(kQueryTile * heads);
        }
    }
    if (shares_contexts(a, scratch, threads)) {
        const int64_t rows = scratch.query_spans.back().end_row * a.heads;
        scratch.spans.sums.reserve(rows * a.head_dim);
        scratch.spans.softmax.reserve(rows);
    }
}

void find_query_tiles(Scratch& scratch, const Batch& batch) {
    scratch.query_tiles.clear();
    scratch.query_spans.clear();
    int64_t row = 0;
    for (int64_t s = 0; s < batch.sequence_count(); ++s) {
        const int64_t begin = batch.starts[s], end = batch.starts[s + 1];
        for (int64_t t = begin; t < end; t += kQueryTile) {
            const int64_t tokens = std::min(kQueryTile, end - t), position = batch.positions[s] + t - begin;
            const int64_t spans = (position + tokens + kSpan - 1) / kSpan;
            const auto tile = static_cast<int64_t>(scratch.query_tiles.size());
            scratch.query_tiles.push_back({s, t, tokens, position, spans, row});
            for (int64_t i = 0; i < spans; ++i) scratch.query_spans.push_back({tile, i, row += tokens});
        }
    }
}

void attend(const AttendStep& a, const Job& job, float* out) {
    const Qkv qkv = split(a, job);
    const Range mine = job.mine(job.rows());
    for (int64_t t = mine.begin; t < mine.end; ++t) place_token(a, job, qkv, t);
    job.pass.pool.sync();
    if (shares_contexts(a, job.pass.scratch, job.pass.pool.threads())) {
        attend_spans(a, job, out);
    } else {
        attend_contexts(a, job, out);
    }
}

}  // namespace headrace
