// What the simulated GPU offers to a kernel: lanes that wait for each other, and watched memory.
//
// Every GPU thread is a fiber. A simdgroup is in step only at collectives and barriers, which is what
// the language promises and no more. Knows no Metal: metal.h gives these things their Metal names.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <source_location>
#include <type_traits>

namespace mslsim {

constexpr int SIMD_WIDTH = 32;
enum Space : uint8_t { DEVICE, THREADGROUP, SPACES };
enum class State : uint8_t { RUNNABLE, AT_COLLECTIVE, AT_SIMDGROUP_BARRIER, AT_THREADGROUP_BARRIER, DONE };

struct Simdgroup;

struct Lane {
  void* stack_pointer;
  Simdgroup* simdgroup;
  uint16_t lane;    // in its simdgroup
  uint16_t thread;  // in its threadgroup
  State state;
  uint8_t flags;  // of the barrier it waits at: bit 0 device memory, bit 1 threadgroup memory
  const char* operation;
  std::source_location site;
};

// What one lane hands to the others at a collective: at most one vector of eight floats.
struct alignas(16) Slot { unsigned char bytes[32]; };

struct Simdgroup {
  Lane* lanes;
  int size;  // less than SIMD_WIDTH only at the ragged edge of a grid
  uint32_t barriers[SPACES];
  uint64_t sequence;     // collectives so far; parity picks the slots, so a fast lane spoils nothing
  uint64_t result_of;    // the collective whose result stands in `result`
  Slot slots[2][SIMD_WIDTH];
  float result[64];      // made by the first lane that needs it
};

struct Threadgroup {
  uint32_t id;  // from 1
  int size;
  uint32_t barriers[SPACES];
};

extern Lane* current;  // null while the scheduler runs
extern Threadgroup threadgroup_now;
extern bool nan_wins, nan_met;  // functions.h says what they are

// Stops the launch. Never returns to a kernel.
[[gnu::format(printf, 1, 2)]] void fail(const char* format, ...);
void wait(State state, uint8_t flags, const char* operation, const std::source_location& site);

// Memory declared in a kernel with the keyword threadgroup. One record for each declaration.
struct Variable { const char* name; void* address; uint64_t launch; };
void* threadgroup_variable(Variable& variable, size_t bytes, size_t element);
void atomic_access(const void* address, size_t bytes);

template <class T>
inline T& threadgroup_memory(Variable& variable) {
  return *reinterpret_cast<T*>(threadgroup_variable(variable, sizeof(T), sizeof(std::remove_all_extents_t<T>)));
}

// A collective: publish a value, wait until all lanes of the simdgroup stand at the same place, read theirs.
struct Collective {
  Simdgroup* group;
  const Slot* slots;
  int lane, size;
  template <class T>
  T of(int other) const {
    T value;
    memcpy(&value, slots[other].bytes, sizeof(T));
    return value;
  }
};

template <class T>
inline Collective gather(const T& value, const char* operation, const std::source_location& site) {
  static_assert(sizeof(T) <= sizeof(Slot), "a collective carries at most 32 bytes a lane");
  Lane* me = current;
  Simdgroup* group = me->simdgroup;
  Slot* slots = group->slots[group->sequence & 1];
  memcpy(slots[me->lane].bytes, &value, sizeof(T));
  wait(State::AT_COLLECTIVE, 0, operation, site);
  return {group, slots, me->lane, group->size};
}

// The result that all lanes share, worked out once. Apart from the kernel where its operations are counted.
#ifdef MSLSIM_COUNTED
#define MSLSIM_APART __attribute__((noinline))
#else
#define MSLSIM_APART inline
#endif
template <class T, class Make>
MSLSIM_APART T shared_result(const Collective& all, Make make) {
  static_assert(sizeof(T) <= sizeof(Simdgroup::result));
  Simdgroup* group = all.group;
  if (group->result_of != group->sequence) {
    T made = make();
    memcpy(group->result, &made, sizeof(T));
    group->result_of = group->sequence;
  }
  T value;
  memcpy(&value, group->result, sizeof(T));
  return value;
}

}  // namespace mslsim
