// Between the scheduler and the watched memory.
#pragma once
#include <cstdint>

namespace mslsim {
void fail_at(uint64_t program_counter);  // where in the kernel's code; call before fail
}
