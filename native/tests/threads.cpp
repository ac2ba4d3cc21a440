// test_pool and test_threads: the pool itself, which ThreadSanitizer should see at work, and kernels whose rows it
// shares out.
#include <chrono>

#include "matrix.h"
#include "panels.h"
#include "pool.h"

namespace headrace::tests {
namespace {

// Longer than a thread spins, so that those who wait for this one fall asleep.
void be_late() { std::this_thread::sleep_for(std::chrono::microseconds(300)); }

// In each region, and after each barrier, every thread sees what all the others wrote before it. The numbers are no
// atomics: only the barriers order them.
struct Regions {
    Pool pool;
    std::vector<int64_t> written, mistakes;  // for each thread

    explicit Regions(int threads)
        : pool(threads), written(static_cast<size_t>(threads)), mistakes(static_cast<size_t>(threads)) {}

    void run(int64_t region, int64_t barriers) {
        const int threads = pool.threads();
        const int64_t first = written[0] + 1;
        pool.run([&](int thread) {
            for (int64_t i = 0; i < barriers; ++i) {
                if ((region + i) % 97 == 0 && thread == region % threads) be_late();
                written[static_cast<size_t>(thread)] = first + i;
                pool.sync();
                for (int64_t other : written) mistakes[static_cast<size_t>(thread)] += other != first + i;
                pool.sync();  // nobody writes what another still reads
            }
            written[static_cast<size_t>(thread)] += 1;
        });
        for (int64_t other : written) mistakes[0] += other != first + barriers;
    }
};

void test_regions(Report& report, int threads) {
    constexpr int64_t kRegions = 600;
    Regions regions(threads);
    for (int64_t region = 0; region < kRegions; ++region) {
        if (region % 89 == 88) be_late();  // all workers sleep when the region begins
        regions.run(region, region % 5);
    }
    int64_t mistakes = 0;
    for (int64_t of_thread : regions.mistakes) mistakes += of_thread;
    report.require("all", mistakes == 0, [&] { return shape("mistakes", mistakes, "threads", threads); });
}

// Pools that end at once, or after some regions.
void test_short_lives(Report& report, int threads) {
    for (int64_t regions = 0; regions < 40; ++regions) {
        Regions pool(threads);
        for (int64_t region = 0; region < regions % 4; ++region) pool.run(region, 1);
        report.require("all", pool.mistakes == std::vector<int64_t>(static_cast<size_t>(threads)),
                       [&] { return shape("regions", regions % 4, "threads", threads); });
    }
}

// Every piece of every work is done, and once, whoever does it. Two rounds of works are dealt out in each region.
void test_deal(Report& report, int threads) {
    const std::vector<int64_t> counts{0, 1, 5, 64, 2, 0, 33};
    std::vector<std::vector<int>> done(2 * counts.size());
    int64_t wrong = 0;
    Pool pool(threads);
    for (int64_t region = 0; region < 200; ++region) {
        for (size_t work = 0; work < done.size(); ++work) {
            done[work].assign(static_cast<size_t>(counts[work % counts.size()]), 0);
        }
        pool.run([&](int thread) {
            for (size_t round = 0; round < 2; ++round) {
                Dealer dealer(pool);
                for (size_t work = 0; work < counts.size(); ++work) {
                    std::vector<int>& pieces = done[round * counts.size() + work];
                    dealer.deal(counts[work], [&](int64_t i) { ++pieces[static_cast<size_t>(i)]; });
                    if (region % 50 == 49 && thread == 0) be_late();
                }
                pool.sync();
            }
        });
        for (const std::vector<int>& pieces : done) {
            for (int times : pieces) wrong += times != 1;
        }
    }
    report.require("all", wrong == 0, [&] { return shape("pieces not done once", wrong, "threads", threads); });
}

// Whole units, all of them, in order.
void test_share(Report& report) {
    for (int64_t total = 0; total <= 70; ++total) {
        for (int64_t unit : {1, 16, 32}) {
            for (int threads = 1; threads <= 5; ++threads) {
                int64_t end = 0;
                bool right = true;
                for (int thread = 0; thread < threads; ++thread) {
                    const Range range = share(total, unit, thread, threads);
                    right &= range.begin == end && range.begin <= range.end;
                    right &= range.end % unit == 0 || range.end == total;
                    end = range.end;
                }
                report.require("all", right && end == total,
                               [&] { return shape("total", total, "unit", unit, "threads", threads); });
            }
        }
    }
}

// Rows of a matrix, `unit` at a time, over 2 and 3 threads.
void test_rows_of(Report& report, const char* set, void (*kernel)(const Linear&), const Problem& p,
                  const uint8_t* weights, int64_t unit) {
    Output<float> alone(p.tokens * p.rows);
    run(kernel, p, weights, {0, p.rows, p.tokens}, alone.data(), p.rows);
    for (int threads : {2, 3}) {
        Pool pool(threads);
        Output<float> out(p.tokens * p.rows, 1);
        pool.run([&](int thread) {
            const Range rows = share(p.rows, unit, thread, threads);
            run(kernel, p, weights, {rows.begin, rows.end, p.tokens}, out.data(), p.rows);
        });
        report.compare(
            set, out, [&](int64_t i) { return Expected{alone[i]}; },
            [&] { return shape(info(p.type).name, p.rows, "unit", unit, "threads", threads); });
    }
}

}  // namespace

void test_pool(Report& report, const Sets&) {
    report.begin("pool");
    test_share(report);
    for (int threads = 1; threads <= 4; ++threads) {
        test_regions(report, threads);
        test_short_lives(report, threads);
        test_deal(report, threads);
    }
    report.end();
}

void test_threads(Report& report, const Sets& sets) {
    report.begin("threads, linear");
    for (Type type : kAllTypes) {
        const Problem p(type, 70, 256, 7, 1, 21);
        for (const Kernels* set : sets) {
            for (int64_t unit : {1, 16}) {
                test_rows_of(report, set->name, set->linear[static_cast<size_t>(type)], p, p.weights.data(), unit);
            }
        }
    }
    report.end();
    report.begin("threads, panels");
    for (Type type : kPanelTypes) {
        const Problem p(type, 160, 256, 7, 1, 22);
        Input<uint8_t> panels(p.weights.size());
        to_panels(p.matrix(), panels.data());
        for (const Kernels* set : sets) {
            const auto kernel = set->panels[static_cast<size_t>(type)];
            if (kernel) test_rows_of(report, set->name, kernel, p, panels.data(), kPanelRows);
        }
    }
    report.end();
}

}  // namespace headrace::tests
