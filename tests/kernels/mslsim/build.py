"""Metal text to a loaded library: translation, compilation, one cache for all runs.

A library is named by a hash of all that went into it, so nothing is compiled twice and nothing stale
is used. Needs g++ 12 or newer (or what MSLSIM_CXX names) and nothing else.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from enum import Enum
from pathlib import Path

from .wrapper import ATTRIBUTES, Generated

HERE = Path(__file__).parent / "cxx"
CACHE = Path(os.environ.get("MSLSIM_CACHE", Path(__file__).parents[3] / "build" / "mslsim"))
CXX = os.environ.get("MSLSIM_CXX", "g++")
FLAGS = ("-std=c++20", "-fPIC", "-fno-strict-aliasing", "-Werror=vla")  # Metal has no arrays of variable size
RUNTIME = ("scheduler.cpp", "memory.cpp")

# threadgroup float tile[4][8];
DECLARED = re.compile(r"\bthreadgroup\s+([\w:]+(?:<[^;{}()]*?>)?)\s+(\w+)((?:\s*\[[^\]]+\])*)\s*;")
INSTANTIATION = re.compile(r"\ntemplate \[\[host_name.*?;\n", re.S)


FUSED = ("-ffp-contract=fast", *(("-mfma",) if os.uname().machine == "x86_64" else ()))


class Mode(Enum):
    """How to compile: watched at every access; as fast as it goes, without or with fused multiply-add; counted."""

    CHECKED = (
        *("-O1", "-g1", "-ffp-contract=off"),
        "-ftrivial-auto-var-init=pattern",  # private memory that nobody wrote holds -1.7e38
        "-fsanitize=thread,alignment,object-size,bounds,shift,integer-divide-by-zero,signed-integer-overflow",
    )
    PLAIN = ("-O2", "-ffp-contract=off")
    CONTRACTED = ("-O2", *FUSED)
    COUNTED = ("-O3", *FUSED, "-DMSLSIM_COUNTED")


def why_not() -> str:
    """Why the simulator cannot run here; nothing where it can."""
    if os.uname().sysname != "Linux":
        return f"The Metal simulator runs on Linux, not on {os.uname().sysname}."
    return "" if shutil.which(CXX) else f"The Metal simulator needs a C++ compiler; {CXX} is not there."


class CompileError(Exception):
    """The kernel's text does not compile; the message is the compiler's."""


def translate(text: str) -> str:
    """Metal text as C++: threadgroup variables become watched memory, MLX's instantiation line goes."""
    text = DECLARED.sub(r"MSLSIM_THREADGROUP(\1, \2, \3)", text)
    text = re.sub(r"#\s*include\s*<metal_\w+>", "", text)
    return INSTANTIATION.sub("\n", text)


# what the scheduler hands to every thread; the fields are those of Position in scheduler.cpp
ENTRY = """
#line 1 "entry"
struct Position {{
  uint32_t thread_in_grid[3], thread_in_group[3], group_in_grid[3], group_size[3], grid_size[3], groups[3];
  uint32_t index, lane, simdgroup, simdgroups;
}};
static uint3 three(const uint32_t* v) {{ return uint3(v[0], v[1], v[2]); }}
extern "C" void mslsim_body(void* const* a, const Position* p) {{ {call}; }}
"""
OF_POSITION = {
    "dispatch_quadgroups_per_threadgroup": "p->simdgroups * 8",
    "dispatch_simdgroups_per_threadgroup": "p->simdgroups",
    "dispatch_threads_per_threadgroup": "three(p->group_size)",
    "grid_origin": "uint3(0)",
    "grid_size": "three(p->grid_size)",
    "quadgroup_index_in_threadgroup": "p->index / 4",
    "quadgroups_per_threadgroup": "p->simdgroups * 8",
    "simdgroup_index_in_threadgroup": "p->simdgroup",
    "simdgroups_per_threadgroup": "p->simdgroups",
    "thread_execution_width": "32u",
    "thread_index_in_quadgroup": "p->lane & 3",
    "thread_index_in_simdgroup": "p->lane",
    "thread_index_in_threadgroup": "p->index",
    "thread_position_in_grid": "three(p->thread_in_grid)",
    "thread_position_in_threadgroup": "three(p->thread_in_group)",
    "threadgroup_position_in_grid": "three(p->group_in_grid)",
    "threadgroups_per_grid": "three(p->groups)",
    "threads_per_grid": "three(p->grid_size)",
    "threads_per_simdgroup": "32u",
    "threads_per_threadgroup": "three(p->group_size)",
}
assert OF_POSITION.keys() == ATTRIBUTES.keys()


