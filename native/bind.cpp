// The Python module headrace._core: the only file that knows Python. src/headrace/_core.pyi describes what it exports.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <memory>

#include "cpu.h"
#include "logprobs.h"
#include "model.h"
#include "panels.h"
#include "probe.h"
#include "require.h"

namespace nb = nanobind;

namespace headrace {
namespace {

template <typename T, int dimensions>
using Array = nb::ndarray<const T, nb::ndim<dimensions>, nb::c_contig, nb::device::cpu>;
using Bytes = Array<uint8_t, 1>;

template <typename T>
T cast_or_reject(nb::handle object, const std::string& sentence) {
    T value;
    if (!nb::try_cast(object, value, false)) reject(sentence);
    return value;
}

// --- construction ----------------------------------------------------------------------------------------------------

StepSpec parse_step(nb::handle object, size_t place) {
    const std::string name = "step " + std::to_string(place);
    const nb::sequence fields = nb::cast<nb::sequence>(object);
    require(nb::len(fields) == 4, name, " must be (op, inputs, weights, attributes)");
    StepSpec step;
    step.op = nb::cast<std::string>(fields[0]);
    for (nb::handle input : nb::iter(fields[1])) step.inputs.push_back(nb::cast<int64_t>(input));
    for (nb::handle weight : nb::iter(fields[2])) step.weights.push_back(nb::cast<std::string>(weight));
    for (nb::handle item : nb::iter(fields[3].attr("items")())) {
        step.attributes[nb::cast<std::string>(item[0])] = nb::cast<double>(nb::float_(item[1]));
    }
    return step;
}

// `keep` gets the arrays whose bytes the matrices point into.
Weights parse_weights(const nb::dict& entries, std::vector<Bytes>& keep) {
    Weights weights;
    for (const auto& [key, entry] : entries) {
        const std::string name = nb::cast<std::string>(key);
        std::vector<Matrix>& matrices = weights[name];
        for (nb::handle item : nb::iter(entry)) {
            const nb::sequence fields = nb::cast<nb::sequence>(item);
            require(nb::len(fields) == 4, "weight ", name, " must be (type, rows, columns, bytes)");
            const auto bytes = cast_or_reject<Bytes>(
                fields[3], "the bytes of weight " + name + " must be a contiguous one-dimensional uint8 array");
            matrices.push_back(make_matrix(name, nb::cast<std::string>(fields[0]), nb::cast<int64_t>(fields[1]),
                                           nb::cast<int64_t>(fields[2]), bytes.data(),
                                           static_cast<int64_t>(bytes.size())));
            keep.push_back(bytes);
        }
    }
    return weights;
}

KvType parse_kv(const std::string& kv) {
    require(kv == "fp16" || kv == "fp32" || kv == "int8", "kv is ", kv, ": expected fp16, fp32 or int8");
    return kv == "fp16" ? KvType::F16 : kv == "fp32" ? KvType::F32 : KvType::I8;
}

// --- batches ---------------------------------------------------------------------------------------------------------

// A batch and the arrays that its spans point into.
struct HeldBatch {
    Batch batch{};
    std::vector<nb::object> keep;

    template <typename T, int dimensions>
    Array<T, dimensions> array(nb::handle object, const char* name, const char* type) {
        keep.push_back(nb::object(object.attr(name)));
        const auto found = cast_or_reject<Array<T, dimensions>>(
            keep.back(), std::string("batch.") + name + " must be a C-contiguous " + type + " array of " +
                             std::to_string(dimensions) + " dimension" + (dimensions == 1 ? "" : "s"));
        return found;
    }
    template <typename T>
    void column(nb::handle object, const char* name, const char* type, std::span<const T>& into) {
        const auto found = array<T, 1>(object, name, type);
        into = {found.data(), found.size()};
    }
};

HeldBatch parse_batch(nb::handle object) {
    HeldBatch held;
    Batch& b = held.batch;
    const auto int32 = [&](const char* name, std::span<const int32_t>& into) {
        held.column(object, name, "int32", into);
    };
    const auto float32 = [&](const char* name, std::span<const float>& into) {
        held.column(object, name, "float32", into);
    };
    int32("tokens", b.tokens);
    int32("starts", b.starts);
    int32("positions", b.positions);
    int32("blocks", b.blocks);
    int32("block_starts", b.block_starts);
    int32("slots", b.slots);
    int32("rewinds", b.rewinds);
    int32("rows", b.rows);
    float32("temperature", b.temperature);
    int32("top_k", b.top_k);
    float32("top_p", b.top_p);
    float32("min_p", b.min_p);
    float32("repeat_penalty", b.repeat_penalty);
    float32("presence_penalty", b.presence_penalty);
    float32("frequency_penalty", b.frequency_penalty);
    held.column(object, "seed", "uint64", b.seed);
    int32("history", b.history);
    int32("history_starts", b.history_starts);
    int32("bias_ids", b.bias_ids);
    float32("bias_values", b.bias_values);
    int32("bias_starts", b.bias_starts);
    int32("mask_rows", b.mask_rows);
    const auto mask = held.array<uint32_t, 2>(object, "mask", "uint32");
    b.mask = {mask.data(), mask.size()};
    b.mask_count = static_cast<int64_t>(mask.shape(0));
    b.mask_words = static_cast<int64_t>(mask.shape(1));
    int32("targets", b.targets);
    int32("top_logprobs", b.top_logprobs);
    b.experts = cast_or_reject<bool>(object.attr("experts"), "batch.experts must be True or False");
    return held;
}

// --- results ---------------------------------------------------------------------------------------------------------

// A new NumPy array; `fill` writes its numbers.
template <typename T>
struct Result {
    std::unique_ptr<T[]> numbers;
    std::vector<size_t> shape;

