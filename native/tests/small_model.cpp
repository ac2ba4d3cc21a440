#include "small_model.h"

#include <algorithm>

#include "panels.h"

namespace headrace::tests {
namespace {

constexpr int64_t kHidden = 64, kHeads = 4, kKvHeads = 2, kHeadDim = 16, kTaps = 3, kExperts = 5, kInner = 256;
constexpr int64_t kQ = kHeads * kHeadDim, kKv = kKvHeads * kHeadDim;

}  // namespace

Plan::Plan(bool panels) : panels_(panels) {
    int64_t x = add("embed", {}, {matrix("embed", Type::Q8_0, kVocab, kHidden)});
    x = add("add", {x, conv(norm(x, "cn"))}, {});
    x = add("add", {x, attend(norm(x, "an"), 0)}, {});
    x = add("add", {x, experts(norm(x, "mn"))}, {});
    x = add("add", {x, attend(norm(x, "bn"), 1)}, {});
    x = add("add", {x, dense(norm(x, "dn"))}, {});
    x = add("select", {norm(x, "final")}, {});
    add("linear", {x}, {"embed"});
}

int64_t Plan::add(const char* op, std::vector<int64_t> inputs, Names names, std::map<std::string, double> with) {
    steps_.push_back({op, std::move(inputs), std::move(names), std::move(with)});
    return static_cast<int64_t>(steps_.size()) - 1;
}

int64_t Plan::norm(int64_t x, const char* name) {
    return add("norm", {x}, {matrix(name, Type::F32, 1, kHidden)}, {{"eps", 1e-5}});
}

int64_t Plan::linear(int64_t x, const std::string& name, Type type, int64_t rows, int64_t columns) {
    return add("linear", {x}, {matrix(name, type, rows, columns), matrix(name + ".bias", Type::F32, 1, rows)},
               {{"bias", 1}});
}

int64_t Plan::conv(int64_t x) {
    const int64_t y = add("conv", {linear(x, "in", Type::Q4_0, 3 * kHidden, kHidden)},
                          {matrix("taps", Type::F32, kHidden, kTaps)}, {{"slot", 0}});
    return linear(y, "out", Type::F16, kHidden, kHidden);
}

int64_t Plan::attend(int64_t x, int64_t slot) {
    const std::string n = std::to_string(slot);
    const int64_t q = linear(x, "q" + n, Type::Q8_0, kQ, kHidden), k = linear(x, "k" + n, Type::Q4_0, kKv, kHidden),
                  v = linear(x, "v" + n, Type::BF16, kKv, kHidden);
    const int64_t y =
        add("attend", {q, k, v}, {matrix("qn" + n, Type::F32, 1, kHeadDim), matrix("kn" + n, Type::F32, 1, kHeadDim)},
            {{"slot", static_cast<double>(slot)},
             {"heads", kHeads},
             {"kv_heads", kKvHeads},
             {"head_dim", kHeadDim},
             {"eps", 1e-5},
             {"theta", 1e4}});
    return linear(y, "o" + n, Type::Q8_0, kHidden, kQ);
}

int64_t Plan::experts(int64_t x) {
    const Names router{matrix("router", Type::F32, kExperts, kHidden), matrix("eb", Type::F32, 1, kExperts)};
    const int64_t route = add("route", {x}, router, {{"top_k", 2}, {"normalise", 1}, {"scale", 1.5}, {"bias", 1}});
    return add(
        "experts", {x, route},
        {matrix("w1", Type::Q8_0, kInner, kHidden, kExperts), matrix("w3", Type::Q4_0, kInner, kHidden, kExperts),
         matrix("w2", Type::Q6_K, kHidden, kInner, kExperts)});
}

int64_t Plan::dense(int64_t x) {
    const int64_t gate_up =
        add("linear", {x}, {matrix("gate", Type::F32, 64, kHidden), matrix("up", Type::Q8_0, 64, kHidden)});
    return linear(add("swiglu", {gate_up}, {}), "down", Type::BF16, kHidden, 64);
}

std::string Plan::matrix(const std::string& name, Type type, int64_t rows, int64_t columns, int64_t count) {
    const TypeInfo& layout = info(type);
    const int64_t row_bytes = columns / layout.block * layout.block_bytes;
    for (int64_t i = 0; i < count; ++i) {
        std::vector<uint8_t>& bytes = bytes_.emplace_back(static_cast<size_t>(rows * row_bytes));
        fill_weights(random_, type, bytes.data(), rows * row_bytes);
        Matrix made{type, rows, columns, row_bytes, bytes.data()};
        if (panels_ && type == Type::Q8_0 && has_panels(type, rows)) {
            std::vector<uint8_t>& panels = bytes_.emplace_back(bytes.size());
            to_panels(made, panels.data());
            made.data = panels.data();
            made.panels = true;
        }
        weights_[name].push_back(made);
    }
    return name;
}

Work::Work(const std::vector<Piece>& pieces, const Wanted& wanted) : experts_(wanted.experts) {
    for (const Piece& piece : pieces) {
        const size_t count = piece.tokens.size();
        for (size_t i = count - std::min(count, wanted.rows); i < count; ++i) {
            rows_.push_back(starts_.back() + static_cast<int32_t>(i));
        }
        tokens_.insert(tokens_.end(), piece.tokens.begin(), piece.tokens.end());
        blocks_.insert(blocks_.end(), piece.blocks.begin(), piece.blocks.end());
        starts_.push_back(static_cast<int32_t>(tokens_.size()));
        block_starts_.push_back(static_cast<int32_t>(blocks_.size()));
        positions_.push_back(piece.position);
        slots_.push_back(piece.slot);
        rewinds_.push_back(piece.rewind);
    }
    zeros_.resize(rows_.size() + 1);
    floats_.resize(rows_.size());
    ones_.resize(rows_.size(), 1);
    seeds_.resize(rows_.size());
    none_.resize(rows_.size(), -1);
    top_logprobs_.resize(rows_.size(), wanted.top_logprobs);
}

Batch Work::batch() const {
    const std::span<const int32_t> zeros{zeros_.data(), rows_.size()};
    Batch b{};
    b.tokens = tokens_, b.starts = starts_, b.positions = positions_, b.rows = rows_;
    b.blocks = blocks_, b.block_starts = block_starts_, b.slots = slots_, b.rewinds = rewinds_;
    b.temperature = b.min_p = b.presence_penalty = b.frequency_penalty = floats_;
    b.top_p = b.repeat_penalty = ones_;
    b.top_k = zeros, b.seed = seeds_, b.mask_rows = b.targets = none_;
    b.history_starts = b.bias_starts = zeros_;
    b.top_logprobs = top_logprobs_, b.experts = experts_;
    return b;
}

}  // namespace headrace::tests
