// A small model with every operation in it: its logits do not depend on the number of threads.
#include "model.h"

#include <numeric>

#include "check.h"
#include "panels.h"

namespace headrace::tests {
namespace {

constexpr int64_t kVocab = 96, kHidden = 64, kHeads = 4, kKvHeads = 2, kHeadDim = 16, kTaps = 3, kExperts = 5,
                  kInner = 256;
constexpr int64_t kQ = kHeads * kHeadDim, kKv = kKvHeads * kHeadDim, kBlockTokens = 64, kBlocks = 24;

// The plan and the bytes of its weights.
class Plan {
  public:
    // Matrices of Q8_0 lie in panels if the kernels read them.
    explicit Plan(bool panels) : panels_(panels) {
        int64_t x = add("embed", {}, {matrix("embed", Type::Q8_0, kVocab, kHidden)});
        x = add("add", {x, conv(norm(x, "cn"))}, {});
        x = add("add", {x, attend(norm(x, "an"), 0)}, {});
        x = add("add", {x, experts(norm(x, "mn"))}, {});
        x = add("add", {x, attend(norm(x, "bn"), 1)}, {});
        x = add("add", {x, dense(norm(x, "dn"))}, {});
        x = add("select", {norm(x, "final")}, {});
        add("linear", {x}, {"embed"});
    }
    const std::vector<StepSpec>& steps() const { return steps_; }
    const Weights& weights() const { return weights_; }

  private:
    using Names = std::vector<std::string>;

    int64_t add(const char* op, std::vector<int64_t> inputs, Names names, std::map<std::string, double> with = {}) {
        steps_.push_back({op, std::move(inputs), std::move(names), std::move(with)});
        return static_cast<int64_t>(steps_.size()) - 1;
    }
    int64_t norm(int64_t x, const char* name) {
        return add("norm", {x}, {matrix(name, Type::F32, 1, kHidden)}, {{"eps", 1e-5}});
    }
    int64_t linear(int64_t x, const std::string& name, Type type, int64_t rows, int64_t columns) {
        return add("linear", {x}, {matrix(name, type, rows, columns), matrix(name + ".bias", Type::F32, 1, rows)},
                   {{"bias", 1}});
    }
    int64_t conv(int64_t x) {
        const int64_t y = add("conv", {linear(x, "in", Type::Q4_0, 3 * kHidden, kHidden)},
                              {matrix("taps", Type::F32, kHidden, kTaps)}, {{"slot", 0}});
        return linear(y, "out", Type::F16, kHidden, kHidden);
    }
    int64_t attend(int64_t x, int64_t slot) {
        const std::string n = std::to_string(slot);
        const int64_t q = linear(x, "q" + n, Type::Q8_0, kQ, kHidden), k = linear(x, "k" + n, Type::Q4_0, kKv, kHidden),
                      v = linear(x, "v" + n, Type::BF16, kKv, kHidden);
        const int64_t y = add("attend", {q, k, v},
                              {matrix("qn" + n, Type::F32, 1, kHeadDim), matrix("kn" + n, Type::F32, 1, kHeadDim)},
                              {{"slot", static_cast<double>(slot)},
                               {"heads", kHeads},
                               {"kv_heads", kKvHeads},
                               {"head_dim", kHeadDim},
                               {"eps", 1e-5},
                               {"theta", 1e4}});
        return linear(y, "o" + n, Type::Q8_0, kHidden, kQ);
    }
    int64_t experts(int64_t x) {
        const Names router{matrix("router", Type::F32, kExperts, kHidden), matrix("eb", Type::F32, 1, kExperts)};
        const int64_t route = add("route", {x}, router, {{"top_k", 2}, {"normalise", 1}, {"scale", 1.5}, {"bias", 1}});
        return add(
            "experts", {x, route},
            {matrix("w1", Type::Q8_0, kInner, kHidden, kExperts), matrix("w3", Type::Q4_0, kInner, kHidden, kExperts),
             matrix("w2", Type::Q6_K, kHidden, kInner, kExperts)});
    }
    int64_t dense(int64_t x) {
        const int64_t gate_up =
            add("linear", {x}, {matrix("gate", Type::F32, 64, kHidden), matrix("up", Type::Q8_0, 64, kHidden)});
        return linear(add("swiglu", {gate_up}, {}), "down", Type::BF16, kHidden, 64);
    }

