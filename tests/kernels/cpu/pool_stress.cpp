// Everything that can go wrong in the pool, provoked: `pool_stress PART CALLS`. Exits with 0, or tells what
// happened: a piece done twice or never, a piece of a call that is over, a call that never ends.
//
// POOL names the file to test; it is included, so that the call number can be brought close to its end.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

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

// An atomic whose user often stands still just before or after, so that every order of steps occurs.
namespace std {
template <class T>
struct jittery : atomic<T> {
  using atomic<T>::atomic;
  using atomic<T>::operator=;
  static void stand() {
    static thread_local uint32_t seed = (uint32_t)(uintptr_t)&seed;
    seed = seed * 1664525 + 1013904223;
    if (seed >> 27 == 0) this_thread::yield();
  }
  T load(memory_order order) const {
    stand();
    const T value = atomic<T>::load(order);
    stand();
    return value;
  }
  void store(T value, memory_order order = memory_order_seq_cst) {
    stand();
    atomic<T>::store(value, order);
    stand();
  }
  bool compare_exchange_weak(T& held, T wish, memory_order order) {
    stand();
    return atomic<T>::compare_exchange_weak(held, wish, order);
  }
  T fetch_add(T by, memory_order order) {
    stand();
    return atomic<T>::fetch_add(by, order);
  }
};
}  // namespace std

#define private public
#define atomic jittery
#include POOL
#undef atomic
#undef private

namespace {

[[noreturn]] void failed(const char* what) {
  std::fprintf(stderr, "%s\n", what);
  std::_Exit(1);
}

constexpr uint32_t kMost = 300;

// What a call works on, gone when it is over: who comes late finds `open` false.
struct Call {
  std::atomic<bool> open{true};
  uint32_t pieces;
  uint8_t done[kMost] = {};  // plain on purpose: each piece has one owner, and the caller sees what it wrote
  explicit Call(uint32_t n) : pieces(n) {}

  static void piece(void* context, uint32_t i) {
    Call& call = *static_cast<Call*>(context);
    if (!call.open.load(std::memory_order_relaxed)) failed("a piece of a call that is over");
    if (i >= call.pieces) failed("a piece beyond the last");
    if (call.done[i]++) failed("a piece done twice");
  }
};

void one(uint32_t pieces) {
  static thread_local std::vector<Call*> spent;  // kept for a while, so that a late piece finds it closed
  auto* call = new Call(pieces);
  pool::run_raw(pieces, Call::piece, call);
  call->open = false;
  for (uint32_t i = 0; i < pieces; i++)
    if (call->done[i] != 1) failed("a piece not done");
  spent.push_back(call);
  if (spent.size() < 64) return;
  for (Call* old : spent) delete old;
  spent.clear();
}

// Few pieces, then many: a worker that is late for the first may take the second's.
void sizes(int calls, uint32_t seed) {
  for (int i = 0; i < calls; i++) {
    seed = seed * 1664525 + 1013904223;
    one(i % 2 ? 2 + (seed >> 24) % 3 : 5 + (seed >> 16) % (kMost - 5));
  }
}

void callers(int calls) {
  std::vector<std::thread> all;
  for (int t = 0; t < 3; t++) all.emplace_back([=] { sizes(calls, t); });
  for (auto& t : all) t.join();
}

void settings(int calls) {
  std::atomic<bool> over{false};
  std::thread other([&] {
    for (int n = 1; !over; n = n % 6 + 1) pool::set_threads(n), std::this_thread::yield();
  });
  callers(calls);
  over = true;
  other.join();
}

// A worker that read the number of the call before, and everything else of this one: it must find every ticket closed,
// those of seats that only the larger team had too.
void late(int calls) {
  static uint32_t before;
  const auto piece = [](void* context, uint32_t i) {
    Call::piece(context, i);
    for (uint32_t seat = 0; i % 100 == 0 && seat < 8; seat++) pool::instance().take(before, seat);
  };
  for (int i = 0; i < calls; i++) {
    pool::set_threads(3 + i % 6);
    one(3 + i % 20);
    before = pool::instance().call_;
    pool::set_threads(2 + i % 3);
    Call call(kMost);
    pool::run_raw(call.pieces, piece, &call);
    for (uint32_t n = 0; n < call.pieces; n++)
      if (call.done[n] != 1) failed("a piece not done");
  }
}

void wrap(int calls) {
  one(2);
  pool::instance().call_ = 0xffffffffu - calls / 2;
  for (int i = 0; i < calls; i++) {
    sizes(1, i);
    if (pool::instance().call_ == 0) failed("call number 0, as which a closed ticket reads");
  }
}

void sleepers(int calls) {
  // long enough apart that all workers sleep between calls
  for (int i = 0; i < calls; i++) {
    sizes(2, i);
    while (pool::instance().sleepers_ != pool::threads() - 1) std::this_thread::yield();
  }
}

// Pieces that wait for each other: all are begun at once, so every worker is there, also after a change of their number
// and after many calls. The alarm ends a call whose workers do not come.
void meet(int calls) {
  std::atomic<uint32_t> here{0};
  const auto piece = [](void* context, uint32_t) {
    auto& count = *static_cast<std::atomic<uint32_t>*>(context);
    for (count++; count < 3;) std::this_thread::yield();
  };
  for (int i = 0; i < calls; i++) {
    if (i % 6 == 0) pool::set_threads(3);
    here = 0;
    pool::run_raw(3, piece, &here);
  }
}

void forks(int calls) {
  std::atomic<bool> over{false};
  std::thread busy([&] {
    for (uint32_t seed = 0; !over; seed++) sizes(10, seed);
  });
  for (int i = 0; i < calls; i++) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(20);
      sizes(20, i);
      pool::set_threads(3);
      sizes(20, i);
      std::_Exit(0);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) failed("a forked child failed");
  }
  over = true;
  busy.join();
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 3) return 2;
  const std::string part = arguments[1];
  const int calls = std::atoi(arguments[2]);
  signal(SIGALRM, [](int) {
    const char text[] = "a call that never ends\n";
    if (write(2, text, sizeof text - 1)) _exit(1);
    _exit(1);
  });
  alarm(60);
  pool::set_threads(4);
  if (part == "sizes") sizes(calls, 0);
  else if (part == "callers") callers(calls);
  else if (part == "settings") settings(calls);
  else if (part == "late") late(calls);
  else if (part == "wrap") wrap(calls);
  else if (part == "sleepers") sleepers(calls);
  else if (part == "meet") meet(calls);
  else if (part == "forks") forks(calls);
  else return 2;
  return 0;
}
