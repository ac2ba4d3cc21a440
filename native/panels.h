// Panels: the order in which the fast kernels read a quantised matrix. 32 rows lie together, group of 32 columns after
// group, so that a kernel walks through memory in one stream and never shuffles. A permutation of the bits of GGML's
// blocks (the sign of Q8_0 is turned), of exactly the same size, so it can be undone.
//
// A quad is the weights of four neighbouring columns. A vector of 64 bytes has one quad of 16 rows: byte 4 c + b is
// column b of row c.
//   Q4_0  a group:  8 vectors, quad j of rows 0 .. 15 in the low nibbles and of rows 16 .. 31 in the high ones;
//                   32 fp16 d
//   Q8_0  a group:  8 x 2 vectors, quad j of rows 0 .. 15, then of rows 16 .. 31, each weight plus 128; 32 fp16 d
//   Q6_K  a group:  8 vectors of low nibbles as in Q4_0; 4 vectors of high bits, vector i holding those of quad 2 i
//                   (rows 0 .. 15 in bits 0 and 1, rows 16 .. 31 in bits 2 and 3) and of quad 2 i + 1 (bits 4 to 7);
//                   int8 s of columns 0 .. 15 for 32 rows, then of columns 16 .. 31
//         after each 8 groups: 32 fp16 d
#pragma once
#include "weights.h"

namespace headrace {

inline constexpr int64_t kPanelRows = 32;

// Whether a matrix of this type and shape can lie in panels.
bool has_panels(Type type, int64_t rows);

// `rows` and `panels` [rows * row_bytes]: from the one order to the other.
void to_panels(const Matrix& rows, uint8_t* panels);
void from_panels(const Matrix& panels, uint8_t* rows);

}  // namespace headrace
