// Logits, and all that a step gives, do not depend on the number of threads.
#include <numeric>

#include "small_model.h"

namespace headrace::tests {
namespace {

constexpr int32_t kLikely = 5;  // tokens

// New tokens of some sequences that stand at these positions.
Work work_at(const std::vector<int32_t>& positions, const std::vector<int32_t>& counts) {
    const int32_t blocks = kBlocks / static_cast<int32_t>(counts.size());
    std::vector<Piece> pieces;
    for (size_t s = 0; s < counts.size(); ++s) {
        Piece& piece = pieces.emplace_back(Piece{positions[s], {}, std::vector<int32_t>(static_cast<size_t>(blocks))});
        std::iota(piece.blocks.begin(), piece.blocks.end(), static_cast<int32_t>(s) * blocks);
        for (int32_t i = 0; i < counts[s]; ++i) {
            piece.tokens.push_back(((positions[s] + i) * 7 + static_cast<int32_t>(s)) % static_cast<int32_t>(kVocab));
        }
    }
    return Work(pieces, {.top_logprobs = kLikely, .experts = true});
}

// Prompts and single tokens, short contexts and one beyond a span, which threads share.
std::vector<Work> steps_of_work(bool long_context) {
    std::vector<Work> steps;
    steps.push_back(work_at({0, 0}, {37, 5}));
    steps.push_back(work_at({37, 5}, {1, 1}));
    steps.push_back(work_at({38, 6}, {30, 1}));
    if (long_context) {
        steps.push_back(work_at({0}, {1050}));
        steps.push_back(work_at({1050}, {1}));
        steps.push_back(work_at({1051}, {19}));
    }
    return steps;
}

struct Results {
    std::vector<float> floats;
    std::vector<int32_t> ids;
};

// All that can be asked of each step, which writes the same into the cache every time.
Results run_all(const Plan& plan, const Kernels& set, KvType kv, int threads, const std::vector<Work>& work) {
    Model model(plan.steps(), plan.weights(), {kVocab, kBlockTokens, kBlocks, kv, threads, set.name});
    Results results;
    const auto more = [](auto& numbers, int64_t count) {
        numbers.resize(numbers.size() + static_cast<size_t>(count));
        return numbers.data() + numbers.size() - count;
    };
    for (const Work& step : work) {
        const Batch batch = step.batch();
        const int64_t rows = step.rows();
        const auto [routers, width] = model.routing_shape();
        model.logits(batch, more(results.floats, rows * kVocab));
        model.hidden(batch, more(results.floats, rows * model.hidden_width()));
        std::vector<float> logprobs(static_cast<size_t>(rows)), likely(static_cast<size_t>(rows * kLikely));
        std::vector<float> routings(static_cast<size_t>(batch.token_count() * routers * width));
        std::vector<int32_t> ids(static_cast<size_t>(rows)), likely_ids(static_cast<size_t>(rows * kLikely));
        model.step(batch, {ids.data(), logprobs.data(), likely_ids.data(), likely.data(), routings.data()});
        for (const auto* part : {&logprobs, &likely, &routings}) {
            results.floats.insert(results.floats.end(), part->begin(), part->end());
        }
        for (const auto* part : {&ids, &likely_ids}) results.ids.insert(results.ids.end(), part->begin(), part->end());
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
            for (float number : alone.floats) finite &= std::isfinite(number);
            report.require(set->name, finite, [&] { return shape("finite numbers, cache", static_cast<int>(kv)); });
            for (int threads : {2, 3}) {
                const Results shared = run_all(plan, *set, kv, threads, work);
                Output<float> floats(static_cast<int64_t>(alone.floats.size()));
                Output<int32_t> ids(static_cast<int64_t>(alone.ids.size()));
                std::copy(shared.floats.begin(), shared.floats.end(), floats.data());
                std::copy(shared.ids.begin(), shared.ids.end(), ids.data());
                const auto describe = [&] { return shape("cache", static_cast<int>(kv), "threads", threads); };
                report.compare(
                    set->name, floats, [&](int64_t i) { return Expected{alone.floats[static_cast<size_t>(i)]}; },
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
