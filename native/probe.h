// What this machine can do at most, measured now: shared machines change from one second to the next, so a figure means
// something only beside the limit of the same moment.
#pragma once
#include "buffer.h"
#include "kernels/kernels.h"
#include "pool.h"

namespace headrace {

class Probe {
  public:
    Probe(const Kernels& kernels, int threads);

    // Bytes read in a second by all threads together, each from its own part of memory that no cache can hold. The best
    // of a few passes.
    double read_bytes_per_second();

    // int8 multiply-adds in a second by all threads together. The best of a few passes.
    double multiply_adds_per_second();

  private:
    const Kernels& kernels_;
    Pool pool_;
    Buffer<float> memory_;
    float keep_ = 0;
};

}  // namespace headrace
