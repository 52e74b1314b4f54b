// Runs a grid on one CPU thread: one fiber for each GPU thread, threadgroup after threadgroup.
//
// The order of lanes, simdgroups and threadgroups is chosen by a seed, because a right kernel's
// result does not depend on it. Knows no memory rules: memory.cpp has those.
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <numeric>
#include <vector>

#include "memory.h"
#include "runtime.h"

// Saves the callee-saved registers on one stack and takes them from another.
extern "C" void mslsim_switch(void** save, void* load);
#if defined(__x86_64__)
asm(R"(
.text
.globl mslsim_switch
.type mslsim_switch,@function
mslsim_switch:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp,(%rdi)
  movq %rsi,%rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
.size mslsim_switch,.-mslsim_switch
)");
constexpr int SAVED = 6, RETURN_AT = 6;  // words; the word that becomes the program counter
#elif defined(__aarch64__)
asm(R"(
.text
.globl mslsim_switch
.type mslsim_switch,%function
mslsim_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0];   stp x21, x22, [sp, #16];  stp x23, x24, [sp, #32];  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64];  stp x29, x30, [sp, #80];  stp d8, d9, [sp, #96];    stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]; stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0];   ldp x21, x22, [sp, #16];  ldp x23, x24, [sp, #32];  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64];  ldp x29, x30, [sp, #80];  ldp d8, d9, [sp, #96];    ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]; ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
)");
constexpr int SAVED = 20, RETURN_AT = 11;
#else
#error "write mslsim_switch for this processor"
#endif

// Floats too small for a full mantissa are zeros while a kernel runs, read or made, as on Apple's GPUs.
#if defined(__x86_64__)
static uint64_t float_mode() { return __builtin_ia32_stmxcsr(); }
static void set_float_mode(uint64_t mode) { __builtin_ia32_ldmxcsr(uint32_t(mode)); }
constexpr uint64_t NO_DENORMALS = 0x8040;  // FTZ, DAZ
#else
static uint64_t float_mode() {
  uint64_t mode;
  asm volatile("mrs %0, fpcr" : "=r"(mode));
  return mode;
}
static void set_float_mode(uint64_t mode) { asm volatile("msr fpcr, %0" : : "r"(mode)); }
constexpr uint64_t NO_DENORMALS = 1 << 24;  // FZ, which leaves halves as they are
#endif

