#include "drafts.h"

namespace headrace {

DraftSlots::DraftSlots(const std::vector<ConvShape>& convs, int64_t slots, int64_t max_rewind)
    : max_rewind_(max_rewind), last_(static_cast<size_t>(slots)) {
    int64_t numbers = 0;
    for (const ConvShape& shape : convs) {
        numbers += (shape.taps - 1 + max_rewind) * shape.width;
        convs_.push_back({numbers, shape.taps - 1, shape.width});
    }
    slots_.map("draft slots", slots, numbers * static_cast<int64_t>(sizeof(float)));
}

float* DraftSlots::inputs(int64_t conv, int64_t slot, int64_t tokens) const {
    const Layout& layout = convs_[static_cast<size_t>(conv)];
    return reinterpret_cast<float*>(slots_.part(slot)) + layout.end - (layout.past + tokens) * layout.width;
}

void DraftSlots::note(const Batch& batch) {
    for (int64_t s = 0; s < batch.sequence_count(); ++s) {
        if (batch.slots[s] < 0) continue;
        const int64_t tokens = batch.starts[s + 1] - batch.starts[s];
        last_[static_cast<size_t>(batch.slots[s])] = {batch.positions[s] + tokens, tokens};
    }
}

}  // namespace headrace