    explicit Result(std::vector<size_t> sides) : shape(std::move(sides)) {
        size_t size = 1;
        for (size_t side : shape) size *= side;
        numbers.reset(new T[size]);
    }
    nb::object array() {
        T* data = numbers.release();
        nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<T*>(p); });
        return nb::cast(nb::ndarray<nb::numpy, T>(data, shape.size(), shape.data(), owner));
    }
};

size_t rows_of(const Batch& batch, const Step& step) { return step.selected ? batch.rows.size() : batch.tokens.size(); }

// --- the class -------------------------------------------------------------------------------------------------------

struct PythonModel {
    std::vector<Bytes> keep;  // before `model`, which points into them
    Model model;

    PythonModel(const nb::sequence& steps, const nb::dict& weights, int64_t vocab_size, int64_t block_tokens,
                int64_t blocks, const std::string& kv, int threads, const std::string& isa, int64_t draft_slots,
                int64_t max_rewind)
        : model(parse_steps(steps), parse_weights(weights, keep),
                {vocab_size, block_tokens, blocks, parse_kv(kv), threads, isa, draft_slots, max_rewind}) {}

    static std::vector<StepSpec> parse_steps(const nb::sequence& steps) {
        std::vector<StepSpec> parsed;
        for (nb::handle step : nb::iter(steps)) parsed.push_back(parse_step(step, parsed.size()));
        return parsed;
    }

    nb::tuple step(nb::handle batch) {
        const HeldBatch held = parse_batch(batch);
        const Batch& b = held.batch;
        const size_t rows = b.rows.size();
        const int64_t wanted = std::min(b.most_wanted(), kMaxTopLogprobs);  // the batch is yet to be checked
        const size_t n = wanted > 0 ? static_cast<size_t>(wanted) : 0;
        const auto [routes, width] = b.experts ? model.routing_shape() : std::pair<int64_t, int64_t>{};
        Result<int32_t> ids({rows}), top_ids({rows, n});
        Result<float> logprobs({rows}), top_logprobs({rows, n});
        Result<float> experts({b.tokens.size(), static_cast<size_t>(routes), static_cast<size_t>(width)});
        {
            nb::gil_scoped_release release;
            model.step(b, {ids.numbers.get(), logprobs.numbers.get(), top_ids.numbers.get(), top_logprobs.numbers.get(),
                           experts.numbers.get()});
        }
        const auto if_wanted = [](bool asked, auto& result) { return asked ? result.array() : nb::none(); };
        return nb::make_tuple(ids.array(), if_wanted(wanted >= 0, logprobs), if_wanted(wanted >= 0, top_ids),
                              if_wanted(wanted >= 0, top_logprobs), if_wanted(b.experts, experts));
    }

    nb::object logits(nb::handle batch) {
        const HeldBatch held = parse_batch(batch);
        Result<float> logits({held.batch.rows.size(), static_cast<size_t>(model.vocab_size())});
        {
            nb::gil_scoped_release release;
            model.logits(held.batch, logits.numbers.get());
        }
        return logits.array();
    }

    nb::object hidden(nb::handle batch) {
        const HeldBatch held = parse_batch(batch);
        Result<float> hidden({held.batch.rows.size(), static_cast<size_t>(model.hidden_width())});
        {
            nb::gil_scoped_release release;
            model.hidden(held.batch, hidden.numbers.get());
        }
        return hidden.array();
    }

    nb::object read_block(int64_t block) {
        Result<uint8_t> bytes({static_cast<size_t>(model.block_bytes())});
        {
            nb::gil_scoped_release release;
            model.read_block(block, bytes.numbers.get());
        }
        return bytes.array();
    }

    void write_block(int64_t block, nb::handle object) {
        const auto bytes = cast_or_reject<Bytes>(
            object, "the bytes of a cache block must be a contiguous one-dimensional uint8 array");
        nb::gil_scoped_release release;
        model.write_block(block, {bytes.data(), bytes.size()});
    }