namespace mslsim {

bool nan_wins, nan_met;
Lane* current;
Threadgroup threadgroup_now;

namespace {

constexpr size_t STACK = 64 << 10;
constexpr int MOST_THREADS = 1024;

struct Position {
  uint32_t thread_in_grid[3], thread_in_group[3], group_in_grid[3];
  uint32_t group_size[3], grid_size[3], groups[3];
  uint32_t index, lane, simdgroup, simdgroups;
};
using Body = void (*)(void* const* arguments, const Position*);

struct Start { Body body; void* const* arguments; Position position; };

void* scheduler_stack;
char* stacks;
Start starts[MOST_THREADS];
char message[512];
bool failed;
uint64_t failed_at;  // program counter of the memory access, 0: none
volatile sig_atomic_t expired;

// A kernel that never ends is left where it is, on its own stack.
void time_is_up(int) {
  expired = 1;
  if (current) fail("the kernel runs for too long");
}

void allow(unsigned seconds) {  // of processor time; 0 ends the watch
  struct sigaction action {};
  action.sa_handler = time_is_up;
  action.sa_flags = SA_NODEFER;
  expired = 0;
  sigaction(SIGVTALRM, &action, nullptr);
  itimerval timer{{0, 0}, {long(seconds), 0}};
  setitimer(ITIMER_VIRTUAL, &timer, nullptr);
}

void enter() {
  Start& start = starts[current->thread];
  start.body(start.arguments, &start.position);
  current->state = State::DONE;
  mslsim_switch(&current->stack_pointer, scheduler_stack);
  __builtin_trap();
}

void* fresh_stack(int thread) {
  auto top = reinterpret_cast<uintptr_t>(stacks + (thread + 1) * STACK - 64) & ~uintptr_t{15};
  auto* words = reinterpret_cast<uintptr_t*>(top) - (SAVED + 2);  // + return address + alignment
  std::fill(words, words + SAVED + 2, 0);
  words[RETURN_AT] = reinterpret_cast<uintptr_t>(&enter);
  return words;
}

// A seeded permutation: 0 as they come, 1 backwards, else shuffled.
struct Order {
  uint64_t state;
  explicit Order(uint64_t seed) : state(seed) {}
  uint32_t below(uint32_t n) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return uint32_t((state >> 33) % n);
  }
  void permute(std::vector<uint32_t>& items, uint64_t seed) {
    std::iota(items.begin(), items.end(), 0u);
    if (seed == 1) std::reverse(items.begin(), items.end());
    if (seed > 1) for (uint32_t i = uint32_t(items.size()); i > 1; i--) std::swap(items[i - 1], items[below(i)]);
  }
};

bool same_site(const Lane& a, const Lane& b) {
  return a.site.line() == b.site.line() && a.site.column() == b.site.column() && a.operation == b.operation;
}

// Lanes of one simdgroup must all stand at one collective or barrier, or none of them.
bool together(const Simdgroup& group, State state) {
  const Lane* first = nullptr;
  int there = 0;
  for (int i = 0; i < group.size; i++) {
    const Lane& lane = group.lanes[i];
    if (lane.state != state) continue;
    if (first && !same_site(*first, lane)) {
      fail("lanes of a simdgroup wait at different places: %s at line %u and %s at line %u", first->operation,
           first->site.line(), lane.operation, lane.site.line());
      return false;
    }
    first = first ? first : &lane;
    there++;
  }
  if (there == group.size) return true;
  fail("%s at line %u is reached by %d of the %d lanes of a simdgroup", first->operation, first->site.line(), there,
       group.size);
  return false;
}

void release(Simdgroup& group) {
  for (int i = 0; i < group.size; i++) group.lanes[i].state = State::RUNNABLE;
}

bool any(const Simdgroup& group, State state) {
  return std::any_of(group.lanes, group.lanes + group.size, [&](const Lane& l) { return l.state == state; });
}

// Runs one simdgroup until all its lanes are done or wait for the whole threadgroup.
bool run(Simdgroup& group, const std::vector<uint32_t>& order) {
  for (;;) {
    for (uint32_t i : order) {
      if (i >= uint32_t(group.size) || group.lanes[i].state != State::RUNNABLE) continue;
      current = &group.lanes[i];
      mslsim_switch(&scheduler_stack, current->stack_pointer);
      current = nullptr;
      if (failed) return false;
    }
    if (expired) {
      fail("the kernel runs for too long");
      return false;
    }
    if (any(group, State::AT_COLLECTIVE)) {
      if (!together(group, State::AT_COLLECTIVE)) return false;
      group.sequence++;
    } else if (any(group, State::AT_SIMDGROUP_BARRIER)) {
      if (!together(group, State::AT_SIMDGROUP_BARRIER)) return false;
      for (int s = 0; s < SPACES; s++) group.barriers[s] += group.lanes[0].flags >> s & 1;
    } else {
      return true;
    }
    release(group);
  }
}

struct Grid {
  Body body;
  void* const* arguments;
  uint32_t size[3], group[3], groups[3];
};

struct Team {
  std::vector<Lane> lanes;
  std::vector<Simdgroup> simdgroups;

  void set_up(const Grid& grid, uint32_t index, uint32_t id) {
    uint32_t at[3] = {index % grid.groups[0], index / grid.groups[0] % grid.groups[1],
                      index / (grid.groups[0] * grid.groups[1])};
    uint32_t extent[3];
    for (int d = 0; d < 3; d++) extent[d] = std::min(grid.group[d], grid.size[d] - at[d] * grid.group[d]);
    int count = int(extent[0] * extent[1] * extent[2]);
    threadgroup_now = {id, count, {1, 1}};
    lanes.assign(count, Lane{});
    simdgroups.assign((count + SIMD_WIDTH - 1) / SIMD_WIDTH, Simdgroup{});
    for (int i = 0; i < count; i++) {
      Simdgroup& group = simdgroups[i / SIMD_WIDTH];
      if (i % SIMD_WIDTH == 0) group.lanes = &lanes[i], group.barriers[0] = group.barriers[1] = 1;
      group.size++;
      lanes[i] = {fresh_stack(i), &group, uint16_t(i % SIMD_WIDTH), uint16_t(i), State::RUNNABLE, 0, "", {}};
      Position p{};
      uint32_t within[3] = {i % extent[0], i / extent[0] % extent[1], i / (extent[0] * extent[1])};
      for (int d = 0; d < 3; d++) {
        p.thread_in_grid[d] = at[d] * grid.group[d] + within[d];
        p.thread_in_group[d] = within[d];
        p.group_in_grid[d] = at[d];
        p.group_size[d] = extent[d];
        p.grid_size[d] = grid.size[d];
        p.groups[d] = grid.groups[d];
      }
      p.index = uint32_t(i), p.lane = uint32_t(i % SIMD_WIDTH), p.simdgroup = uint32_t(i / SIMD_WIDTH);
      p.simdgroups = uint32_t(simdgroups.size());
      starts[i] = {grid.body, grid.arguments, p};
    }
  }

