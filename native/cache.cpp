#include "cache.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "require.h"

namespace headrace {
namespace {

int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

// Of one position's key or value of one head, its share of the scales included.
int64_t position_bytes(KvType type, int64_t stride) {
    switch (type) {
        case KvType::F16:
            return 2 * stride;
        case KvType::F32:
            return 4 * stride;
        case KvType::I8:
            return stride + static_cast<int64_t>(sizeof(float));
    }
    return 0;
}

// Numbers as int8: x ~ scale q, one scale for a head of a position.
struct Rounding {
    float scale, inverse;
    int8_t of(float x) const { return inverse == 0 ? int8_t{0} : static_cast<int8_t>(std::nearbyint(x * inverse)); }
};

Rounding rounding(const float* x, int64_t n) {
    float largest = 0;
    for (int64_t i = 0; i < n; ++i) {
        if (std::isnan(x[i])) return {x[i], 0};
        largest = std::max(largest, std::fabs(x[i]));
    }
    const float inverse = 127 / largest;
    if (std::isinf(largest)) return {largest, 0};
    return std::isinf(inverse) ? Rounding{0, 0} : Rounding{largest / 127, inverse};
}

}  // namespace

Cache::Cache(std::vector<AttendShape> attends, std::vector<ConvShape> convs, KvType type, int64_t block_tokens,
             int64_t blocks)
    : type_(type), block_tokens_(block_tokens) {
    int64_t bytes = 0;  // of a block
    for (const AttendShape& shape : attends) {
        require(type != KvType::I8 || shape.head_dim <= kMaxInt8HeadDim, "head_dim is ", shape.head_dim,
                ": an int8 cache takes at most ", kMaxInt8HeadDim);
        const int64_t stride = round_up(shape.head_dim, kHeadUnit);
        const int64_t tile_bytes = kTile * position_bytes(type, stride);
        attends_.push_back({bytes, tile_bytes, stride, shape});
        bytes += 2 * shape.kv_heads * (block_tokens / kTile) * tile_bytes;
    }
    for (const ConvShape& shape : convs) {
        inputs_.push_back(bytes);
        bytes += round_up((shape.taps - 1) * shape.width * static_cast<int64_t>(sizeof(float)), 64);
    }
    blocks_.map("cache blocks", blocks, bytes);
}

// In a slot of a block: keys [kv_heads, tiles], then values [kv_heads, tiles].
void* Cache::tile(int64_t slot, int64_t block, int64_t index) const {
    const AttendLayout& layout = attends_[slot];
    return blocks_.part(block) + layout.offset + index * layout.tile_bytes;
}

void* Cache::keys(int64_t slot, int64_t block, int64_t kv_head, int64_t tile_index) const {
    return tile(slot, block, kv_head * (block_tokens_ / kTile) + tile_index);
}

void* Cache::values(int64_t slot, int64_t block, int64_t kv_head, int64_t tile_index) const {
    return keys(slot, block, attends_[slot].shape.kv_heads + kv_head, tile_index);
}

void Cache::write(const Kernels& kernels, int64_t slot, int64_t block, int64_t kv_head, int64_t offset,
                  const float* key, const float* value, uint16_t* half) const {
    const AttendLayout& layout = attends_[slot];
    const int64_t n = layout.shape.head_dim, at = offset % kTile;
    void* key_tile = keys(slot, block, kv_head, offset / kTile);
    void* value_tile = values(slot, block, kv_head, offset / kTile);
    switch (type_) {
        case KvType::F16:
            kernels.to_half(key, n, half);
            for (int64_t d = 0; d < n; ++d) static_cast<uint16_t*>(key_tile)[d * kTile + at] = half[d];
            kernels.to_half(value, n, static_cast<uint16_t*>(value_tile) + at * layout.stride);
            break;
        case KvType::F32:
            for (int64_t d = 0; d < n; ++d) static_cast<float*>(key_tile)[d * kTile + at] = key[d];
            std::memcpy(static_cast<float*>(value_tile) + at * layout.stride, value,
                        static_cast<size_t>(n) * sizeof(float));
            break;
        case KvType::I8: {
            const Rounding k = rounding(key, n), v = rounding(value, n);
            auto *key_bytes = static_cast<int8_t*>(key_tile), *value_bytes = static_cast<int8_t*>(value_tile);
            for (int64_t d = 0; d < n; ++d) {
                key_bytes[(d / 2 * kTile + at) * 2 + d % 2] = k.of(key[d]);
                value_bytes[(at / 2 * layout.stride + d) * 2 + at % 2] = v.of(value[d]);
            }
            reinterpret_cast<float*>(key_bytes + kTile * layout.stride)[at] = k.scale;
            reinterpret_cast<float*>(value_bytes + kTile * layout.stride)[at] = v.scale;
            break;
        }
    }
}

float* Cache::inputs(int64_t slot, int64_t block) const {
    return reinterpret_cast<float*>(blocks_.part(block) + inputs_[slot]);
}

}  // namespace headrace