    nb::list values(nb::handle batch) {
        const HeldBatch held = parse_batch(batch);
        std::vector<Result<float>> results;
        std::vector<float*> outs;
        for (const Step& step : model.steps()) {
            results.emplace_back(std::vector<size_t>{rows_of(held.batch, step), static_cast<size_t>(step.width)});
            outs.push_back(results.back().numbers.get());
        }
        {
            nb::gil_scoped_release release;
            model.values(held.batch, outs);
        }
        nb::list arrays;
        for (Result<float>& result : results) arrays.append(result.array());
        return arrays;
    }
};

struct PythonProbe {
    Probe probe;

    PythonProbe(int threads, const std::string& isa) : probe(find_kernels(isa), checked(threads)) {}

    static int checked(int threads) {
        require(threads > 0, "threads is ", threads, ": expected at least 1");
        return threads;
    }
};

std::vector<std::string> isas() {
    std::vector<std::string> names;
    for (const Kernels* kernels : usable_kernels()) names.emplace_back(kernels->name);
    return names;
}

// The types whose panels a set of instructions reads.
std::vector<std::string> panel_types(const std::string& isa) {
    const Kernels& kernels = find_kernels(isa);
    std::vector<std::string> names;
    for (int i = 0; i < kTypes; ++i) {
        if (kernels.panels[i]) names.emplace_back(info(static_cast<Type>(i)).name);
    }
    return names;
}

// A matrix in the other order.
nb::object reorder(const std::string& type, int64_t rows, int64_t columns, const Bytes& bytes, bool into_panels) {
    const std::string name = into_panels ? type : type + "/panels";
    const Matrix matrix =
        make_matrix("to reorder", name, rows, columns, bytes.data(), static_cast<int64_t>(bytes.size()));
    Result<uint8_t> out({bytes.size()});
    {
        nb::gil_scoped_release release;
        (into_panels ? to_panels : from_panels)(matrix, out.numbers.get());
    }
    return out.array();
}

}  // namespace
}  // namespace headrace

NB_MODULE(_core, m) {
    using headrace::PythonModel;
    using headrace::PythonProbe;
    m.def("isas", &headrace::isas);
    m.def("panel_types", &headrace::panel_types, nb::arg("isa") = "");
    m.def(
        "to_panels",
        [](const std::string& type, int64_t rows, int64_t columns, const headrace::Bytes& bytes) {
            return headrace::reorder(type, rows, columns, bytes, true);
        },
        nb::arg("kind"), nb::arg("rows"), nb::arg("columns"), nb::arg("data"));
    m.def(
        "from_panels",
        [](const std::string& type, int64_t rows, int64_t columns, const headrace::Bytes& bytes) {
            return headrace::reorder(type, rows, columns, bytes, false);
        },
        nb::arg("kind"), nb::arg("rows"), nb::arg("columns"), nb::arg("data"));
    nb::class_<PythonProbe>(m, "Probe")
        .def(nb::init<int, const std::string&>(), nb::arg("threads"), nb::arg("isa") = "")
        .def(
            "read_bytes_per_second", [](PythonProbe& p) { return p.probe.read_bytes_per_second(); },
            nb::call_guard<nb::gil_scoped_release>())
        .def(
            "multiply_adds_per_second", [](PythonProbe& p) { return p.probe.multiply_adds_per_second(); },
            nb::call_guard<nb::gil_scoped_release>());
    nb::class_<PythonModel>(m, "Model")
        .def(nb::init<const nb::sequence&, const nb::dict&, int64_t, int64_t, int64_t, const std::string&, int,
                      const std::string&, int64_t, int64_t>(),
             nb::arg("steps"), nb::arg("weights"), nb::kw_only(), nb::arg("vocab_size"), nb::arg("block_tokens"),
             nb::arg("blocks"), nb::arg("kv"), nb::arg("threads"), nb::arg("isa") = "", nb::arg("draft_slots") = 0,
             nb::arg("max_rewind") = 0)
        .def("step", &PythonModel::step, nb::arg("batch"))
        .def("logits", &PythonModel::logits, nb::arg("batch"))
        .def("hidden", &PythonModel::hidden, nb::arg("batch"))
        .def("values", &PythonModel::values, nb::arg("batch"))
        .def(
            "copy_block", [](PythonModel& m, int64_t source, int64_t target) { m.model.copy_block(source, target); },
            nb::arg("source"), nb::arg("target"), nb::call_guard<nb::gil_scoped_release>())
        .def("read_block", &PythonModel::read_block, nb::arg("block"))
        .def("write_block", &PythonModel::write_block, nb::arg("block"), nb::arg("data"))
        .def_prop_ro("block_bytes", [](const PythonModel& m) { return m.model.block_bytes(); });
}
