// Watched memory: bounds, initialisation, races and traffic of every buffer a kernel touches.
//
// A kernel that is compiled with -fsanitize=thread calls __tsan_read4 and its kin at each access; the
// ones here are ours, libtsan is not linked. Each buffer lies alone in a slot of 4 GiB of address
// space, so an address names its buffer at once and an index that is wrong by up to 2 GiB is still
// known for what it is. What a register or a private array holds is not seen, and need not be.
#include "memory.h"

#include <sys/mman.h>

#include <cstring>
#include <string>
#include <vector>

#include "runtime.h"

namespace mslsim {
namespace {

constexpr uint64_t SLOT = 4ull << 30, MIDDLE = SLOT / 2, PAGE = 4096;
constexpr int SLOTS = 64;
constexpr size_t THREADGROUP_LIMIT = 32768;  // bytes a threadgroup may declare on Apple GPUs

// Who touched an element last. `crowd` tells how far the readers of one barrier interval are spread.
enum Crowd : uint8_t { ONE_THREAD, ONE_SIMDGROUP, ONE_THREADGROUP, MANY_THREADGROUPS };
struct Access {
  uint32_t threadgroup;  // 0: nobody
  uint16_t thread;
  Crowd crowd;
  bool atomic;
  uint32_t barrier, simd_barrier;
};
struct Element { Access write, read; };

struct Buffer {
  std::string name;
  uintptr_t start;
  size_t bytes, element;
  Space space;
  bool writable, initialised;
  size_t mapped;
  uint64_t asked_read, asked_write;  // bytes that lanes asked for
  uint64_t fetched;                  // bytes read, once for each threadgroup that reads them
  std::vector<uint32_t> fetched_by;  // the threadgroup that read an element last
  std::vector<Element> elements;     // of writable buffers
};

char* arena;
Buffer buffers[SLOTS];
int used;
size_t threadgroup_bytes;
uint64_t launches;
bool check_races = true;

bool same_simdgroup(int a, int b) { return a / SIMD_WIDTH == b / SIMD_WIDTH; }

// Whether `before` happens before what the current lane does now, by program order or a barrier.
bool ordered(const Access& before, Space space) {
  if (before.threadgroup != threadgroup_now.id) return false;  // nothing orders threadgroups within a launch
  if (before.barrier != threadgroup_now.barriers[space]) return true;
  bool ours = same_simdgroup(before.thread, current->thread);
  if (before.crowd <= ONE_SIMDGROUP && ours && before.simd_barrier != current->simdgroup->barriers[space]) return true;
  return before.crowd == ONE_THREAD && before.thread == current->thread;
}

Access now(Space space, bool atomic) {
  return {threadgroup_now.id,   current->thread, ONE_THREAD, atomic, threadgroup_now.barriers[space],
          current->simdgroup->barriers[space]};
}

bool present(const Access& access, Space space) {
  return access.threadgroup && (space == DEVICE || access.threadgroup == threadgroup_now.id);
}

void race(const Buffer& b, size_t index, const char* this_one, const char* that_one, const Access& other) {
  fail("race on %s[%zu]: this %s and the %s by thread %d of threadgroup %u have no barrier between them",
       b.name.c_str(), index, this_one, that_one, other.thread, other.threadgroup - 1);
}

void read_element(Buffer& b, size_t index, bool atomic) {
  Element& e = b.elements[index];
  bool written = present(e.write, b.space);
  if (!written && !b.initialised) {
    fail("%s[%zu] is read before anything is written to it", b.name.c_str(), index);
  }
  if (written && check_races && !(atomic && e.write.atomic) && !ordered(e.write, b.space)) {
    race(b, index, "read", "write", e.write);
  }
  Access me = now(b.space, atomic);
  if (present(e.read, b.space) && !ordered(e.read, b.space)) {
    bool ours = e.read.threadgroup == threadgroup_now.id;
    bool near = ours && e.read.crowd <= ONE_SIMDGROUP && same_simdgroup(e.read.thread, current->thread);
    me.crowd = near ? ONE_SIMDGROUP : ours && e.read.crowd <= ONE_THREADGROUP ? ONE_THREADGROUP : MANY_THREADGROUPS;
    me.atomic = atomic && e.read.atomic;
  }
  e.read = me;
}

void write_element(Buffer& b, size_t index, bool atomic) {
  Element& e = b.elements[index];
  if (check_races) {
    if (present(e.write, b.space) && !(atomic && e.write.atomic) && !ordered(e.write, b.space)) {
      race(b, index, "write", "write", e.write);
    }
    if (present(e.read, b.space) && !(atomic && e.read.atomic) && !ordered(e.read, b.space)) {
      race(b, index, "write", "read", e.read);
    }
  }
  e.write = now(b.space, atomic);
  if (!atomic) e.read = {};
}

void access(uintptr_t address, size_t bytes, bool write, bool aligned, bool atomic, void* from) {
  uintptr_t offset = address - reinterpret_cast<uintptr_t>(arena);
  if (offset >= SLOT * SLOTS || !current) return;
  if (from) fail_at(reinterpret_cast<uint64_t>(from));
  int slot = int(offset / SLOT);
  if (slot >= used) fail("wild %s of address %p", write ? "write" : "read", reinterpret_cast<void*>(address));
  Buffer& b = buffers[slot];
  int64_t at = int64_t(address - b.start);
  if (at < 0 || size_t(at) + bytes > b.bytes) {
    fail("%s outside of %s: bytes %lld to %lld of %zu", write ? "write" : "read", b.name.c_str(), (long long)at,
         (long long)at + (long long)bytes, b.bytes);
  }
  if (aligned && address % bytes) fail("%zu-byte access to %s at the odd byte %lld", bytes, b.name.c_str(), (long long)at);
  if (write && !b.writable) fail("write to %s, which is an input", b.name.c_str());
  (write ? b.asked_write : b.asked_read) += bytes;
  size_t first = size_t(at) / b.element, last = (size_t(at) + bytes - 1) / b.element;
  for (size_t i = first; i <= last; i++) {
    if (!write && b.fetched_by[i] != threadgroup_now.id) b.fetched_by[i] = threadgroup_now.id, b.fetched += b.element;
    if (b.writable) write ? write_element(b, i, atomic) : read_element(b, i, atomic);
  }
  fail_at(0);
}

size_t pages(size_t bytes) { return (bytes + PAGE - 1) / PAGE * PAGE; }

// `shift`: by how much it lies beside a page, for a buffer of MLX may be a view that begins anywhere.
Buffer& add(const char* name, size_t bytes, size_t element, Space space, size_t shift) {
  if (!arena) {
    void* space_for_all = mmap(nullptr, SLOT * SLOTS, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    arena = static_cast<char*>(space_for_all);
  }
  uintptr_t page = reinterpret_cast<uintptr_t>(arena) + used * SLOT + MIDDLE, start = page + shift;
  Buffer& b = buffers[used++];
  size_t mapped = pages(bytes + shift ? bytes + shift : 1);
  if (mapped > b.mapped) mprotect(reinterpret_cast<void*>(page), mapped, PROT_READ | PROT_WRITE);
  b = {name, start, bytes, element, space, true, false, mapped > b.mapped ? mapped : b.mapped, 0, 0, 0, {}, {}};
  b.fetched_by.assign(bytes / element + 1, 0);
  return b;
}

}  // namespace

void* threadgroup_variable(Variable& variable, size_t bytes, size_t element) {
  if (variable.launch != launches) {
    threadgroup_bytes += bytes;
    if (threadgroup_bytes > THREADGROUP_LIMIT) {
      fail("threadgroup memory of %zu bytes, the limit is %zu", threadgroup_bytes, THREADGROUP_LIMIT);
    }
    if (used == SLOTS) fail("more than %d buffers and threadgroup variables", SLOTS);
    Buffer& b = add(variable.name, bytes, element, THREADGROUP, 0);
    b.elements.assign(bytes / element, {});
    memset(reinterpret_cast<void*>(b.start), 0xff, bytes);
    variable.address = reinterpret_cast<void*>(b.start);
    variable.launch = launches;
  }
  return variable.address;
}

void atomic_access(const void* address, size_t bytes) {
  access(reinterpret_cast<uintptr_t>(address), bytes, false, true, true, __builtin_return_address(0));
  access(reinterpret_cast<uintptr_t>(address), bytes, true, true, true, __builtin_return_address(0));
}

}  // namespace mslsim

using namespace mslsim;

extern "C" {

// ------------------------------------------------------------------ called from Python
void mslsim_begin(int races) { used = 0, threadgroup_bytes = 0, launches++, check_races = races; }

void* mslsim_add(const char* name, uint64_t bytes, uint64_t element, int writable, int initialised, uint64_t shift) {
  if (used == SLOTS) return nullptr;
  Buffer& b = add(name, bytes, element, DEVICE, shift);
  b.writable = writable, b.initialised = initialised;
  if (writable) b.elements.assign(bytes / element + 1, {});
  return reinterpret_cast<void*>(b.start);
}

// traffic: asked_read, asked_write, fetched, elements never written, the first of these
void mslsim_traffic(int index, uint64_t* traffic) {
  Buffer& b = buffers[index];
  traffic[0] = b.asked_read, traffic[1] = b.asked_write, traffic[2] = b.fetched, traffic[3] = traffic[4] = 0;
  for (size_t i = b.bytes / b.element; b.writable && i-- > 0;) {
    if (!b.elements[i].write.threadgroup) traffic[3]++, traffic[4] = i;
  }
}

// of all threadgroup variables together: bytes asked to read, to write, declared
void mslsim_threadgroup_traffic(uint64_t* traffic) {
  traffic[0] = traffic[1] = 0, traffic[2] = threadgroup_bytes;
  for (int i = 0; i < used; i++) {
    if (buffers[i].space == THREADGROUP) traffic[0] += buffers[i].asked_read, traffic[1] += buffers[i].asked_write;
  }
}

// ------------------------------------------------------------------ called from instrumented kernels
#define MSLSIM_HOOKS(n)                                                                                            \
  void __tsan_read##n(void* p) { access((uintptr_t)p, n, false, true, false, __builtin_return_address(0)); }          \
  void __tsan_write##n(void* p) { access((uintptr_t)p, n, true, true, false, __builtin_return_address(0)); }          \
  void __tsan_unaligned_read##n(void* p) { access((uintptr_t)p, n, false, false, false, __builtin_return_address(0)); } \
  void __tsan_unaligned_write##n(void* p) { access((uintptr_t)p, n, true, false, false, __builtin_return_address(0)); }
MSLSIM_HOOKS(1)
MSLSIM_HOOKS(2)
MSLSIM_HOOKS(4)
MSLSIM_HOOKS(8)
MSLSIM_HOOKS(16)
void __tsan_read_range(void* p, size_t n) { access((uintptr_t)p, n, false, false, false, __builtin_return_address(0)); }
void __tsan_write_range(void* p, size_t n) { access((uintptr_t)p, n, true, false, false, __builtin_return_address(0)); }
void* __tsan_memcpy(void* to, const void* from, size_t n) {
  access((uintptr_t)from, n, false, false, false, __builtin_return_address(0));
  access((uintptr_t)to, n, true, false, false, __builtin_return_address(0));
  return memcpy(to, from, n);
}
void* __tsan_memset(void* to, int value, size_t n) {
  access((uintptr_t)to, n, true, false, false, __builtin_return_address(0));
  return memset(to, value, n);
}
void* __tsan_memmove(void* to, const void* from, size_t n) {
  access((uintptr_t)from, n, false, false, false, __builtin_return_address(0));
  access((uintptr_t)to, n, true, false, false, __builtin_return_address(0));
  return memmove(to, from, n);
}
// private variables, shifts, overflow, alignment: -fsanitize=alignment,bounds,object-size,... with handlers of our own
void undefined(const char* what, void* from) {
  if (!current) return;
  fail_at(reinterpret_cast<uint64_t>(from));
  fail("%s", what);
}
#define MSLSIM_UNDEFINED(name, what, ...) \
  void __ubsan_handle_##name(void*, ##__VA_ARGS__) { undefined(what, __builtin_return_address(0)); }
MSLSIM_UNDEFINED(out_of_bounds, "index outside of an array", uintptr_t)
MSLSIM_UNDEFINED(shift_out_of_bounds, "shift by more bits than there are", uintptr_t, uintptr_t)
MSLSIM_UNDEFINED(divrem_overflow, "division by zero", uintptr_t, uintptr_t)
MSLSIM_UNDEFINED(add_overflow, "signed addition overflows", uintptr_t, uintptr_t)
MSLSIM_UNDEFINED(sub_overflow, "signed subtraction overflows", uintptr_t, uintptr_t)
MSLSIM_UNDEFINED(mul_overflow, "signed product overflows", uintptr_t, uintptr_t)
MSLSIM_UNDEFINED(negate_overflow, "signed negation overflows", uintptr_t)
struct MadeTypeMismatch {
  const char* file;
  uint32_t line, column;
  const void* type;
  unsigned char log_alignment, kind;
};
void __ubsan_handle_type_mismatch_v1(MadeTypeMismatch* made, uintptr_t address) {
  const bool aligned = !(address & ((uintptr_t(1) << made->log_alignment) - 1));
  undefined(aligned ? "pointer outside of a private variable" : "pointer to a vector or a scalar that is not aligned to its size",
            __builtin_return_address(0));
}

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}

}  // extern "C"
