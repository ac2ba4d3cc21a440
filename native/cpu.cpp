#include "cpu.h"

#include "require.h"

namespace headrace {

std::vector<const Kernels*> usable_kernels() {
    std::vector<const Kernels*> usable;
#ifdef HEADRACE_X86
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni")) {
        usable.push_back(&kAvx512VnniKernels);
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")) {
        usable.push_back(&kAvx2Kernels);
    }
#endif
    usable.push_back(&kScalarKernels);
    return usable;
}

const Kernels& find_kernels(const std::string& name) {
    std::string names;
    for (const Kernels* kernels : usable_kernels()) {
        if (name.empty() || name == kernels->name) return *kernels;
        names += (names.empty() ? "" : ", ") + std::string(kernels->name);
    }
    reject("instruction set ", name, " is not usable here: this machine has ", names);
}

}  // namespace headrace
