// A pool of threads that sleep when there is no work, and that a forked child makes anew.
#include "pool.h"

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

// Numbers below 1e-38 (1e-308) are rounded to zero while this object lives: with them an operation can take 100 cycles.
class FlushDenormals {
#if defined(__x86_64__)
    unsigned before = _mm_getcsr();
  public:
    FlushDenormals() { _mm_setcsr(before | 0x8040u); } // flush to zero, denormals are zero
    ~FlushDenormals() { _mm_setcsr(before); }
#elif defined(__aarch64__)
    unsigned long before;
  public:
    FlushDenormals() {
        asm volatile("mrs %0, fpcr" : "=r"(before));
        asm volatile("msr fpcr, %0" ::"r"(before | (1ul << 24)));
    }
    ~FlushDenormals() { asm volatile("msr fpcr, %0" ::"r"(before)); }
#endif
};

struct Work {
    void (*call)(void *, long);
    void *argument;
};

class Pool {
  public:
    // One call at a time; another thread's call waits. It returns when all parts are done, whether or not every helper has
    // woken up: on a busy machine the calling thread does their parts as well.
    void run(Work work, long parts) {
        std::lock_guard<std::mutex> turn(turn_);
        grow(parts - 1);
        std::unique_lock<std::mutex> guard(mutex_);
        work_ = work;
        next_ = 1;
        parts_ = unfinished_ = parts;
        for (long helper = 1; helper < parts; ++helper) wake_.notify_one();
        guard.unlock();
        {
            FlushDenormals flush;
            work.call(work.argument, 0);
        }
        guard.lock();
        --unfinished_;
        {
            FlushDenormals flush;
            take_parts(guard);
        }
        done_.wait(guard, [this] { return unfinished_ == 0; });
    }

  private:
    // Parts are taken under the lock, so a helper that wakes late finds either work of the present call or none.
    void take_parts(std::unique_lock<std::mutex> &guard) {
        while (next_ < parts_) {
            long part = next_++;
            Work work = work_;
            guard.unlock();
            work.call(work.argument, part);
            guard.lock();
            if (--unfinished_ == 0) done_.notify_one();
        }
    }

    void grow(long helpers) {
        try {
            for (; threads_ < helpers; ++threads_) std::thread([this] { serve(); }).detach();
        } catch (const std::system_error &) { // fewer helpers: the calling thread does more
        }
    }

    void serve() {
        FlushDenormals flush;
        std::unique_lock<std::mutex> guard(mutex_);
        for (;;) {
            wake_.wait(guard, [this] { return next_ < parts_; });
            take_parts(guard);
        }
    }

    std::mutex turn_, mutex_;
    std::condition_variable wake_, done_;
    Work work_{};
    long threads_ = 0, next_ = 0, parts_ = 0, unfinished_ = 0;
};

// Never destroyed: its threads may outlive main.
Pool *pool = nullptr;
std::mutex *creation = new std::mutex;
bool forked = false;

// `GOMP_parallel` of the OpenMP runtime that torch computes with, if the process has one: between two of its products that
// runtime's threads spin, and threads of ours would fight them for the cores. Running on them, there is nothing to fight.
typedef void (*Team)(void (*)(void *), void *, unsigned, unsigned);
Team team = nullptr;

void forget_after_fork() { // a child has none of the parent's threads, and its locks are in an unknown state
    pool = nullptr;
    creation = new std::mutex;
    forked = true; // nor can the runtime's team be used there
}

Pool *the_pool() {
    std::lock_guard<std::mutex> guard(*creation);
    if (!pool) pool = new Pool;
    return pool;
}

// Parts are handed out as threads ask for them, so that a team smaller than wanted does them all.
struct Handout {
    Work work;
    long parts;
    std::atomic<long> next;
};

void take_handed_out(void *argument) {
    Handout *handout = (Handout *)argument;
    FlushDenormals flush;
    for (long part = handout->next++; part < handout->parts; part = handout->next++)
        handout->work.call(handout->work.argument, part);
}

// Links of chains, handed out under a lock that is held for a moment; see `run_chains`.
class Chains {
  public:
    Chains(void (*work)(void *, long, long), void *argument, long chains, long links)
        : work_(work), argument_(argument), links_(links), done_((size_t)chains, 0), busy_((size_t)chains, false) {}

    static void serve(void *self, long) { ((Chains *)self)->take_links(); }

  private:
    void take_links() {
        std::unique_lock<std::mutex> guard(mutex_);
        for (long chain = furthest_behind(); chain >= 0; chain = furthest_behind()) {
            long link = done_[(size_t)chain];
            busy_[(size_t)chain] = true;
            guard.unlock();
            work_(argument_, chain, link);
            guard.lock();
            busy_[(size_t)chain] = false;
            ++done_[(size_t)chain];
        }
    }

    // -1 when all that is left is in the hands of other threads, which will go on with it.
    long furthest_behind() const {
        long found = -1;
        for (size_t chain = 0; chain < done_.size(); ++chain)
            if (!busy_[chain] && done_[chain] < links_ && (found < 0 || done_[chain] < done_[(size_t)found]))
                found = (long)chain;
        return found;
    }

    void (*work_)(void *, long, long);
    void *argument_;
    long links_;
    std::vector<long> done_;
    std::vector<bool> busy_;
    std::mutex mutex_;
};

} // namespace

void run_pieces(void (*work)(void *, long), void *argument, long pieces, long threads) {
    Handout handout{Work{work, argument}, pieces, {0}};
    auto serve = [](void *all, long) { take_handed_out(all); };
    run_parallel(serve, &handout, threads < 1 ? 1 : threads < pieces ? threads : pieces);
}

void run_chains(void (*work)(void *, long, long), void *argument, long chains, long links, long threads) {
    Chains all(work, argument, chains, links);
    run_parallel(&Chains::serve, &all, threads < 1 ? 1 : threads < chains ? threads : chains);
}

long chains_of(long batch, long threads) {
    constexpr long rows_at_once = 6; // by a product's innermost loop (product.h)
    if (threads <= 1) return 1;
    long best = batch < threads ? batch : threads, fewest = 0;
    for (long chains = threads + 1; chains <= 2 * threads && 2 * chains <= batch; ++chains) {
        long rows = (batch + chains - 1) / chains, blocks = chains * ((rows + rows_at_once - 1) / rows_at_once);
        if (!fewest || blocks < fewest) best = chains, fewest = blocks;
    }
    return best;
}

void use_team(void *gomp_parallel) {
    static bool registered = false;
    if (!registered) pthread_atfork(nullptr, nullptr, forget_after_fork);
    registered = true;
    team = (Team)gomp_parallel;
}

void run_parallel(void (*work)(void *, long), void *argument, long parts) {
    if (parts == 1) {
        FlushDenormals flush;
        work(argument, 0);
    } else if (team && !forked) {
        Handout handout{Work{work, argument}, parts, {0}};
        team(take_handed_out, &handout, (unsigned)parts, 0);
    } else {
        the_pool()->run(Work{work, argument}, parts);
    }
}
