#include "pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <pthread.h>

#if defined(__linux__)
#include <sched.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace pool {
namespace {

constexpr int kMaxThreads = 256;
constexpr int kSpins = 2000;  // of a pause each: about 50 microseconds, a few graph nodes long

void breathe() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Every thread has a run of neighbouring pieces of its own, so that it reads memory in order, and takes
// from the others' when it is through. A ticket is (call number << 32 | next piece of that run). Taking a
// piece is one compare-and-swap of the whole ticket, so a worker that comes late can never take a piece
// of a call it did not read; and nothing of a call changes while a ticket of it is open.
class Pool {
 public:
  void run(uint32_t pieces, Piece piece, void* context) {
    std::unique_lock<std::mutex> mine(caller_, std::try_to_lock);
    if (pieces <= 1 || !mine || target_.load(std::memory_order_relaxed) == 1) {
      for (uint32_t i = 0; i < pieces; i++) piece(context, i);
      return;
    }
    hire();
    if (workers_.empty()) {
      for (uint32_t i = 0; i < pieces; i++) piece(context, i);
      return;
    }
    uint32_t call = call_.load(std::memory_order_relaxed) + 1;
    if (call == 0) call = 1;  // a closed ticket reads as one of call 0
    const uint32_t team = (uint32_t)workers_.size() + 1;
    // tickets close before anything else changes, those of a larger team before this one too: a late worker that
    // reads a new value swaps in vain
    const uint32_t before = team_.load(std::memory_order_relaxed);
    for (uint32_t i = 0; i < std::max(team, before); i++) runs_[i].ticket.store(0, std::memory_order_relaxed);
    piece_.store(piece, std::memory_order_release);
    context_.store(context, std::memory_order_release);
    pieces_.store(pieces, std::memory_order_release);
    team_.store(team, std::memory_order_release);
    done_.store(0, std::memory_order_release);
    for (uint32_t i = 0; i < team; i++)
      runs_[i].ticket.store((uint64_t)call << 32 | first_of(i, pieces, team), std::memory_order_release);
    call_.store(call, std::memory_order_seq_cst);
    wake();
    work(call, 0);
    for (int spins = 0; done_.load(std::memory_order_acquire) != pieces;) {
      if (++spins < kSpins) breathe();
      else std::this_thread::yield();
    }
  }

  int target() {
    int now = target_.load(std::memory_order_relaxed);
    if (now == 0) target_.store(now = default_threads(), std::memory_order_relaxed);
    return now;
  }

  void set_target(int count) {
    std::lock_guard<std::mutex> mine(caller_);
    target_.store(count <= 0 ? default_threads() : std::min(count, kMaxThreads), std::memory_order_relaxed);
    dismiss();
  }

  // A fork waits for the call that runs, so that the child inherits a pool at rest.
  void before_fork() { caller_.lock(); }
  void after_fork() { caller_.unlock(); }

  // A forked child has no threads: forget them without joining.
  void forget() {
    new (&sleep_) std::mutex;
    new (&wakeup_) std::condition_variable;
    workers_.clear();
    sleepers_.store(0);
    caller_.unlock();
  }

  ~Pool() { dismiss(); }

 private:
  void hire() {
    const int wanted = target() - 1;
    while (static_cast<int>(workers_.size()) < wanted) {
      try {
        const auto seat = (uint32_t)workers_.size() + 1;
        workers_.push_back(new std::thread([this, seat] { serve(seat); }));
      } catch (const std::exception&) {
        target_.store(static_cast<int>(workers_.size()) + 1, std::memory_order_relaxed);
        return;
      }
    }
  }

  void dismiss() {
    if (workers_.empty()) return;
    stop_.store(true, std::memory_order_seq_cst);
    {
      std::lock_guard<std::mutex> lock(sleep_);
      wakeup_.notify_all();
    }
    for (std::thread* worker : workers_) {
      worker->join();
      delete worker;
    }
    workers_.clear();
    stop_.store(false, std::memory_order_relaxed);
  }

  void wake() {
    if (sleepers_.load(std::memory_order_seq_cst) == 0) return;
    std::lock_guard<std::mutex> lock(sleep_);
    wakeup_.notify_all();
  }

  void serve(uint32_t seat) {
    while (true) {
      const uint32_t call = call_.load(std::memory_order_acquire);
      work(call, seat);
      if (!await(call)) return;
    }
  }

