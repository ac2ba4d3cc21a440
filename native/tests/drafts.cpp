// Drafts that do not count leave no trace: neither in the logits that follow nor in the blocks.
#include <algorithm>

#include "small_model.h"

namespace headrace::tests {
namespace {

constexpr int32_t kEnd = 74;  // tokens, ten of them in a second block
constexpr int32_t kMaxRewind = 2;
const std::vector<int32_t> kOriginal{20, 21}, kSource{22, 23};

int32_t token(int32_t position) { return position * 7 % static_cast<int32_t>(kVocab); }

Piece piece(int32_t position, int32_t count, std::vector<int32_t> blocks) {
    Piece made{position, {}, std::move(blocks)};
    for (int32_t i = 0; i < count; ++i) made.tokens.push_back(token(position + i));
    return made;
}

// `tokens` new tokens, the last `rejected` of which do not count, then `further` ones, then all that is left to kEnd.
struct Case {
    int32_t tokens, rejected, further;
};

std::vector<Case> all_cases() {
    std::vector<Case> cases;
    for (int32_t tokens = 1; tokens <= kMaxRewind + 1; ++tokens) {
        for (int32_t rejected = 0; rejected <= std::min(tokens, kMaxRewind); ++rejected) {
            cases.push_back({tokens, rejected, 1 + 2 * (tokens % 2)});
        }
    }
    return cases;
}

class Drafts {
  public:
    Drafts(Report& report, const Plan& plan, const Kernels& set, KvType kv, int threads)
        : report_(report),
          set_(set.name),
          model_(
              plan.steps(), plan.weights(),
              {kVocab, kBlockTokens, kBlocks, kv, threads, set.name, static_cast<int64_t>(cases_.size()), kMaxRewind}) {
        expected_ = logits({piece(0, kEnd, kOriginal)});
    }

    // All cases beside each other, from position `first` on.
    void test(int32_t first) {
        logits({piece(0, first, kSource)});
        std::vector<Piece> pieces;
        for (size_t i = 0; i < cases_.size(); ++i) {
            const std::vector<int32_t> blocks = blocks_of(i);
            for (size_t b = 0; b < blocks.size(); ++b) model_.copy_block(kSource[b], blocks[b]);
            Piece& draft = pieces.emplace_back(piece(first, cases_[i].tokens, blocks));
            draft.slot = static_cast<int32_t>(i);
            for (int32_t r = 0; r < cases_[i].rejected; ++r)
                draft.tokens.rbegin()[r] += draft.tokens.rbegin()[r] ? -1 : 1;
        }
        compare(pieces, [&](size_t i) { return cases_[i].tokens - cases_[i].rejected; });
        const auto go_on = [&](const auto& from, const auto& count) {
            for (size_t i = 0; i < cases_.size(); ++i) {
                const int32_t position = pieces[i].position + from(i);
                pieces[i] = piece(position, count(i, position), blocks_of(i));
            }
        };
        go_on([&](size_t i) { return cases_[i].tokens - cases_[i].rejected; },
              [&](size_t i, int32_t) { return cases_[i].further; });
        for (size_t i = 0; i < cases_.size(); ++i) {
            pieces[i].slot = static_cast<int32_t>(i), pieces[i].rewind = cases_[i].rejected;
        }
        compare(pieces, [&](size_t i) { return cases_[i].further; });
        go_on([&](size_t i) { return cases_[i].further; }, [](size_t, int32_t position) { return kEnd - position; });
        compare(pieces, [&](size_t i) { return kEnd - pieces[i].position; });
        for (size_t i = 0; i < cases_.size(); ++i) {
            report_.require(set_, bytes(blocks_of(i)) == bytes(kOriginal),
                            [&] { return describe("blocks", pieces[i], i); });
        }
    }

  private:
    static std::vector<int32_t> blocks_of(size_t i) {
        const auto first = static_cast<int32_t>(2 * i);
        return {first + 1, first};
    }

    std::vector<float> logits(const std::vector<Piece>& pieces) {
        const Work work(pieces, {.rows = kEnd});
        std::vector<float> logits(static_cast<size_t>(work.rows() * kVocab));
        model_.logits(work.batch(), logits.data());
        return logits;
    }

    // The logits of the first counted(i) tokens of each piece are those of an undisturbed prefill.
    template <typename Counted>
    void compare(const std::vector<Piece>& pieces, const Counted& counted) {
        const std::vector<float> found = logits(pieces);
        auto row = found.begin();
        for (size_t i = 0; i < pieces.size(); ++i) {
            const auto right = expected_.begin() + pieces[i].position * kVocab;
            report_.require(set_, std::equal(row, row + counted(i) * kVocab, right),
                            [&] { return describe("logits", pieces[i], i); });
            row += static_cast<int64_t>(pieces[i].tokens.size()) * kVocab;
        }
    }

    std::vector<uint8_t> bytes(const std::vector<int32_t>& blocks) {
        const auto size = static_cast<size_t>(model_.block_bytes());
        std::vector<uint8_t> all(blocks.size() * size);
        for (size_t b = 0; b < blocks.size(); ++b) model_.read_block(blocks[b], all.data() + b * size);
        return all;
    }

    std::string describe(const char* what, const Piece& piece, size_t i) const {
        return std::string(what) + " of " +
               shape("tokens", cases_[i].tokens, "rejected", cases_[i].rejected, "position", piece.position);
    }

    Report& report_;
    const char* set_;
    const std::vector<Case> cases_ = all_cases();
    Model model_;
    std::vector<float> expected_;
};

}  // namespace

void test_drafts(Report& report, const Sets& sets) {
    report.begin("drafts");
    for (const Kernels* set : sets) {
        const Plan plan(set->panels[static_cast<size_t>(Type::Q8_0)] != nullptr);
        for (KvType kv : {KvType::F16, KvType::F32, KvType::I8}) {
            for (int threads : {1, 2}) {
                Drafts drafts(report, plan, *set, kv, threads);
                for (int32_t first = 61; first <= 65; ++first) drafts.test(first);
            }
        }
    }
    report.end();
}

}  // namespace headrace::tests
