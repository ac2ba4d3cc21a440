// What the test program is made of: memory that notices what a kernel must not do, numbers by the definition of their
// format, and comparisons that are counted for each instruction set.
#pragma once
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <map>
#include <new>
#include <sstream>
#include <string>
#include <vector>

#include "buffer.h"
#include "kernels/kernels.h"

namespace headrace::tests {

using Sets = std::vector<const Kernels*>;

// Half the distance from 1 to the next fp32, which bounds the relative error of one rounding; and the least fp32, twice
// the absolute error of one rounding where numbers are too small for that.
inline constexpr double kUnit = 0x1p-24, kLeast = 0x1p-149;

// The relative error of the kernels' exponentials (simd.h), 2 units: its argument, reduced to [-0.35, 0.35], is rounded
// twice, which moves it by a quarter of a unit each; the polynomial's last product by another quarter; and its last sum
// by one unit of a value above 1, or by a half of one above 0.7. The polynomial itself is off by less than a quarter.
inline constexpr double kExponential = 2 * kUnit;

// --- memory ----------------------------------------------------------------------------------------------------------

// What a kernel reads. `slack` elements behind its end a page begins that may not be read: who goes on is killed. The
// slack also moves the beginning, off the alignment that the size alone would give.
template <typename T>
class Input {
  public:
    explicit Input(int64_t n, int64_t slack = 0) : size_(n) {
        const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
        const size_t bytes = static_cast<size_t>(n + slack) * sizeof(T), room = (bytes + page - 1) / page * page;
        mapped_ = room + page;
        void* memory = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) throw std::bad_alloc();
        memory_ = static_cast<uint8_t*>(memory);
        mprotect(memory_ + room, page, PROT_NONE);
        data_ = reinterpret_cast<T*>(memory_ + room - bytes);
    }
    ~Input() {
        if (memory_) munmap(memory_, mapped_);
    }
    Input(Input&& other) noexcept : memory_(other.memory_), mapped_(other.mapped_), data_(other.data_) {
        size_ = other.size_;
        other.memory_ = nullptr;
    }
    Input& operator=(Input&&) = delete;

    T* data() { return data_; }
    const T* data() const { return data_; }
    int64_t size() const { return size_; }
    T& operator[](int64_t i) { return data_[i]; }
    const T& operator[](int64_t i) const { return data_[i]; }

  private:
    uint8_t* memory_;
    size_t mapped_;
    T* data_;
    int64_t size_;
};

// What a kernel writes, and a guard on either side. Everything holds a pattern until it is written. `shift` elements
// off a cache line.
template <typename T>
class Output {
  public:
    static constexpr int64_t kGuard = 64;
    static constexpr uint8_t kPattern = 0xa5;

    explicit Output(int64_t n, int64_t shift = 0) : size_(n), shift_(shift) {
        memory_.reserve(n + shift + 2 * kGuard);
        reset();
    }
    void reset() {
        std::memset(static_cast<void*>(memory_.data()), kPattern,
                    static_cast<size_t>(size_ + shift_ + 2 * kGuard) * sizeof(T));
    }
    // `i` may lie in the guards.
    bool untouched(int64_t i) {
        T pattern;
        std::memset(static_cast<void*>(&pattern), kPattern, sizeof pattern);
        return std::memcmp(&pattern, data() + i, sizeof pattern) == 0;
    }
    T* data() { return memory_.data() + kGuard + shift_; }
    int64_t size() const { return size_; }
    T& operator[](int64_t i) { return data()[i]; }

  private:
    Buffer<T> memory_;
    int64_t size_, shift_;
};

// --- numbers ---------------------------------------------------------------------------------------------------------

// SplitMix64: the same numbers with every compiler and library.
class Random {
  public:
    explicit Random(uint64_t seed) : state_(seed) {}
    uint64_t bits() {
        uint64_t x = state_ += 0x9e3779b97f4a7c15u;
        x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
        x = (x ^ x >> 27) * 0x94d049bb133111ebu;
        return x ^ x >> 31;
    }
    int64_t whole(int64_t least, int64_t most) {
        return least + static_cast<int64_t>(bits() % static_cast<uint64_t>(most - least + 1));
    }
    float uniform(float least, float most) {
        return least + (most - least) * static_cast<float>(static_cast<double>(bits() >> 11) * 0x1p-53);
    }
    uint8_t byte() { return static_cast<uint8_t>(bits()); }

