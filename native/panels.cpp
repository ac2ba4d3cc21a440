#include "panels.h"

#include <cstring>

#include "kernels/formats.h"
#include "require.h"

namespace headrace {
namespace {

template <Type kType>
void rows_to_panels(const Matrix& m, uint8_t* panels) {
    static_assert(format_of(kType).block_bytes() == kPanelRows * format_of(kType).bytes);
    for (int64_t r = 0; r < m.rows; ++r) {
        uint8_t* panel = panels + r / kPanelRows * kPanelRows * m.row_bytes;
        for (int64_t g = 0; g < m.columns / kGroup; ++g) {
            write_panel<kType>(panel, g, r % kPanelRows, read_row<kType>(m.data + r * m.row_bytes, g));
        }
    }
}

template <Type kType>
void panels_to_rows(const Matrix& m, uint8_t* rows) {
    for (int64_t r = 0; r < m.rows; ++r) {
        const uint8_t* panel = m.data + r / kPanelRows * kPanelRows * m.row_bytes;
        for (int64_t g = 0; g < m.columns / kGroup; ++g) {
            write_row<kType>(rows + r * m.row_bytes, g, read_panel<kType>(panel, g, r % kPanelRows));
        }
    }
}

using Reorder = void(const Matrix&, uint8_t*);

// By type, the float ones first, which have no panels.
constexpr Reorder* kToPanels[kTypes] = {
    nullptr,
    nullptr,
    nullptr,
    rows_to_panels<Type::Q8_0>,
    rows_to_panels<Type::Q4_0>,
    rows_to_panels<Type::Q6_K>,
    rows_to_panels<Type::Q4_1>,
    rows_to_panels<Type::Q5_0>,
    rows_to_panels<Type::Q5_1>,
    rows_to_panels<Type::IQ4_NL>,
    rows_to_panels<Type::Q3_K>,
    rows_to_panels<Type::Q4_K>,
    rows_to_panels<Type::Q5_K>,
};
constexpr Reorder* kToRows[kTypes] = {
    nullptr,
    nullptr,
    nullptr,
    panels_to_rows<Type::Q8_0>,
    panels_to_rows<Type::Q4_0>,
    panels_to_rows<Type::Q6_K>,
    panels_to_rows<Type::Q4_1>,
    panels_to_rows<Type::Q5_0>,
    panels_to_rows<Type::Q5_1>,
    panels_to_rows<Type::IQ4_NL>,
    panels_to_rows<Type::Q3_K>,
    panels_to_rows<Type::Q4_K>,
    panels_to_rows<Type::Q5_K>,
};

void reorder(Reorder* const* table, const Matrix& m, uint8_t* out) {
    std::memset(out, 0, static_cast<size_t>(m.rows * m.row_bytes));
    table[static_cast<size_t>(m.type)](m, out);
}

}  // namespace

bool has_panels(Type type, int64_t rows) { return info(type).quantised && rows % kPanelRows == 0; }

void to_panels(const Matrix& rows, uint8_t* panels) {
    require(has_panels(rows.type, rows.rows), "a matrix of ", rows.rows, " rows of ", info(rows.type).name,
            " has no panels: they hold ", kPanelRows, " rows of a quantised type");
    reorder(kToPanels, rows, panels);
}

void from_panels(const Matrix& panels, uint8_t* rows) {
    require(has_panels(panels.type, panels.rows), "no panels have ", panels.rows, " rows");
    reorder(kToRows, panels, rows);
}

}  // namespace headrace
