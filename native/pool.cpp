#include "pool.h"

namespace headrace {
namespace {

// About 20 microseconds: longer than the gap between two operations, far shorter than a time slice.
constexpr int kSpins = 1000;

void pause() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

void wait_for_change(const std::atomic<uint32_t>& word, uint32_t old) {
    for (int i = 0; i < kSpins; ++i) {
        if (word.load(std::memory_order_acquire) != old) return;
        pause();
    }
    word.wait(old, std::memory_order_acquire);
}

}  // namespace

Pool::Pool(int threads) : threads_(threads) {
    for (int thread = 1; thread < threads; ++thread) workers_.emplace_back(&Pool::work, this, thread);
}

Pool::~Pool() {
    stop_ = true;
    start();
    for (std::thread& worker : workers_) worker.join();
}

void Pool::start() {
    region_.fetch_add(1);  // in one order with what notify_all reads: see sync
    region_.notify_all();
}

void Pool::work(int thread) {
    for (uint32_t region = 0;; ++region) {
        wait_for_change(region_, region);
        if (stop_) return;
        call_(context_, thread);
        sync();
    }
}

void Pool::sync() {
    if (threads_ == 1) {
        claimed_ = 0;
        return;
    }
    const uint32_t phase = phase_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == static_cast<uint32_t>(threads_)) {
        arrived_.store(0, std::memory_order_relaxed);
        next_.store(0, std::memory_order_relaxed);
        // Sequentially consistent: notify_all looks whether anybody sleeps, and must not look before the store is seen,
        // for whoever falls asleep in between would not be woken.
        phase_.store(phase + 1);
        phase_.notify_all();
    } else {
        wait_for_change(phase_, phase);
    }
}

}  // namespace headrace
