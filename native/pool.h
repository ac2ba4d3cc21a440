// Persistent threads: one `run` is one parallel region, in which every thread runs the same body and meets the others
// at `sync`. Work is divided statically (`share`), so who computes what depends on the thread count alone.
#pragma once
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace headrace {

class Pool {
  public:
    explicit Pool(int threads);
    ~Pool();
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;

    int threads() const { return threads_; }

    // Runs body(thread) on every thread, the caller being thread 0, and returns when all have finished. `body` must not
    // throw.
    template <typename Body>
    void run(const Body& body) {
        call_ = [](const void* context, int thread) { (*static_cast<const Body*>(context))(thread); };
        context_ = &body;
        start();
        body(0);
        sync();
    }

    // A barrier: every thread of the region calls it, and none goes on before all have come.
    void sync();

  private:
    void start();
    void work(int thread);

    const int threads_;
    void (*call_)(const void* context, int thread) = nullptr;
    const void* context_ = nullptr;
    bool stop_ = false;
    alignas(64) std::atomic<uint32_t> region_{0};   // counts regions: a change wakes the workers
    alignas(64) std::atomic<uint32_t> arrived_{0};  // threads that wait at the barrier
    alignas(64) std::atomic<uint32_t> phase_{0};    // counts barriers: a change lets the waiting threads go on
    std::vector<std::thread> workers_;
};

struct Range {
    int64_t begin, end;
};

// The part of 0 .. total - 1 that belongs to a thread: whole units, but for the last one.
inline Range share(int64_t total, int64_t unit, int thread, int threads) {
    const int64_t units = (total + unit - 1) / unit;
    const int64_t begin = units * thread / threads * unit, end = units * (thread + 1) / threads * unit;
    return {begin < total ? begin : total, end < total ? end : total};
}

}  // namespace headrace
