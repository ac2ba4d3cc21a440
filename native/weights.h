// Matrices as they lie in the model's file: views, never copies.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace headrace {

struct TypeInfo {
    const char* name;     // GGML's
    int64_t block;        // weights in a block
    int64_t block_bytes;  // bytes of a block
    bool quantised;       // whether its kernels read int8 activations
};

const TypeInfo& info(Type type);

struct Matrix {
    Type type;
    int64_t rows, columns;
    int64_t row_bytes;
    const uint8_t* data;  // the owner of the bytes outlives the model
    bool panels = false;  // in the order of panels.h, not row after row

    bool quantised() const { return info(type).quantised; }
};

// One matrix for a plain weight, one for each expert otherwise. A vector is a matrix of one row.
using Weights = std::map<std::string, std::vector<Matrix>>;

// Checks the type's name (with "/panels" behind it for a matrix in panels), the shape and the number of bytes; `name`
// is for the sentence.
Matrix make_matrix(const std::string& name, const std::string& type, int64_t rows, int64_t columns, const uint8_t* data,
                   int64_t size_bytes);

}  // namespace headrace
