// What it takes to take tokens back. Keys and values of a draft that does not count are overwritten, but a convolution
// has moved on: a block keeps only its last taps - 1 inputs. So a draft slot keeps, for each convolution, the last
// taps - 1 + max_rewind inputs of the last step that named it, and the next step may begin up to max_rewind tokens
// before the end of that one. The block that it begins in is written anew by it, unless it begins at a border: then the
// block before has kept the inputs of exactly the tokens that count.
#pragma once
#include <span>
#include <vector>

#include "batch.h"
#include "cache.h"
#include "mapping.h"

namespace headrace {

class DraftSlots {
  public:
    DraftSlots(const std::vector<ConvShape>& convs, int64_t slots, int64_t max_rewind);

    int64_t max_rewind() const { return max_rewind_; }
    std::span<const DraftStep> last_steps() const { return last_; }

    // A convolution's inputs [taps - 1 + tokens, width]: the last `tokens` of the slot's last step, and those before.
    float* inputs(int64_t conv, int64_t slot, int64_t tokens) const;

    // Remembers what a step has written.
    void note(const Batch& batch);

  private:
    struct Layout {
        int64_t end;   // offset in a slot, behind the inputs
        int64_t past;  // taps - 1
        int64_t width;
    };

    int64_t max_rewind_;
    Mapping slots_;
    std::vector<Layout> convs_;
    std::vector<DraftStep> last_;  // of each slot
};

}  // namespace headrace
