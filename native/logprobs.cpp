#include "logprobs.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace headrace {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

}  // namespace

LogSoftmax::LogSoftmax(std::span<const float> logits) : largest(kNever) {
    double total = 0;
    for (float logit : logits) largest = std::max<double>(largest, logit);
    for (float logit : logits) total += std::exp(logit - largest);
    log_total = std::log(total);
}

void find_likely(std::span<const float> logits, const LogSoftmax& softmax, int64_t n, int32_t* ids, float* logprobs) {
    std::array<float, kMaxTopLogprobs> best;  // logits of the ids found so far
    int64_t count = 0;
    for (int32_t id = 0; n > 0 && id < static_cast<int32_t>(logits.size()); ++id) {
        const float logit = logits[static_cast<size_t>(id)];
        if (std::isnan(logit) || (count == n && logit <= best[static_cast<size_t>(n - 1)])) continue;
        int64_t place = count < n ? count++ : n - 1;
        for (; place > 0 && best[static_cast<size_t>(place - 1)] < logit; --place) {
            best[static_cast<size_t>(place)] = best[static_cast<size_t>(place - 1)];
            ids[place] = ids[place - 1];
        }
        best[static_cast<size_t>(place)] = logit;
        ids[place] = id;
    }
    for (int64_t i = 0; i < n; ++i) {
        if (i >= count) ids[i] = -1;
        logprobs[i] = i < count ? softmax.of(best[static_cast<size_t>(i)]) : kNever;
    }
}

}  // namespace headrace
