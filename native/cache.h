// What sequences remember, in blocks of tokens. A block owns the keys and values of its tokens for every attention slot
// and, for every convolution slot, the last taps - 1 inputs of the convolution as of the last token written into it.
//
// The engine decides which block belongs to whom. Memory is mapped, not touched: a block that nobody used costs
// nothing.
#pragma once
#include <vector>

#include "kernels/kernels.h"
#include "mapping.h"

namespace headrace {

struct AttendShape {
    int64_t kv_heads, head_dim;
};

struct ConvShape {
    int64_t width, taps;
};

class Cache {
  public:
    Cache(std::vector<AttendShape> attends, std::vector<ConvShape> convs, KvType type, int64_t block_tokens,
          int64_t blocks);

    int64_t block_tokens() const { return block_tokens_; }
    KvType type() const { return type_; }

    // All that a block remembers, as it lies in memory: nothing in it points anywhere.
    int64_t block_bytes() const { return blocks_.part_bytes(); }
    uint8_t* block(int64_t block) const { return blocks_.part(block); }

    // Tile `tile` (kTile positions) of a block, as the attend kernel reads it.
    void* keys(int64_t slot, int64_t block, int64_t kv_head, int64_t tile) const;
    void* values(int64_t slot, int64_t block, int64_t kv_head, int64_t tile) const;

    // Stores the key and the value [head_dim] of the token at `offset` in a block. `half` is scratch [head_dim].
    void write(const Kernels& kernels, int64_t slot, int64_t block, int64_t kv_head, int64_t offset, const float* key,
               const float* value, uint16_t* half) const;

    // [taps - 1, width], oldest first.
    float* inputs(int64_t slot, int64_t block) const;

  private:
    struct AttendLayout {
        int64_t offset;      // in a block, of the keys of head 0
        int64_t tile_bytes;  // of a tile of keys, or of values
        int64_t stride;      // head_dim, padded
        AttendShape shape;
    };
    void* tile(int64_t slot, int64_t block, int64_t index) const;

    KvType type_;
    int64_t block_tokens_;
    Mapping blocks_;
    std::vector<AttendLayout> attends_;
    std::vector<int64_t> inputs_;  // offset in a block, for each convolution slot
};

}  // namespace headrace
