// Which instruction sets this build has and this CPU can run.
#include <atomic>
#include <cstdlib>
#include <cstring>

#include "kernels.h"

#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace kernels {

extern const Table table_base;
#if defined(__x86_64__)
extern const Table table_avx512, table_avxvnni, table_avx2;
extern decltype(Table::panels_integer) const panels_in_tiles;  // of isa_amx.cpp
#elif defined(__aarch64__)
extern const Table table_neon;
#endif

namespace {

struct Usable {
  const Table* list[6] = {};
#if defined(__x86_64__)
  Table amx = table_avx512;
#endif

  Usable() {
    int n = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                        __builtin_cpu_supports("avx512vnni");
    if (avx2 && avx512 && tiles_granted()) {
      amx.name = "amx", amx.panels_integer = panels_in_tiles;
      list[n++] = &amx;
    }
    if (avx2 && avx512) list[n++] = &table_avx512;
    if (avx2 && avx_vnni()) list[n++] = &table_avxvnni;
    if (avx2) list[n++] = &table_avx2;
#elif defined(__aarch64__)
#if defined(__linux__)
    if (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) list[n++] = &table_neon;
#else
    list[n++] = &table_neon;  // every Apple chip has dot products
#endif
#endif
    list[n] = &table_base;
  }

#if defined(__x86_64__)
  // compilers of the age of GCC 12 have no name for it in __builtin_cpu_supports
  static bool avx_vnni() {
    unsigned a = 7, b = 0, c = 1, d = 0;
    asm("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    return a & 1u << 4;
  }

  // Tiles of bytes, which a program must ask Linux for: their state makes what is kept of a thread 8 KB larger.
  static bool tiles_granted() {
#if defined(__linux__)
    unsigned a = 7, b = 0, c = 0, d = 0;
    asm("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    constexpr unsigned kTiles = 1u << 24, kBytes = 1u << 25;
    constexpr long kAsk = 0x1023, kTileState = 18;
    return (d & kTiles) && (d & kBytes) && syscall(SYS_arch_prctl, kAsk, kTileState) == 0;
#else
    return false;
#endif
  }
#endif
};

const Usable& found() {
  static const Usable usable;
  return usable;
}

const Table* named(const char* name) {
  for (const Table* const* t = found().list; *t; t++)
    if (std::strcmp((*t)->name, name) == 0) return *t;
  return nullptr;
}

std::atomic<const Table*> chosen{nullptr};

}  // namespace

const Table* const* usable() { return found().list; }

const Table& best() {
  const Table* table = chosen.load(std::memory_order_relaxed);
  if (!table) {
    const char* wish = std::getenv("MLXRUN_ISA");
    table = wish ? named(wish) : nullptr;
    if (!table) table = found().list[0];
    chosen.store(table, std::memory_order_relaxed);
  }
  return *table;
}

bool choose(const char* name) {
  const Table* table = named(name);
  if (table) chosen.store(table, std::memory_order_relaxed);
  return table != nullptr;
}

}  // namespace kernels