  private:
    uint64_t state_;
};

// fp16, by arithmetic instead of bits: formats.cpp.
double half_value(uint16_t bits);
uint16_t half_bits(double x);  // the nearest, ties to even

// The row's weights: `numbers` of a float type; of a quantised type, weight k is d[k / 32] integers[k], less e[k / 32]
// if the type has a minimum. An integer holds the scale s of Q6_K and Q3_K, d and e those of Q4_K and Q5_K.
struct Row {
    std::vector<double> numbers;
    std::vector<int32_t> integers;
    std::vector<float> d, e;
};
Row decode(Type type, const uint8_t* row, int64_t columns);

// Random weights between -1 and 1 in a float type; random bits and scales between -1/16 and 1/16 in a quantised one.
void fill_weights(Random& random, Type type, uint8_t* bytes, int64_t size);

// Where fp16 d lies in a quantised block, and whether fp16 m or e lies behind it.
int64_t scale_offset(Type type);
bool has_minimum(Type type);

// --- comparisons -----------------------------------------------------------------------------------------------------

// What an element must be. Tolerance 0: the very number, the sign of zero included. NaN stands for every NaN.
struct Expected {
    double value = 0;
    double tolerance = 0;
    bool untouched = false;
};
inline constexpr Expected kUntouched{0, 0, true};

inline double number(float x) { return x; }
inline double number(int8_t x) { return x; }
inline double number(int32_t x) { return x; }
inline double number(uint16_t half) { return half_value(half); }

bool agrees(double got, const Expected& expected);
std::string difference(int64_t i, double got, const Expected& expected);

// "rows", 3, "tokens", 5 as a phrase.
inline std::string shape() { return ""; }
template <typename Value, typename... Rest>
std::string shape(const char* name, const Value& value, const Rest&... rest) {
    std::ostringstream phrase;
    phrase << name << ' ' << value << (sizeof...(rest) ? ", " : "") << shape(rest...);
    return phrase.str();
}

// Comparisons come in groups, each of one kernel; one comparison is one output of one call.
class Report {
  public:
    void begin(const std::string& kernel);
    void end();  // prints the group's line
    int64_t comparisons() const { return comparisons_; }
    int64_t failures() const { return failures_; }

    // Every element of `out` and its guards; expect(i) gives an Expected. `describe()` names the case.
    template <typename T, typename Expect, typename Describe>
    void compare(const char* set, Output<T>& out, const Expect& expect, const Describe& describe) {
        count(set);
        for (int64_t i = -Output<T>::kGuard; i < out.size() + Output<T>::kGuard; ++i) {
            const Expected e = i >= 0 && i < out.size() ? expect(i) : kUntouched;
            if (e.untouched ? out.untouched(i) : agrees(number(out[i]), e)) continue;
            fail(set, describe(), difference(i, number(out[i]), e));
            return;
        }
    }

    // One fact.
    template <typename Describe>
    void require(const char* set, bool holds, const Describe& describe) {
        count(set);
        if (!holds) fail(set, describe(), "does not hold");
    }

  private:
    void count(const char* set) {
        ++comparisons_;
        ++of_set_[set];
    }
    void fail(const char* set, const std::string& where, const std::string& what);

    std::string kernel_;
    std::map<std::string, int64_t> of_set_;  // of the group
    int64_t comparisons_ = 0, failures_ = 0;
};

// In the files of their names, and test_embedding and test_panels in linear.cpp.
void test_embedding(Report& report, const Sets& sets);
void test_linear(Report& report, const Sets& sets);
void test_panels(Report& report, const Sets& sets);
void test_rows(Report& report, const Sets& sets);
void test_attend(Report& report, const Sets& sets);
void test_pool(Report& report, const Sets& sets);
void test_threads(Report& report, const Sets& sets);
void test_model(Report& report, const Sets& sets);
void test_drafts(Report& report, const Sets& sets);

}  // namespace headrace::tests
