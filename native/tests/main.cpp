// Every kernel of every instruction set that this machine has, beside its definition: headrace_kernel_tests needs no
// Python. HEADRACE_ISA names the one instruction set to test; without it all are tested, and one that is not scalar
// must be among them. The exit code is 1 if anything failed.
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "check.h"
#include "cpu.h"

namespace headrace::tests {

bool agrees(double got, const Expected& e) {
    if (std::isnan(e.value)) return std::isnan(got);
    if (e.tolerance == 0 || std::isinf(e.value)) return got == e.value && std::signbit(got) == std::signbit(e.value);
    return std::fabs(got - e.value) <= e.tolerance;
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

void Report::fail(const char* set, const std::string& where, int64_t i, double got, const Expected& e) {
    constexpr int64_t kPrinted = 30;
    if (++failures_ > kPrinted) return;
    std::printf("FAILED %s, %s, %s: [%lld] ", set, kernel_.c_str(), where.c_str(), static_cast<long long>(i));
    if (e.untouched) {
        std::printf("must stay as it was, but is %.9g\n", got);
    } else {
        std::printf("is %.9g, expected %.9g within %.3g\n", got, e.value, e.tolerance);
    }
}

int run() {
    const char* asked = std::getenv("HEADRACE_ISA");
    const bool only = asked && *asked;
    const Sets sets = only ? Sets{&find_kernels(asked)} : usable_kernels();
    std::string names;
    for (const Kernels* kernels : sets) names += std::string(names.empty() ? "" : ", ") + kernels->name;
    std::printf("instruction sets: %s\n", names.c_str());
    Report report;
    test_embedding_rows(report);
    test_linear(report, sets);
    test_panels(report, sets);
    test_rows(report, sets);
    test_attend(report, sets);
    test_pool(report);
    test_threads(report, sets);
    test_model(report, sets);
    std::printf("%lld comparisons, %lld failures\n", static_cast<long long>(report.comparisons()),
                static_cast<long long>(report.failures()));
    if (!only && sets.size() == 1) {
        std::printf("no instruction set beyond scalar was compared: HEADRACE_ISA=scalar says that this is meant\n");
        return 1;
    }
    return report.failures() > 0 || report.comparisons() == 0;
}

}  // namespace headrace::tests

int main() {
    std::setvbuf(stdout, nullptr, _IOLBF, 0);  // a kernel that is killed leaves the lines before it
    try {
        return headrace::tests::run();
    } catch (const std::exception& error) {
        std::printf("%s\n", error.what());
        return 1;
    }
}
