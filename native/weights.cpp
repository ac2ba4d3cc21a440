#include "weights.h"

#include <array>
#include <string_view>

#include "panels.h"
#include "require.h"

namespace headrace {
namespace {

constexpr std::array<TypeInfo, kTypes> kInfo = {{
    {"F32", 1, 4, false},
    {"F16", 1, 2, false},
    {"BF16", 1, 2, false},
    {"Q8_0", 32, 34, true},
    {"Q4_0", 32, 18, true},
    {"Q6_K", 256, 210, true},
    {"Q4_1", 32, 20, true},
    {"Q5_0", 32, 22, true},
    {"Q5_1", 32, 24, true},
    {"IQ4_NL", 32, 18, true},
    {"Q3_K", 256, 110, true},
    {"Q4_K", 256, 144, true},
    {"Q5_K", 256, 176, true},
}};

constexpr std::string_view kPanelsSuffix = "/panels";
constexpr int64_t kMaxSide = int64_t{1} << 31;  // rows or columns: products of two sides stay far from overflow

Type type_named(const std::string& weight, const std::string& type) {
    for (int i = 0; i < kTypes; ++i) {
        if (type == kInfo[i].name) return static_cast<Type>(i);
    }
    std::string all;
    for (const TypeInfo& known : kInfo) all += (all.empty() ? "" : ", ") + std::string(known.name);
    reject("weight ", weight, " has type ", type, ": expected one of ", all);
}

}  // namespace

const TypeInfo& info(Type type) { return kInfo[static_cast<size_t>(type)]; }

Matrix make_matrix(const std::string& name, const std::string& type, int64_t rows, int64_t columns, const uint8_t* data,
                   int64_t size_bytes) {
    const bool panels = type.ends_with(kPanelsSuffix);
    const Type parsed = type_named(name, panels ? type.substr(0, type.size() - kPanelsSuffix.size()) : type);
    const TypeInfo& layout = info(parsed);
    require(rows > 0 && columns > 0 && rows < kMaxSide && columns < kMaxSide, "weight ", name, " has shape [", rows,
            ", ", columns, "]: expected positive sides");
    require(columns % layout.block == 0, "weight ", name, " has ", columns, " columns: ", type, " needs a multiple of ",
            layout.block);
    const int64_t row_bytes = columns / layout.block * layout.block_bytes;
    require(rows * row_bytes == size_bytes, "weight ", name, " has ", size_bytes, " bytes: ", type, " of shape [", rows,
            ", ", columns, "] takes ", rows * row_bytes);
    require(!panels || has_panels(parsed, rows), "weight ", name, " of ", rows, " rows cannot be ", type);
    return {parsed, rows, columns, row_bytes, data, panels};
}

}  // namespace headrace
