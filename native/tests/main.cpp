// headrace_kernel_tests: every kernel of every instruction set that this machine has, beside its definition. Arguments
// name the tests to run, all if there are none. HEADRACE_ISA names the one instruction set to test; without it all are
// tested, and there must be one that is not scalar. The exit code is 1 if anything failed.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "check.h"
#include "cpu.h"
#include "require.h"

namespace headrace::tests {

bool agrees(double got, const Expected& e) {
    if (std::isnan(e.value)) return std::isnan(got);
    if (e.tolerance == 0 || std::isinf(e.value)) return got == e.value && std::signbit(got) == std::signbit(e.value);
    return std::fabs(got - e.value) <= e.tolerance;
}

std::string difference(int64_t i, double got, const Expected& e) {
    std::ostringstream sentence;
    sentence.precision(9);
    sentence << "[" << i << "] ";
    if (e.untouched) {
        sentence << "must stay as it was, but is " << got;
    } else {
        sentence << "is " << got << ", expected " << e.value << " within " << e.tolerance;
    }
    return sentence.str();
}

void Report::begin(const std::string& kernel) {
    kernel_ = kernel;
    of_set_.clear();
}

void Report::end() {
    std::string counts;
    for (const auto& [set, count] : of_set_) counts += (counts.empty() ? "" : ", ") + set + " " + std::to_string(count);
    std::printf("%-20s %s\n", kernel_.c_str(), counts.empty() ? "no instruction set has it" : counts.c_str());
}

void Report::fail(const char* set, const std::string& where, const std::string& what) {
    constexpr int64_t kPrinted = 30;
    if (++failures_ > kPrinted) return;
    std::printf("FAILED %s, %s, %s: %s\n", set, kernel_.c_str(), where.c_str(), what.c_str());
}

struct Test {
    std::string name;
    void (*run)(Report&, const Sets&);
};
const Test kTests[] = {
    {"embedding", test_embedding}, {"linear", test_linear}, {"panels", test_panels},
    {"rows", test_rows},           {"attend", test_attend}, {"pool", test_pool},
    {"threads", test_threads},     {"model", test_model},   {"drafts", test_drafts},
};

std::vector<Test> chosen(const std::vector<std::string>& names) {
    if (names.empty()) return {std::begin(kTests), std::end(kTests)};
    std::vector<Test> tests;
    for (const std::string& name : names) {
        const auto found =
            std::find_if(std::begin(kTests), std::end(kTests), [&](const Test& test) { return test.name == name; });
        require(found != std::end(kTests), "there is no test ", name);
        tests.push_back(*found);
    }
    return tests;
}

int run(const std::vector<std::string>& names) {
    const std::vector<Test> tests = chosen(names);
    const char* asked = std::getenv("HEADRACE_ISA");
    const bool only = asked && *asked;
    const Sets sets = only ? Sets{&find_kernels(asked)} : usable_kernels();
    std::string list;
    for (const Kernels* kernels : sets) list += std::string(list.empty() ? "" : ", ") + kernels->name;
    std::printf("instruction sets: %s\n", list.c_str());
    if (!only && sets.size() == 1) {
        std::printf("nothing beyond scalar can be compared here: HEADRACE_ISA=scalar says that this is meant\n");
        return 1;
    }
    Report report;
    for (const Test& test : tests) test.run(report, sets);
    std::printf("%lld comparisons, %lld failures\n", static_cast<long long>(report.comparisons()),
                static_cast<long long>(report.failures()));
    return report.failures() > 0 || report.comparisons() == 0;
}

}  // namespace headrace::tests

int main(int count, char** arguments) {
    std::setvbuf(stdout, nullptr, _IOLBF, 0);  // a kernel that is killed leaves the lines before it
    try {
        return headrace::tests::run({arguments + 1, arguments + count});
    } catch (const std::exception& error) {
        std::printf("%s\n", error.what());
        return 1;
    }
}