  // All threads of a threadgroup meet at one barrier, or the kernel is wrong.
  bool barrier() {
    const Lane* first = nullptr;
    size_t there = 0;
    for (const Lane& lane : lanes) {
      if (lane.state != State::AT_THREADGROUP_BARRIER) continue;
      if (first && !same_site(*first, lane)) {
        fail("threads of a threadgroup wait at different barriers: line %u and line %u", first->site.line(),
             lane.site.line());
        return false;
      }
      first = first ? first : &lane;
      there++;
    }
    if (there != lanes.size()) {
      fail("threadgroup_barrier at line %u is reached by %zu of %zu threads", first->site.line(), there, lanes.size());
      return false;
    }
    for (int s = 0; s < SPACES; s++) threadgroup_now.barriers[s] += first->flags >> s & 1;
    for (Lane& lane : lanes) lane.state = State::RUNNABLE;
    return true;
  }

  bool done() const {
    return std::all_of(lanes.begin(), lanes.end(), [](const Lane& l) { return l.state == State::DONE; });
  }
};

}  // namespace

void wait(State state, uint8_t flags, const char* operation, const std::source_location& site) {
  Lane* me = current;
  me->state = state, me->flags = flags, me->operation = operation, me->site = site;
  mslsim_switch(&me->stack_pointer, scheduler_stack);
}

void fail_at(uint64_t program_counter) { failed_at = program_counter; }

void fail(const char* format, ...) {
  char text[384];
  va_list list;
  va_start(list, format);
  vsnprintf(text, sizeof text, format, list);
  va_end(list);
  failed = true;
  if (!current) {
    snprintf(message, sizeof message, "%s [threadgroup %u]", text, threadgroup_now.id - 1);
    return;
  }
  snprintf(message, sizeof message, "%s [threadgroup %u, thread %d]", text, threadgroup_now.id - 1, current->thread);
  void* nowhere;
  mslsim_switch(&nowhere, scheduler_stack);
  __builtin_unreachable();
}

}  // namespace mslsim

using namespace mslsim;

extern "C" {

const char* mslsim_message() { return message; }
uint64_t mslsim_failed_at() { return failed_at; }

static int run_grid(const Grid& whole, uint64_t seed) {
  Order random(seed);
  std::vector<uint32_t> groups(size_t(whole.groups[0]) * whole.groups[1] * whole.groups[2]), lanes(SIMD_WIDTH);
  random.permute(groups, seed);
  Team team;
  uint32_t id = 0;
  for (uint32_t index : groups) {
    team.set_up(whole, index, ++id);
    std::vector<uint32_t> simdgroups(team.simdgroups.size());
    for (;;) {
      random.permute(simdgroups, seed);
      random.permute(lanes, seed);
      for (uint32_t s : simdgroups) if (!run(team.simdgroups[s], lanes)) return 1;
      if (team.done()) break;
      if (!team.barrier()) return 1;
    }
  }
  return 0;
}

void mslsim_nan(int wins) { nan_wins = wins, nan_met = false; }
int mslsim_nan_met() { return nan_met; }

// 0: ran to its end. grid in threads, as MLX dispatches.
int mslsim_run(Body body, void* const* arguments, const uint32_t* grid, const uint32_t* group, uint64_t seed,
               unsigned seconds) {
  if (!stacks) {
    stacks = static_cast<char*>(mmap(nullptr, MOST_THREADS * STACK, PROT_READ | PROT_WRITE,
                                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  }
  failed = false, failed_at = 0, message[0] = 0;
  Grid whole{body, arguments, {}, {}, {}};
  for (int d = 0; d < 3; d++) {
    whole.size[d] = grid[d];
    whole.group[d] = std::min(group[d], grid[d]);
    whole.groups[d] = (grid[d] + whole.group[d] - 1) / whole.group[d];
  }
  const uint64_t before = float_mode();
  set_float_mode(before | NO_DENORMALS);
  allow(seconds);
  int result = run_grid(whole, seed);
  allow(0);
  set_float_mode(before);
  current = nullptr;
  return result;
}

}  // extern "C"