def source_of(made: Generated, header: str, where: str) -> str:
    """The whole C++ file. `#line` makes messages name lines of the header and of the body."""
    body = made.text[len(header) :]
    opening, brace, rest = body.partition(") {\n")
    text = f'#line 1 "{where}.header"\n{header}\n#line 1 "wrapper"\n{opening}{brace}#line 1 "{where}"\n{rest}'
    inputs = [
        f"{'*' if a.by_reference else ''}({'' if a.role == 'output' else 'const '}{a.ctype}*)a[{i}]"
        for i, a in enumerate(made.arguments)
    ]
    call = f"{made.name}{made.template}({', '.join(inputs + [OF_POSITION[a] for a in made.attributes])})"
    return '#include "metal.h"\nusing namespace metal;\n' + translate(text) + ENTRY.format(call=call)


def compiled(source: str, mode: Mode) -> ctypes.CDLL:
    runtime()  # its symbols must be there before a kernel is loaded
    return _load(source, mode)


@functools.cache
def _load(source: str, mode: Mode) -> ctypes.CDLL:
    return ctypes.CDLL(str(_build(source, (*FLAGS, *mode.value))))


@functools.lru_cache(maxsize=1)
def runtime() -> ctypes.CDLL:
    source = "".join((HERE / name).read_text() for name in RUNTIME)
    library = ctypes.CDLL(str(_build(source, (*FLAGS, "-O2"))), mode=ctypes.RTLD_GLOBAL)  # kernels call into it
    library.mslsim_message.restype = ctypes.c_char_p
    library.mslsim_failed_at.restype = ctypes.c_uint64
    library.mslsim_add.restype = ctypes.c_void_p
    library.mslsim_add.argtypes = (
        ctypes.c_char_p,
        ctypes.c_uint64,
        ctypes.c_uint64,
        *(ctypes.c_int,) * 2,
        ctypes.c_uint64,
    )
    return library


@functools.lru_cache(maxsize=1)
def _headers() -> bytes:
    return b"".join(p.read_bytes() for p in sorted(HERE.iterdir()))


def _build(source: str, flags: Sequence[str]) -> Path:
    key = hashlib.sha256(repr((source, flags, CXX)).encode() + _headers()).hexdigest()[:24]
    library = CACHE / f"{key}.so"
    if library.exists():
        return library
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:  # several test processes may build at once
        cpp, made, linked = (Path(folder) / f"made.{end}" for end in ("cpp", "o", "so"))
        cpp.write_text(source)
        call(CXX, *flags, f"-I{HERE}", "-c", str(cpp), "-o", str(made))
        call(CXX, "-shared", str(made), "-o", str(linked))  # apart, so that libtsan stays out
        linked.replace(library)
    return library


def call(*command: str) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise CompileError("\n".join(line for line in result.stderr.splitlines() if "error" in line) or result.stderr)


def line_of(library: ctypes.CDLL, address: int) -> str:
    """file:line of a program counter inside a kernel, or nothing where binutils are absent."""
    base = ctypes.cast(library.mslsim_body, ctypes.c_void_p).value or 0
    tool = ["addr2line", "-s", "-e", library._name, hex(address - _load_base(library._name, base) - 1)]
    try:
        return subprocess.run(tool, capture_output=True, text=True, check=False).stdout.strip().split(" ")[0]
    except FileNotFoundError:
        return ""


def _load_base(path: str, inside: int) -> int:
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith(path) and (start := int(line.split("-")[0], 16)) <= inside:
            return start - int(line.split()[2], 16)
    return 0