    std::string matrix(const std::string& name, Type type, int64_t rows, int64_t columns, int64_t count = 1) {
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

    bool panels_;
    Random random_{31};
    std::vector<StepSpec> steps_;
    Weights weights_;
    std::vector<std::vector<uint8_t>> bytes_;  // whose own bytes stay where they are when this grows
};

// New tokens of two sequences that stand at these positions; greedy sampling, the logits of the last tokens.
class Work {
  public:
    Work(std::vector<int32_t> positions, std::vector<int32_t> counts) : positions_(std::move(positions)) {
        const int32_t blocks = kBlocks / static_cast<int32_t>(counts.size());
        for (size_t s = 0; s < counts.size(); ++s) {
            for (int32_t i = 0; i < counts[s]; ++i) {
                tokens_.push_back(static_cast<int32_t>((positions_[s] + i) * 7 + static_cast<int32_t>(s)) % kVocab);
            }
            for (int32_t i = 0; i < blocks; ++i) blocks_.push_back(static_cast<int32_t>(s) * blocks + i);
            starts_.push_back(static_cast<int32_t>(tokens_.size()));
            block_starts_.push_back(static_cast<int32_t>(blocks_.size()));
            for (int32_t i = std::max(counts[s] - 3, 0); i < counts[s]; ++i) rows_.push_back(starts_[s] + i);
        }
        zeros_.resize(rows_.size() + 1);
        floats_.resize(rows_.size());
        ones_.resize(rows_.size(), 1);
        seeds_.resize(rows_.size());
        no_mask_.resize(rows_.size(), -1);
    }

    Batch batch() const {
        const std::span<const int32_t> zeros{zeros_.data(), rows_.size()};
        Batch b{};
        b.tokens = tokens_, b.starts = starts_, b.positions = positions_, b.rows = rows_;
        b.blocks = blocks_, b.block_starts = block_starts_;
        b.temperature = b.min_p = b.presence_penalty = b.frequency_penalty = floats_;
        b.top_p = b.repeat_penalty = ones_;
        b.top_k = zeros, b.seed = seeds_, b.mask_rows = no_mask_;
        b.history_starts = b.bias_starts = zeros_;
        return b;
    }
    int64_t rows() const { return static_cast<int64_t>(rows_.size()); }

  private:
    std::vector<int32_t> tokens_, starts_{0}, positions_, blocks_, block_starts_{0}, rows_, zeros_, no_mask_;
    std::vector<float> floats_, ones_;
    std::vector<uint64_t> seeds_;
};

// Prompts and single tokens, short contexts and one beyond a span, which threads share.
std::vector<Work> steps_of_work(bool long_context) {
    std::vector<Work> steps;
    steps.push_back({{0, 0}, {37, 5}});
    steps.push_back({{37, 5}, {1, 1}});
    steps.push_back({{38, 6}, {30, 1}});
    if (long_context) {
        steps.push_back({{0}, {1050}});
        steps.push_back({{1050}, {1}});
        steps.push_back({{1051}, {19}});
    }
    return steps;
}

struct Results {
    std::vector<float> logits;
    std::vector<int32_t> ids;
};

Results run_all(const Plan& plan, const Kernels& set, KvType kv, int threads, const std::vector<Work>& work) {
    Model model(plan.steps(), plan.weights(), {kVocab, kBlockTokens, kBlocks, kv, threads, set.name});
    Results results;
    for (const Work& step : work) {
        std::vector<float> logits(static_cast<size_t>(step.rows() * kVocab));
        std::vector<int32_t> ids(static_cast<size_t>(step.rows()));
        model.logits(step.batch(), logits.data());
        model.step(step.batch(), ids.data());  // writes the same into the cache once more
        results.logits.insert(results.logits.end(), logits.begin(), logits.end());
        results.ids.insert(results.ids.end(), ids.begin(), ids.end());
    }
    return results;
}

}  // namespace

void test_model(Report& report, const Sets& sets) {
    report.begin("threads, model");
    for (const Kernels* set : sets) {
        const Plan plan(set->panels[static_cast<size_t>(Type::Q8_0)] != nullptr);
        for (KvType kv : {KvType::F16, KvType::F32, KvType::I8}) {
            const std::vector<Work> work = steps_of_work(kv == KvType::F16);
            const Results alone = run_all(plan, *set, kv, 1, work);
            bool finite = true;
            for (float logit : alone.logits) finite &= std::isfinite(logit);
            report.require(set->name, finite, [&] { return shape("finite logits, cache", static_cast<int>(kv)); });
            for (int threads : {2, 3}) {
                const Results shared = run_all(plan, *set, kv, threads, work);
                Output<float> logits(static_cast<int64_t>(alone.logits.size()));
                Output<int32_t> ids(static_cast<int64_t>(alone.ids.size()));
                std::copy(shared.logits.begin(), shared.logits.end(), logits.data());
                std::copy(shared.ids.begin(), shared.ids.end(), ids.data());
                const auto describe = [&] { return shape("cache", static_cast<int>(kv), "threads", threads); };
                report.compare(
                    set->name, logits, [&](int64_t i) { return Expected{alone.logits[static_cast<size_t>(i)]}; },
                    describe);
                report.compare(
                    set->name, ids, [&](int64_t i) { return Expected{number(alone.ids[static_cast<size_t>(i)])}; },
                    describe);
            }
        }
    }
    report.end();
}

}  // namespace headrace::tests
