// Persistent threads: one `run` is one parallel region, in which every thread runs the same body and meets the others
// at `sync`. Small work is divided statically (`share`); large work is dealt out in pieces (`Dealer`) to whoever comes
// for the next one, so that a thread whose processor is busy with something else does not hold up the rest. Who
// computes what never changes a result.
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

    // The next number since the last barrier, from 0 on.
    int64_t claim() { return threads_ == 1 ? claimed_++ : next_.fetch_add(1, std::memory_order_relaxed); }

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
    alignas(64) std::atomic<int64_t> next_{0};      // pieces claimed since the last barrier
    int64_t claimed_ = 0;                           // the same for one thread
    std::vector<std::thread> workers_;
};

// One thread's view of the work that is dealt out between two barriers. Every thread has one and calls `deal` for the
// same work in the same order.
class Dealer {
  public:
    explicit Dealer(Pool& pool) : pool_(pool), piece_(pool.claim()) {}

    // Calls body(i) for those of the next `count` pieces that fall to this thread.
    template <typename Body>
    void deal(int64_t count, const Body& body) {
        for (; piece_ < dealt_ + count; piece_ = pool_.claim()) body(piece_ - dealt_);
        dealt_ += count;
    }

  private:
    Pool& pool_;
    int64_t piece_, dealt_ = 0;
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
