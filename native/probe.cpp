#include "probe.h"

#include <algorithm>
#include <chrono>
#include <vector>

namespace headrace {
namespace {

constexpr int64_t kNumbers = int64_t{64} << 20;  // 256 MiB: beyond any cache that a few processors share
constexpr int kPasses = 4;
constexpr double kSeconds = 0.02;  // of a pass of multiply-adds

double seconds_of(const auto& body) {
    const auto started = std::chrono::steady_clock::now();
    body();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
}

}  // namespace

Probe::Probe(const Kernels& kernels, int threads) : kernels_(kernels), pool_(threads) {
    memory_.reserve(kNumbers);
    std::fill_n(memory_.data(), kNumbers, 0.0f);
}

double Probe::read_bytes_per_second() {
    std::vector<float> sums(static_cast<size_t>(pool_.threads()));
    const auto pass = [&](int thread) {
        const Range mine = share(kNumbers, 4096, thread, pool_.threads());
        sums[static_cast<size_t>(thread)] = kernels_.read(memory_.data() + mine.begin, mine.end - mine.begin);
    };
    double best = 0;
    for (int i = 0; i < kPasses; ++i) {
        best = std::max(best, kNumbers * sizeof(float) / seconds_of([&] { pool_.run(pass); }));
    }
    for (const float sum : sums) keep_ += sum;
    return best;
}

double Probe::multiply_adds_per_second() {
    std::vector<float> kept(static_cast<size_t>(pool_.threads()));
    std::vector<int64_t> counts(static_cast<size_t>(pool_.threads()));
    int64_t rounds = 1000;
    const auto pass = [&](int thread) {
        const auto i = static_cast<size_t>(thread);
        counts[i] = kernels_.multiply_adds(rounds, &kept[i]);
    };
    double best = 0;
    for (int done = 0; done < kPasses;) {
        const double seconds = seconds_of([&] { pool_.run(pass); });
        if (seconds < kSeconds) {  // too short to time
            rounds *= 2;
            continue;
        }
        int64_t count = 0;
        for (const int64_t of_thread : counts) count += of_thread;
        best = std::max(best, static_cast<double>(count) / seconds);
        ++done;
    }
    for (const float sum : kept) keep_ += sum;
    return best;
}

}  // namespace headrace
