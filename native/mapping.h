// Memory for many equal parts: mapped, not touched, so that a part which nobody uses costs nothing.
#pragma once
#include <cstdint>

namespace headrace {

class Mapping {
  public:
    Mapping() = default;
    ~Mapping();
    Mapping(const Mapping&) = delete;
    Mapping& operator=(const Mapping&) = delete;

    // Once. All is zero until it is written. Throws a sentence, which calls the parts `parts`, if they do not fit.
    void map(const char* parts, int64_t count, int64_t part_bytes);

    int64_t part_bytes() const { return part_bytes_; }
    uint8_t* part(int64_t i) const { return memory_ + i * part_bytes_; }

  private:
    uint8_t* memory_ = nullptr;
    int64_t bytes_ = 0, part_bytes_ = 0;
};

}  // namespace headrace
