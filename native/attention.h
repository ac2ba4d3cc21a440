// The attention of a step: keys and values of new tokens go to the cache, and every token looks at what its sequence
// has there. What a token sees is cut into spans of kSpan positions, counted from 0. Each is a softmax of its own, and
// they are merged in order. So the spans of one long context can be shared out over threads, and yet the result is the
// same, bit for bit, as where one thread takes one span after the other.
#pragma once
#include "operations.h"

namespace headrace {

// Fills `query_tiles` and `query_spans`.
void find_query_tiles(Scratch& scratch, const Batch& batch);

// Room for one attention of a batch whose tiles have been found.
void reserve_attention(Scratch& scratch, const AttendStep& a, const Batch& batch, int threads);
void attend(const AttendStep& a, const Job& job, float* out);

}  // namespace headrace
