#include "mapping.h"

#include <sys/mman.h>

#include <limits>

#include "require.h"

namespace headrace {

Mapping::~Mapping() {
    if (memory_) munmap(memory_, static_cast<size_t>(bytes_));
}

void Mapping::map(const char* parts, int64_t count, int64_t part_bytes) {
    part_bytes_ = part_bytes;
    if (count == 0 || part_bytes == 0) return;
    require(count <= std::numeric_limits<int64_t>::max() / part_bytes, count, " ", parts, " of ", part_bytes,
            " bytes cannot be addressed: ask for fewer");
    bytes_ = count * part_bytes;
    void* memory = mmap(nullptr, static_cast<size_t>(bytes_), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    require(memory != MAP_FAILED, count, " ", parts, " of ", part_bytes,
            " bytes do not fit this machine's memory: ask for fewer");
    memory_ = static_cast<uint8_t*>(memory);
}

}  // namespace headrace