  // Until a call other than `seen` is there; false when the pool closes.
  bool await(uint32_t seen) {
    for (int i = 0; i < kSpins; i++) {
      if (call_.load(std::memory_order_acquire) != seen) return true;
      if (stop_.load(std::memory_order_relaxed)) return false;
      breathe();
    }
    std::unique_lock<std::mutex> lock(sleep_);
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    wakeup_.wait(lock, [&] {
      return stop_.load(std::memory_order_relaxed) || call_.load(std::memory_order_seq_cst) != seen;
    });
    sleepers_.fetch_sub(1, std::memory_order_seq_cst);
    return !stop_.load(std::memory_order_relaxed);
  }

  static uint32_t first_of(uint32_t seat, uint32_t pieces, uint32_t team) {
    return (uint32_t)((uint64_t)pieces * seat / team);
  }

  // One's own run first, then those of the next seats.
  void work(uint32_t call, uint32_t seat) {
    const uint32_t team = team_.load(std::memory_order_acquire);
    for (uint32_t i = 0; i < team; i++)
      if (!take(call, (seat + i) % team)) return;
  }

  // False when the call is over.
  bool take(uint32_t call, uint32_t seat) {
    std::atomic<uint64_t>& ticket = runs_[seat].ticket;
    uint64_t held = ticket.load(std::memory_order_acquire);
    while (held >> 32 == call) {
      // read before taking: if the call is over, the swap fails and these are dropped
      const Piece piece = piece_.load(std::memory_order_acquire);
      void* const context = context_.load(std::memory_order_acquire);
      const uint32_t last = first_of(seat + 1, pieces_.load(std::memory_order_acquire), team_.load(std::memory_order_acquire));
      const auto index = static_cast<uint32_t>(held);
      if (index >= last) return true;
      if (!ticket.compare_exchange_weak(held, held + 1, std::memory_order_acq_rel)) continue;
      piece(context, index);
      done_.fetch_add(1, std::memory_order_acq_rel);
      held = ticket.load(std::memory_order_acquire);
    }
    return false;
  }

  struct alignas(64) Run {
    std::atomic<uint64_t> ticket{0};
  };

  Run runs_[kMaxThreads];
  alignas(64) std::atomic<uint32_t> call_{1};  // tickets start at 0, which no call has
  alignas(64) std::atomic<uint32_t> done_{0};
  alignas(64) std::atomic<Piece> piece_{nullptr};
  std::atomic<void*> context_{nullptr};
  std::atomic<uint32_t> pieces_{0}, team_{1};
  alignas(64) std::atomic<int> sleepers_{0};
  std::atomic<bool> stop_{false};
  std::atomic<int> target_{0};
  std::mutex caller_;
  std::mutex sleep_;
  std::condition_variable wakeup_;
  std::vector<std::thread*> workers_;  // a forked child drops them: they may not be joined there
};

Pool& instance() {
  // never destroyed: MLX's stream threads may still run when static objects die
  static Pool* pool = [] {
    auto* made = new Pool;
    pthread_atfork([] { instance().before_fork(); }, [] { instance().after_fork(); }, [] { instance().forget(); });
    return made;
  }();
  return *pool;
}

#if defined(__linux__)
// The first line of a small file, empty when there is none.
std::string line_of(const std::string& path) {
  char text[256] = "";
  if (FILE* file = std::fopen(path.c_str(), "r")) {
    if (!std::fgets(text, sizeof text, file)) text[0] = 0;
    std::fclose(file);
  }
  return text;
}
#endif

int physical_cores() {
#if defined(__linux__)
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) {
    std::set<std::string> cores;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
      if (!CPU_ISSET(cpu, &allowed)) continue;
      const std::string siblings =
          line_of("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list");
      cores.insert(siblings.empty() ? std::to_string(cpu) : siblings);
    }
    if (!cores.empty()) return static_cast<int>(cores.size());
  }
#elif defined(__APPLE__)
  int quick = 0;  // the others are several times slower, and every call waits for its slowest thread
  size_t bytes = sizeof quick;
  if (sysctlbyname("hw.perflevel0.physicalcpu", &quick, &bytes, nullptr, 0) == 0 && quick > 0) return quick;
#endif
  return std::max(1u, std::thread::hardware_concurrency());
}

}  // namespace

void run_raw(uint32_t pieces, Piece piece, void* context) { instance().run(pieces, piece, context); }

int threads() { return instance().target(); }

void set_threads(int count) {
  if (count < 0) throw std::invalid_argument("count must be above 0, or 0 for as many as there are cores");
  instance().set_target(count);
}

int default_threads() {
  if (const char* text = std::getenv("MLXRUN_THREADS")) {
    char* end = nullptr;
    const long wanted = std::strtol(text, &end, 10);
    if (end != text && *end == 0 && wanted >= 1) return static_cast<int>(std::min<long>(wanted, kMaxThreads));
  }
  return std::min(physical_cores(), kMaxThreads);
}

}  // namespace pool
