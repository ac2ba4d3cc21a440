// Panels: the order in which the fast kernels read a quantised matrix. 32 rows lie together, group of 32 columns after
// group, so that a kernel walks through memory in one stream and never shuffles. A permutation of the bits of GGML's
// blocks (the sign of Q8_0 is turned), of exactly the same size, so it can be undone.
//
// A quad is the weights of four neighbouring columns. A vector of 64 bytes has one quad of 16 rows: byte 4 c + b is
// column b of row c. Of n bits a weight, it has the quads of 8 / n such half panels, from the low bits up: quad 0 of
// rows 0 .. 15, quad 0 of rows 16 .. 31, quad 1 of rows 0 .. 15, ...
//   Q4_0, Q4_1, IQ4_NL      a group:  8 vectors of nibbles; 32 fp16 d; 32 fp16 m of Q4_1
//   Q5_0, Q5_1              a group:  8 vectors of nibbles, 2 of fifth bits; 32 fp16 d; 32 fp16 m of Q5_1
//   Q8_0                    a group:  16 vectors of bytes, each weight plus 128; 32 fp16 d
//   Q6_K                    a group:  8 vectors of nibbles, 4 of the two bits above them; int8 s of columns 0 .. 15 for
//                                     32 rows, then of columns 16 .. 31
//         after each 8 groups: 32 fp16 d
//   Q4_K                    a group:  8 vectors of nibbles
//   Q5_K                    a group:  8 vectors of nibbles, 2 of fifth bits
//         after each 8 groups: 6 vectors of sixes; 32 fp16 d; 32 fp16 e
//   Q3_K                    a group:  4 vectors of two bits, 2 of third bits
//         after each 8 groups: 6 vectors of sixes; 32 fp16 d
// Sixes are the two six-bit numbers of each group: s of columns 0 .. 15 and of columns 16 .. 31 in Q3_K, s and m in the
// others. A row has sixteen, in order, four in a word of 24 bits; words 0, 1 and 2 are the low bits of three dwords,
// and byte i of word 3 is the high byte of dword i. Vector 2 i + h holds dword i of rows 16 h to 16 h + 15.
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
