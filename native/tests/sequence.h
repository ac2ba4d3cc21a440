// A sequence's keys and values in the tiles of a cache, its queries, and what attention over them must give.
#pragma once
#include "check.h"

namespace headrace::tests {

// Keys, or values, of `positions` positions as numbers, and the tiles that hold them by the layout in kernels.h. A
// tile ends where memory does, and what no position owns is garbage: NaN, or the largest integer.
class Tiles {
  public:
    Tiles(KvType type, bool keys, int64_t head_dim, int64_t positions, Random& random);

    // x is rounded to the type; whole numbers for int8.
    void set(int64_t p, int64_t d, float x);
    void set_scale(int64_t p, float scale) {
        scales(tiles_[static_cast<size_t>(p / kTile)].data())[p % kTile] = scale;
        scales_[static_cast<size_t>(p)] = scale;
    }

    // Without the scale.
    double at(int64_t p, int64_t d) const { return numbers_[static_cast<size_t>(p * head_dim_ + d)]; }
    float scale(int64_t p) const { return scales_[static_cast<size_t>(p)]; }
    const void* const* from(int64_t position) const { return pointers_.data() + position / kTile; }

  private:
    void store(uint8_t* tile, int64_t i, float x);
    float* scales(uint8_t* tile) { return reinterpret_cast<float*>(tile + kTile * stride_); }

    KvType type_;
    bool keys_;
    int64_t head_dim_, stride_;
    std::vector<Input<uint8_t>> tiles_;
    std::vector<const void*> pointers_;
    std::vector<double> numbers_;
    std::vector<float> scales_;
};

// What one query head of one token gives.
struct Answer {
    Expected largest, total;
    std::vector<Expected> sums;
};

// A sequence with one kv head: a query for every position and head, and the cache.
struct Sequence {
    KvType type;
    int64_t heads, head_dim;
    Input<float> q;  // [positions, heads, head_dim]
    Tiles keys, values;

    Sequence(KvType type, int64_t heads, int64_t head_dim, int64_t positions, int64_t slack, Random& random);

    const float* query(int64_t position, int64_t head) const { return q.data() + (position * heads + head) * head_dim; }
    Answer answer(int64_t position, int64_t head, int64_t begin, int64_t end) const;
};

}  // namespace headrace::tests
