#include "panels.h"

#include <cstring>

#include "require.h"

namespace headrace {
namespace {

constexpr int64_t kQuads = kGroup / 4;

// A group of one row, as numbers without a sign, and its scales as they are stored.
struct Weights32 {
    uint8_t q[kGroup];
    uint8_t s[2];
};

// Where byte b of quad j of row r lies in a group's vectors of one nibble a weight, and how far it is shifted.
int64_t nibble_at(int64_t j, int64_t r, int64_t b) { return 64 * j + 4 * (r % 16) + b; }
int nibble_shift(int64_t r) { return r < 16 ? 0 : 4; }
int64_t high_at(int64_t j, int64_t r, int64_t b) { return 512 + 64 * (j / 2) + 4 * (r % 16) + b; }
int high_shift(int64_t j, int64_t r) { return static_cast<int>(4 * (j % 2) + 2 * (r / 16)); }
int64_t byte_at(int64_t j, int64_t r, int64_t b) { return 64 * (2 * j + r / 16) + 4 * (r % 16) + b; }

int64_t group_bytes(Type type) { return type == Type::Q4_0 ? 576 : type == Type::Q8_0 ? 1088 : 832; }

// The bytes of a panel's group, and of the d that belong to it.
int64_t group_at(Type type, int64_t g) { return g * group_bytes(type) + (type == Type::Q6_K ? g / 8 * 64 : 0); }
int64_t scale_at(Type type, int64_t g) {
    switch (type) {
        case Type::Q4_0:
            return group_at(type, g) + 512;
        case Type::Q8_0:
            return group_at(type, g) + 1024;
        default:
            return g / 8 * (8 * 832 + 64) + 8 * 832;
    }
}

Weights32 read_row(Type type, const uint8_t* row, int64_t g, uint8_t* d) {
    Weights32 w{};
    if (type == Type::Q4_0) {
        const uint8_t* block = row + 18 * g;
        for (int i = 0; i < 16; ++i) w.q[i] = block[2 + i] & 15, w.q[16 + i] = block[2 + i] >> 4;
        std::memcpy(d, block, 2);
    } else if (type == Type::Q8_0) {
        const uint8_t* block = row + 34 * g;
        for (int i = 0; i < kGroup; ++i) w.q[i] = block[2 + i] ^ 0x80;
        std::memcpy(d, block, 2);
    } else {
        const uint8_t* block = row + 210 * (g / 8);
        const int64_t part = g / 4 % 2, t = g % 4;
        const uint8_t *low = block + 64 * part + 32 * (t % 2), *high = block + 128 + 32 * part;
        for (int i = 0; i < kGroup; ++i) {
            w.q[i] = static_cast<uint8_t>((low[i] >> (t < 2 ? 0 : 4) & 15) | (high[i] >> (2 * t) & 3) << 4);
        }
        std::memcpy(w.s, block + 192 + 8 * part + 2 * t, 2);
        std::memcpy(d, block + 208, 2);
    }
    return w;
}

void write_row(Type type, uint8_t* row, int64_t g, const Weights32& w, const uint8_t* d) {
    if (type == Type::Q4_0) {
        uint8_t* block = row + 18 * g;
        for (int i = 0; i < 16; ++i) block[2 + i] = static_cast<uint8_t>(w.q[i] | w.q[16 + i] << 4);
        std::memcpy(block, d, 2);
    } else if (type == Type::Q8_0) {
        uint8_t* block = row + 34 * g;
        for (int i = 0; i < kGroup; ++i) block[2 + i] = w.q[i] ^ 0x80;
        std::memcpy(block, d, 2);
    } else {
        uint8_t* block = row + 210 * (g / 8);
        const int64_t part = g / 4 % 2, t = g % 4;
        uint8_t *low = block + 64 * part + 32 * (t % 2), *high = block + 128 + 32 * part;
        for (int i = 0; i < kGroup; ++i) {  // the rows were zeroed
            low[i] = static_cast<uint8_t>(low[i] | (w.q[i] & 15) << (t < 2 ? 0 : 4));
            high[i] = static_cast<uint8_t>(high[i] | (w.q[i] >> 4) << (2 * t));
        }
        std::memcpy(block + 192 + 8 * part + 2 * t, w.s, 2);
        std::memcpy(block + 208, d, 2);
    }
}

void write_panel(Type type, uint8_t* panel, int64_t g, int64_t r, const Weights32& w, const uint8_t* d) {
    uint8_t* group = panel + group_at(type, g);
    for (int64_t k = 0; k < kGroup; ++k) {
        const int64_t j = k / 4, b = k % 4;
        if (type == Type::Q8_0) {
            group[byte_at(j, r, b)] = w.q[k];
            continue;
        }
        uint8_t& nibbles = group[nibble_at(j, r, b)];  // the panel was zeroed
        nibbles = static_cast<uint8_t>(nibbles | (w.q[k] & 15) << nibble_shift(r));
        if (type == Type::Q6_K) {
            uint8_t& high = group[high_at(j, r, b)];
            high = static_cast<uint8_t>(high | (w.q[k] >> 4) << high_shift(j, r));
        }
    }
    if (type == Type::Q6_K) {
        for (int half = 0; half < 2; ++half) group[768 + 32 * half + r] = w.s[half];
    }
    std::memcpy(panel + scale_at(type, g) + 2 * r, d, 2);
}

Weights32 read_panel(Type type, const uint8_t* panel, int64_t g, int64_t r, uint8_t* d) {
    const uint8_t* group = panel + group_at(type, g);
    Weights32 w{};
    for (int64_t k = 0; k < kGroup; ++k) {
        const int64_t j = k / 4, b = k % 4;
        if (type == Type::Q8_0) {
            w.q[k] = group[byte_at(j, r, b)];
            continue;
        }
        w.q[k] = group[nibble_at(j, r, b)] >> nibble_shift(r) & 15;
        if (type == Type::Q6_K) {
            w.q[k] = static_cast<uint8_t>(w.q[k] | (group[high_at(j, r, b)] >> high_shift(j, r) & 3) << 4);
        }
    }
    if (type == Type::Q6_K) {
        for (int half = 0; half < 2; ++half) w.s[half] = group[768 + 32 * half + r];
    }
    std::memcpy(d, panel + scale_at(type, g) + 2 * r, 2);
    return w;
}

}  // namespace

static_assert(kQuads == 8);

bool has_panels(Type type, int64_t rows) { return info(type).quantised && rows % kPanelRows == 0; }

void to_panels(const Matrix& rows, uint8_t* panels) {
    require(has_panels(rows.type, rows.rows), "a matrix of ", rows.rows, " rows of ", info(rows.type).name,
            " has no panels: they hold ", kPanelRows, " rows of a quantised type");
    std::memset(panels, 0, static_cast<size_t>(rows.rows * rows.row_bytes));
    uint8_t d[2];
    for (int64_t r = 0; r < rows.rows; ++r) {
        uint8_t* panel = panels + r / kPanelRows * kPanelRows * rows.row_bytes;
        for (int64_t g = 0; g < rows.columns / kGroup; ++g) {
            const Weights32 w = read_row(rows.type, rows.data + r * rows.row_bytes, g, d);
            write_panel(rows.type, panel, g, r % kPanelRows, w, d);
        }
    }
}

void from_panels(const Matrix& panels, uint8_t* rows) {
    require(has_panels(panels.type, panels.rows), "no panels have ", panels.rows, " rows");
    std::memset(rows, 0, static_cast<size_t>(panels.rows * panels.row_bytes));
    uint8_t d[2];
    for (int64_t r = 0; r < panels.rows; ++r) {
        const uint8_t* panel = panels.data + r / kPanelRows * kPanelRows * panels.row_bytes;
        for (int64_t g = 0; g < panels.columns / kGroup; ++g) {
            const Weights32 w = read_panel(panels.type, panel, g, r % kPanelRows, d);
            write_row(panels.type, rows + r * panels.row_bytes, g, w, d);
        }
    }
}

}  // namespace headrace
