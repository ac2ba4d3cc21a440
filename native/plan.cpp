#include "plan.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "require.h"

namespace headrace {
namespace {

constexpr int64_t kMaxWidth = int64_t{1} << 24;  // of a value

// What is known while the steps before it have been bound.
struct Binder {
    const Weights& weights;
    const int64_t vocab_size;
    BoundPlan plan;
    int quantised_value = -1;  // which value the scratch of quantised activations holds at this point of the plan
    int quantised_at = -1;     // the step that put it there
    std::map<int64_t, AttendShape> attends;
    std::map<int64_t, ConvShape> convs;
};

// One step on its way in: sentences name it by its place and operation.
struct Draft {
    Binder& binder;
    const StepSpec& spec;
    const size_t place;
    Step step;

    std::string name() const { return "step " + std::to_string(place) + " (" + spec.op + ")"; }
    const Step& input(size_t i) const { return binder.plan.steps[static_cast<size_t>(step.inputs[i])]; }
};

double attribute(const Draft& d, const std::string& name) {
    const auto found = d.spec.attributes.find(name);
    require(found != d.spec.attributes.end(), d.name(), " lacks the attribute ", name);
    require(std::isfinite(found->second), d.name(), ": ", name, " is not a finite number");
    return found->second;
}

bool flag(const Draft& d, const std::string& name) { return attribute(d, name) != 0; }

bool optional_flag(const Draft& d, const std::string& name) {
    return d.spec.attributes.contains(name) && flag(d, name);
}

int64_t whole(const Draft& d, const std::string& name, int64_t least, int64_t most) {
    const double value = attribute(d, name);
    require(value == std::floor(value) && value >= static_cast<double>(least) && value <= static_cast<double>(most),
            d.name(), ": ", name, " is ", value, ": expected a whole number from ", least, " to ", most);
    return static_cast<int64_t>(value);
}

float epsilon(const Draft& d) {
    const double eps = attribute(d, "eps");
    require(eps >= 0 && eps <= 1, d.name(), ": eps is ", eps, ": expected 0 to 1");
    return static_cast<float>(eps);
}

void expect_weights(const Draft& d, size_t count) {
    require(d.spec.weights.size() == count, d.name(), " names ", d.spec.weights.size(), " weights: expected ", count);
}

const std::vector<Matrix>& matrices(const Draft& d, size_t i) {
    const auto found = d.binder.weights.find(d.spec.weights[i]);
    require(found != d.binder.weights.end(), d.name(), ": there is no weight ", d.spec.weights[i]);
    return found->second;
}

void expect_shape(const Draft& d, size_t i, const Matrix& m, int64_t rows, int64_t columns) {
    require((rows < 0 || m.rows == rows) && m.columns == columns, d.name(), ": weight ", d.spec.weights[i],
            " has shape [", m.rows, ", ", m.columns, "]: expected [", rows < 0 ? "any" : std::to_string(rows), ", ",
            columns, "]");
}

const Matrix& matrix(const Draft& d, size_t i, int64_t rows, int64_t columns) {
    const std::vector<Matrix>& found = matrices(d, i);
    require(found.size() == 1, d.name(), ": weight ", d.spec.weights[i], " has ", found.size(),
            " matrices: expected one");
    expect_shape(d, i, found[0], rows, columns);
    return found[0];
}

Vector numbers(const Draft& d, size_t i, int64_t rows, int64_t columns) {
    const Matrix& m = matrix(d, i, rows, columns);
    require(m.type == Type::F32, d.name(), ": weight ", d.spec.weights[i], " has type ", info(m.type).name,
            ": expected F32");
    Vector copy(static_cast<size_t>(rows * columns));
    std::copy_n(m.data, rows * m.row_bytes, reinterpret_cast<uint8_t*>(copy.data()));
    return copy;
}

void expect_inputs(const Draft& d, size_t least, size_t most) {
    const size_t count = d.step.inputs.size();
    require(count >= least && count <= most, d.name(), " has ", count, " inputs: expected ", least,
            least == most ? "" : " to " + std::to_string(most));
    for (size_t i = 1; i < count; ++i) {
        require(d.input(i).selected == d.input(0).selected, d.name(), " mixes values before and after select");
    }
}

void expect_before_select(const Draft& d) {
    require(!d.input(0).selected, d.name(), " keeps state, so it must stand before select");
}

int64_t input_width(const Draft& d) {
    int64_t width = 0;
    for (size_t i = 0; i < d.step.inputs.size(); ++i) width += d.input(i).width;
    return width;
}

// Whether this step must quantise its first input, or finds it in the scratch already: because an earlier step needed
// it, or because it comes from a norm, which can quantise each row while it is at hand.
bool must_quantise(Draft& d, bool any_quantised) {
    Binder& b = d.binder;
    const int value = d.step.inputs[0];
    if (!any_quantised || b.quantised_value == value) return false;
    Norm* norm = std::get_if<Norm>(&b.plan.steps[static_cast<size_t>(value)].operation);
    const bool by_norm = norm && b.quantised_at < value;  // and nobody reads the scratch between
    if (by_norm) norm->quantise = true;
    b.quantised_value = value;
    b.quantised_at = by_norm ? value : static_cast<int>(d.place);
    return !by_norm;
}

bool any_quantised(const std::vector<Matrix>& all) {
    return std::any_of(all.begin(), all.end(), [](const Matrix& m) { return m.quantised(); });
}

// Each bind_ function fills the step's operation and width.

void bind_embed(Draft& d) {
    expect_inputs(d, 0, 0);
    expect_weights(d, 1);
    const std::vector<Matrix>& table = matrices(d, 0);
    require(table.size() == 1, d.name(), ": weight ", d.spec.weights[0], " must be one matrix");
    expect_shape(d, 0, table[0], d.binder.vocab_size, table[0].columns);
    d.step.operation = Embed{table[0]};
    d.step.width = table[0].columns;
}

void bind_norm(Draft& d) {
    expect_inputs(d, 1, 1);
    expect_weights(d, 1);
    d.step.width = d.input(0).width;
    d.step.operation = Norm{numbers(d, 0, 1, d.step.width), epsilon(d)};
}

void bind_linear(Draft& d) {
    expect_inputs(d, 1, 1);
    const bool bias = optional_flag(d, "bias");
    const size_t count = d.spec.weights.size() / (bias ? 2 : 1);
    require(count > 0 && d.spec.weights.size() == count * (bias ? 2 : 1), d.name(), " names ", d.spec.weights.size(),
            " weights: expected ", bias ? "as many biases as matrices" : "one or more matrices");
    LinearStep linear;
    for (size_t i = 0; i < count; ++i) {
        linear.matrices.push_back(matrix(d, i, -1, d.input(0).width));
        d.step.width += linear.matrices[i].rows;
        if (bias) linear.biases.push_back(numbers(d, count + i, 1, linear.matrices[i].rows));
    }
    linear.quantise = must_quantise(d, any_quantised(linear.matrices));
    d.step.operation = std::move(linear);
}

void bind_conv(Draft& d) {
    expect_inputs(d, 1, 1);
    expect_before_select(d);
    const bool bias = optional_flag(d, "bias");
    expect_weights(d, bias ? 2 : 1);
    const int64_t width = d.input(0).width / 3;
    require(width > 0 && d.input(0).width == 3 * width, d.name(), " has an input of width ", d.input(0).width,
            ": expected a multiple of 3");
    const std::vector<Matrix>& taps = matrices(d, 0);
    const int64_t count = taps.empty() ? 0 : taps[0].columns;
    const Vector weight = numbers(d, 0, width, count);
    Conv conv{whole(d, "slot", 0, kMaxWidth), width, count, Vector(weight.size()), {}};
    for (int64_t h = 0; h < width; ++h) {
        for (int64_t k = 0; k < count; ++k) conv.weight[k * width + h] = weight[h * count + k];
    }
    if (bias) conv.bias = numbers(d, 1, 1, width);
    const bool fresh = d.binder.convs.insert({conv.slot, {width, count}}).second;
    require(fresh, d.name(), ": slot ", conv.slot, " is taken by an earlier convolution");
    d.step.operation = std::move(conv);
    d.step.width = width;
}

// float32 like transformers, whose angles would differ from exact ones at long positions.
Vector rope_frequencies(int64_t head_dim, double theta) {
    Vector frequencies(static_cast<size_t>(head_dim / 2));
    for (size_t i = 0; i < frequencies.size(); ++i) {
        const float exponent = static_cast<float>(2 * i) / static_cast<float>(head_dim);
        frequencies[i] = 1 / static_cast<float>(std::pow(static_cast<double>(static_cast<float>(theta)), exponent));
    }
    return frequencies;
}

void bind_attend(Draft& d) {
    expect_inputs(d, 1, 3);
    require(d.step.inputs.size() != 2, d.name(), " has 2 inputs: expected q, k, v or one qkv");
    expect_before_select(d);
    const bool norm = !d.spec.attributes.contains("qk_norm") || flag(d, "qk_norm");
    const bool factors = optional_flag(d, "factors");
    expect_weights(d, (norm ? 2u : 0u) + (factors ? 1u : 0u));
    AttendStep attend{};
    attend.slot = whole(d, "slot", 0, kMaxWidth);
    attend.heads = whole(d, "heads", 1, kMaxWidth);
    attend.kv_heads = whole(d, "kv_heads", 1, attend.heads);
    attend.head_dim = whole(d, "head_dim", 2, 1 << 16);
    require(attend.heads % attend.kv_heads == 0, d.name(), ": ", attend.heads, " heads are no multiple of ",
            attend.kv_heads, " kv_heads");
    require(attend.head_dim % 2 == 0, d.name(), ": head_dim is ", attend.head_dim, ": expected an even number");
    const int64_t q = attend.heads * attend.head_dim, kv = attend.kv_heads * attend.head_dim;
    require(input_width(d) == q + 2 * kv, d.name(), " has inputs of width ", input_width(d), ": expected ", q + 2 * kv);
    if (d.step.inputs.size() == 3) {
        require(d.input(0).width == q && d.input(1).width == kv, d.name(), ": q, k and v must have widths ", q, ", ",
                kv, " and ", kv);
    }
    const double theta = attribute(d, "theta");
    require(theta > 0, d.name(), ": theta is ", theta, ": expected a positive number");
    if (norm) {
        attend.q_norm = numbers(d, 0, 1, attend.head_dim);
        attend.k_norm = numbers(d, 1, 1, attend.head_dim);
        attend.eps = epsilon(d);
    }
    attend.frequencies = rope_frequencies(attend.head_dim, theta);
    if (factors) {
        const Vector divisors = numbers(d, norm ? 2 : 0, 1, attend.head_dim / 2);
        for (size_t i = 0; i < divisors.size(); ++i) attend.frequencies[i] /= divisors[i];
    }
    const bool fresh = d.binder.attends.insert({attend.slot, {attend.kv_heads, attend.head_dim}}).second;
    require(fresh, d.name(), ": slot ", attend.slot, " is taken by an earlier attention");
    d.step.operation = std::move(attend);
    d.step.width = q;
}

void bind_swiglu(Draft& d) {
    expect_inputs(d, 1, 2);
    expect_weights(d, 0);
    d.step.width = input_width(d) / 2;
    require(input_width(d) == 2 * d.step.width && (d.step.inputs.size() == 1 || d.input(0).width == d.step.width),
            d.name(), ": gate and up must have the same width");
    d.step.operation = SwiGlu{};
}

void bind_route(Draft& d) {
    expect_inputs(d, 1, 1);
    const bool bias = flag(d, "bias");
    expect_weights(d, bias ? 2 : 1);
    const std::vector<Matrix>& gate = matrices(d, 0);
    Route route{};
    route.experts = gate.empty() ? 0 : gate[0].rows;
    route.gate = numbers(d, 0, route.experts, d.input(0).width);
    if (bias) route.bias = numbers(d, 1, 1, route.experts);
    route.top_k = whole(d, "top_k", 1, route.experts);
    route.normalise = flag(d, "normalise");
    route.scale = static_cast<float>(attribute(d, "scale"));
    d.step.width = 2 * route.top_k;
    d.step.operation = std::move(route);
}

void expect_stack(const Draft& d, size_t i, size_t experts, int64_t rows, int64_t columns) {
    const std::vector<Matrix>& stack = matrices(d, i);
    require(stack.size() == experts, d.name(), ": weight ", d.spec.weights[i], " has ", stack.size(),
            " matrices: expected one for each of ", experts, " experts");
    for (const Matrix& m : stack) expect_shape(d, i, m, rows, columns);
}

void bind_experts(Draft& d) {
    expect_inputs(d, 2, 2);
    expect_weights(d, 3);
    const Route* route = std::get_if<Route>(&d.input(1).operation);
    require(route, d.name(), ": the second input must be a route");
    const auto count = static_cast<size_t>(route->experts);
    const int64_t width = d.input(0).width;
    const std::vector<Matrix>& gate = matrices(d, 0);
    const int64_t hidden = gate.empty() ? 0 : gate[0].rows;
    expect_stack(d, 0, count, hidden, width);
    expect_stack(d, 1, count, hidden, width);
    expect_stack(d, 2, count, width, hidden);
    Experts experts{gate, matrices(d, 1), matrices(d, 2), hidden, route->top_k, false, false};
    experts.quantise = must_quantise(d, any_quantised(experts.gate) || any_quantised(experts.up));
    experts.quantise_hidden = any_quantised(experts.down);
    d.step.operation = std::move(experts);
    d.step.width = width;
}

void bind_add(Draft& d) {
    expect_inputs(d, 2, 2);
    expect_weights(d, 0);
    d.step.width = d.input(0).width;
    require(d.input(1).width == d.step.width, d.name(), " adds widths ", d.step.width, " and ", d.input(1).width);
    d.step.operation = Add{};
}

void bind_select(Draft& d) {
    expect_inputs(d, 1, 1);
    expect_weights(d, 0);
    require(!d.input(0).selected, d.name(), " stands after another select");
    d.step.width = d.input(0).width;
    d.step.selected = true;
    d.step.operation = Select{};
}

void bind_operation(Draft& d) {
    static const std::map<std::string, void (*)(Draft&)> kBind = {
        {"embed", bind_embed},   {"norm", bind_norm},     {"linear", bind_linear}, {"conv", bind_conv},
        {"attend", bind_attend}, {"swiglu", bind_swiglu}, {"route", bind_route},   {"experts", bind_experts},
        {"add", bind_add},       {"select", bind_select},
    };
    const auto found = kBind.find(d.spec.op);
    require(found != kBind.end(), d.name(), ": there is no such operation");
    found->second(d);
}

bool goes_by_rows(const Step& step) {
    return std::holds_alternative<Add>(step.operation) || std::holds_alternative<Norm>(step.operation);
}

// Both steps share out whole rows in the same way, and all rows are equally wide: a buffer that this step takes over
// from one that the step before has read last is overwritten only where the same thread has read it.
bool follows_rows(const Draft& d) {
    if (d.place == 0 || !goes_by_rows(d.step)) return false;
    const Step& before = d.binder.plan.steps.back();
    return goes_by_rows(before) && before.selected == d.step.selected && before.width == d.step.width;
}

void bind_step(Binder& binder, const StepSpec& spec) {
    Draft d{binder, spec, binder.plan.steps.size(), {}};
    for (int64_t input : spec.inputs) {
        require(input >= 0 && input < static_cast<int64_t>(d.place), d.name(), " reads step ", input,
                ": expected an earlier one");
        const bool routing = std::holds_alternative<Route>(binder.plan.steps[input].operation);
        require(!routing || spec.op == "experts", d.name(), " reads a routing: only experts can");
        d.step.inputs.push_back(static_cast<int>(input));
    }
    d.step.selected = !spec.inputs.empty() && d.input(0).selected;
    bind_operation(d);
    d.step.joined = follows_rows(d);
    require(d.step.width <= kMaxWidth, d.name(), " gives a value of width ", d.step.width, ": at most ", kMaxWidth);
    binder.plan.steps.push_back(std::move(d.step));
}

// The step after which a value is not read any more; the last one's value is never given up.
std::vector<size_t> last_uses(const std::vector<Step>& steps) {
    std::vector<size_t> last(steps.size());
    for (size_t i = 0; i < steps.size(); ++i) {
        last[i] = i;
        for (int input : steps[i].inputs) last[static_cast<size_t>(input)] = i;
    }
    last.back() = steps.size();
    return last;
}

// Values that do not live at the same time share a buffer: the free one whose width fits best.
void plan_buffers(BoundPlan& plan) {
    const std::vector<size_t> last = last_uses(plan.steps);
    std::vector<int> free;
    for (size_t i = 0; i < plan.steps.size(); ++i) {
        Step& step = plan.steps[i];
        const auto distance = [&](int buffer) { return std::abs(plan.buffer_widths[buffer] - step.width); };
        const auto best =
            std::min_element(free.begin(), free.end(), [&](int a, int b) { return distance(a) < distance(b); });
        if (best != free.end()) {
            step.buffer = *best;
            free.erase(best);
        } else {
            step.buffer = static_cast<int>(plan.buffer_widths.size());
            plan.buffer_widths.push_back(0);
        }
        int64_t& width = plan.buffer_widths[step.buffer];
        width = std::max(width, step.width);
        for (size_t j = 0; j <= i; ++j) {
            if (last[j] == i) free.push_back(plan.steps[j].buffer);
        }
    }
}

template <typename Shape>
std::vector<Shape> in_order(const std::map<int64_t, Shape>& slots, const char* kind) {
    std::vector<Shape> shapes;
    for (const auto& [slot, shape] : slots) {
        require(slot == static_cast<int64_t>(shapes.size()), "the plan's ", kind, " slots skip ", shapes.size());
        shapes.push_back(shape);
    }
    return shapes;
}

}  // namespace

BoundPlan bind_plan(const std::vector<StepSpec>& specs, const Weights& weights, int64_t vocab_size) {
    require(!specs.empty(), "the plan has no steps");
    Binder binder{weights, vocab_size, {}, -1, -1, {}, {}};
    for (const StepSpec& spec : specs) bind_step(binder, spec);
    const Step& last = binder.plan.steps.back();
    require(last.selected && last.width == vocab_size && !std::holds_alternative<Route>(last.operation),
            "the plan must end in logits: ", vocab_size, " numbers for each selected row");
    plan_buffers(binder.plan);
    binder.plan.attends = in_order(binder.attends, "attention");
    binder.plan.convs = in_order(binder.convs, "convolution");
    for (size_t i = 0; i < binder.plan.steps.size(); ++i) {
        if (std::holds_alternative<Route>(binder.plan.steps[i].operation)) binder.plan.routes.push_back(i);
    }
    return std::move(binder.plan);
}

}  // namespace headrace
