// A plan bound to its weights: what a step runs. `bind_plan` checks everything that the operations later rely on.
#pragma once
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "cache.h"
#include "weights.h"

namespace headrace {

// A step as Python describes it (headrace.plan.Step): attributes are numbers, and booleans are 0 or 1.
struct StepSpec {
    std::string op;
    std::vector<int64_t> inputs;
    std::vector<std::string> weights;
    std::map<std::string, double> attributes;
};

using Vector = std::vector<float>;  // small weights are copied

struct Embed {
    Matrix table;  // [V, H]
};

struct Norm {
    Vector weight;  // [H]
    float eps;
    bool quantise = false;  // whether what follows reads it quantised
};

struct LinearStep {
    std::vector<Matrix> matrices;  // [O, I] each; outputs stand side by side
    std::vector<Vector> biases;    // one for each matrix, or none
    bool quantise;                 // whether the input must be quantised first
};

struct Conv {
    int64_t slot, width, taps;
    Vector weight;  // [taps, width], transposed so that channels lie together
    Vector bias;    // [width], or empty
};

struct AttendStep {
    int64_t slot, heads, kv_heads, head_dim;
    Vector q_norm, k_norm;  // [head_dim], or empty: queries and keys have no norm
    Vector frequencies;     // [head_dim / 2], radians per position
    float eps;              // of the norms
};

struct SwiGlu {};

struct Route {
    Vector gate;  // [E, H]
    Vector bias;  // [E], or empty: moves the choice, not the weights
    int64_t experts, top_k;
    bool normalise;
    float scale;
};

struct Experts {
    std::vector<Matrix> gate, up, down;  // E each: [I, H], [I, H], [H, I]
    int64_t hidden, top_k;               // I
    bool quantise;                       // whether the input must be quantised first
    bool quantise_hidden;
};

struct Add {};

struct Select {};

using Operation = std::variant<Embed, Norm, LinearStep, Conv, AttendStep, SwiGlu, Route, Experts, Add, Select>;

// A step gives one value: `width` float32 for each token of the batch, or for each wanted row if `selected`.
// The value of Route is [T, 2 top_k]: the experts' numbers, best first, then their weights in the sum.
struct Step {
    Operation operation;
    std::vector<int> inputs;  // earlier steps
    int64_t width;
    bool selected;
    int buffer;           // values that do not live at the same time share one
    bool joined = false;  // to the step before: each thread reads only the rows that it wrote itself
};

struct BoundPlan {
    std::vector<Step> steps;
    std::vector<int64_t> buffer_widths;  // the widest value of each buffer
    std::vector<AttendShape> attends;    // by slot
    std::vector<ConvShape> convs;        // by slot
    std::vector<size_t> routes;          // which steps are routers
};

// Throws a sentence unless every name, shape, type and attribute fits.
BoundPlan bind_plan(const std::vector<StepSpec>& specs, const Weights& weights, int64_t vocab_size);

}  // namespace headrace
