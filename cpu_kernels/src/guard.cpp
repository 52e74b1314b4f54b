#include "guard.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <mutex>
#include <system_error>

namespace {

struct Slot {
  std::atomic<uintptr_t> begin{0};  // 0: free
  std::atomic<uintptr_t> end{0};
  std::atomic<bool> lost{false};
};

constexpr int kSlots = 4096;  // files that can be mapped at once
std::array<Slot, kSlots> slots;
std::atomic<int> used{0};  // slots that were ever taken: the handler looks no further
std::atomic<uint64_t> lost_so_far{0};

std::mutex names_lock;  // never taken by the handler
std::array<std::string, kSlots> names;
std::vector<std::string> gone;  // lost ranges that are no longer guarded

struct sigaction before {};
std::atomic<bool> passing_on{false}, passed_on{false};

void die(int number) {
  struct sigaction usual {};
  usual.sa_handler = SIG_DFL;
  sigaction(number, &usual, nullptr);
  raise(number);  // waits until we return, then ends the process
}

// Rather than by another process or thread. What these send is numbered from SI_USER up, which is above 0 on a Mac, and
// below it on Linux.
bool from_kernel(const siginfo_t* info) { return info->si_code > 0 && (SI_USER <= 0 || info->si_code < SI_USER); }

void pass_on(int number, siginfo_t* info, void* context) {
  // a handler before us may raise the signal once more for whoever was there before it, which may be us
  const bool raised_again = !from_kernel(info) && info->si_pid == getpid() && passed_on.load();
  if (raised_again || passing_on.exchange(true)) return die(number);
  if (from_kernel(info)) passed_on.store(true);
  if (before.sa_flags & SA_SIGINFO)
    before.sa_sigaction(number, info, context);
  else if (before.sa_handler == SIG_DFL || before.sa_handler == SIG_IGN)  // the kernel ignores no fault
    die(number);
  else
    before.sa_handler(number);
  passing_on.store(false);
}

bool covered(uintptr_t at) {
  const int count = used.load();
  for (int i = 0; i < count; ++i) {
    Slot& slot = slots[i];
    const uintptr_t begin = slot.begin.load(), end = slot.end.load();
    // a range that somebody looks at is guarded; one that changed meanwhile was not that one
    if (!begin || at < begin || at >= end || slot.begin.load() != begin) continue;
    if (!slot.lost.exchange(true)) lost_so_far.fetch_add(1);
    return mmap((void*)begin, end - begin, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) !=
           MAP_FAILED;
  }
  return false;
}

void on_bus_error(int number, siginfo_t* info, void* context) {
  const int kept = errno;
  // only the kernel tells an address; what another process sends has none
  const bool ours = from_kernel(info) && covered((uintptr_t)info->si_addr);
  errno = kept;
  if (!ours) pass_on(number, info, context);
}

void take_over() {
  struct sigaction now {};
  if (sigaction(SIGBUS, nullptr, &now)) return;
  if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_bus_error) return;
  before = now;
  struct sigaction ours {};
  ours.sa_sigaction = on_bus_error;
  ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
  sigemptyset(&ours.sa_mask);
  sigaction(SIGBUS, &ours, nullptr);
}

}  // namespace

Guard::Guard(const void* start, size_t bytes, std::string path) : slot_(-1) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  std::lock_guard<std::mutex> hold(names_lock);
  take_over();
  for (int i = 0; i < kSlots && slot_ < 0; ++i)
    if (!slots[i].begin.load()) slot_ = i;
  if (slot_ < 0) throw std::system_error(EMFILE, std::generic_category(), path);
  Slot& slot = slots[slot_];
  names[slot_] = std::move(path);
  slot.lost.store(false);
  slot.end.store((uintptr_t)start + (bytes + page - 1) / page * page);
  if (used.load() <= slot_) used.store(slot_ + 1);
  slot.begin.store((uintptr_t)start);
}

Guard::~Guard() {
  std::lock_guard<std::mutex> hold(names_lock);
  slots[slot_].begin.store(0);
  if (slots[slot_].lost.load()) gone.push_back(std::move(names[slot_]));
}

bool Guard::lost() const { return slots[slot_].lost.load(); }

uint64_t lost_count() { return lost_so_far.load(); }

std::vector<std::string> lost_files() {
  std::lock_guard<std::mutex> hold(names_lock);
  std::vector<std::string> found = gone;
  for (int i = 0; i < used.load(); ++i)
    if (slots[i].begin.load() && slots[i].lost.load()) found.push_back(names[i]);
  return found;
}
