#include "cache.h"

#include <sys/mman.h>

#include <cstring>
#include <limits>

#include "require.h"

namespace headrace {
namespace {

int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

uint8_t* map_memory(int64_t blocks, int64_t block_bytes) {
    require(blocks <= std::numeric_limits<int64_t>::max() / block_bytes, "a cache of ", blocks, " blocks of ",
            block_bytes, " bytes cannot be addressed: ask for fewer blocks");
    void* memory = mmap(nullptr, static_cast<size_t>(blocks * block_bytes), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    require(memory != MAP_FAILED, "a cache of ", blocks, " blocks of ", block_bytes,
            " bytes does not fit this machine's memory: ask for fewer blocks");
    return static_cast<uint8_t*>(memory);
}

}  // namespace

Cache::Cache(std::vector<AttendShape> attends, std::vector<ConvShape> convs, KvType type, int64_t block_tokens,
             int64_t blocks)
    : type_(type), block_tokens_(block_tokens), blocks_(blocks), number_bytes_(type == KvType::F16 ? 2 : 4) {
    const int64_t tiles = block_tokens / kTile;
    for (const AttendShape& shape : attends) {
        const int64_t stride = round_up(shape.head_dim, kTile);
        attends_.push_back({block_bytes_, stride * kTile, stride, shape});
        block_bytes_ += 2 * shape.kv_heads * tiles * stride * kTile * number_bytes_;
    }
    for (const ConvShape& shape : convs) {
        inputs_.push_back(block_bytes_);
        block_bytes_ += round_up((shape.taps - 1) * shape.width * static_cast<int64_t>(sizeof(float)), 64);
    }
    block_bytes_ = block_bytes_ ? block_bytes_ : 64;  // a plan may have neither attention nor convolution
    memory_ = map_memory(blocks, block_bytes_);
}

Cache::~Cache() { munmap(memory_, static_cast<size_t>(blocks_ * block_bytes_)); }

// In a slot of a block: keys [kv_heads, tiles], then values [kv_heads, tiles].
void* Cache::tile(int64_t slot, int64_t block, int64_t index) const {
    const AttendLayout& layout = attends_[slot];
    return memory_ + block * block_bytes_ + layout.offset + index * layout.tile_numbers * number_bytes_;
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
    const int64_t n = layout.shape.head_dim, lane = offset % kTile;
    void* keys_tile = keys(slot, block, kv_head, offset / kTile);
    void* values_tile = values(slot, block, kv_head, offset / kTile);
    if (type_ == KvType::F16) {
        kernels.to_half(key, n, half);
        for (int64_t d = 0; d < n; ++d) static_cast<uint16_t*>(keys_tile)[d * kTile + lane] = half[d];
        kernels.to_half(value, n, static_cast<uint16_t*>(values_tile) + lane * layout.value_stride);
    } else {
        for (int64_t d = 0; d < n; ++d) static_cast<float*>(keys_tile)[d * kTile + lane] = key[d];
        std::memcpy(static_cast<float*>(values_tile) + lane * layout.value_stride, value,
                    static_cast<size_t>(n) * sizeof(float));
    }
}

float* Cache::inputs(int64_t slot, int64_t block) const {
    return reinterpret_cast<float*>(memory_ + block * block_bytes_ + inputs_[slot]);
}

}  // namespace headrace
