"""What a kernel computes, counted: the operations that an optimizer leaves of its text, each as often as it ran.

g++ compiles the text twice: first with counters, for one run; then with what they counted, when it tells its last
intermediate code, block by block, with how often each ran. Loops of a known length are unrolled and helpers inlined,
as a GPU's compiler does. Counted is what comes from the kernel's own text and from what it calls of Metal's
arithmetic; a collective is one call, whatever the simulator does for it. It is g++'s choice of operations, not Apple's.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from .build import CXX, FLAGS, HERE, Mode, call, runtime

# the whole of a kernel in registers, and no copies of a loop whose length nobody knows
KEPT = (
    *(
        "-fno-peel-loops",
        "-fno-unswitch-loops",
        "-fno-split-loops",
        "-fno-tree-loop-vectorize",
        "-fno-tree-slp-vectorize",
    ),
    *("--param=max-completely-peel-times=64", "--param=max-completely-peeled-insns=8000"),
    *("--param=max-inline-insns-auto=20000", "--param=max-inline-insns-single=20000"),
    *("--param=inline-unit-growth=10000", "--param=large-function-growth=100000"),
)
SUFFIX = '\nextern "C" void __gcov_dump();\nextern "C" void mslsim_counted() { __gcov_dump(); }\n'
ARITHMETIC = ("types.h", "functions.h")

BLOCK = re.compile(r";;   basic block \d+, .*count (\d+) \((?:precise|adjusted)")
PLACE = re.compile(r"\[([^\[\]\s]+):\d+:\d+\] ")
DECLARED = re.compile(r"  (?:const |struct |volatile )*([\w ]+?(?: \*)*) ?([\w$.]+);")
NAME = re.compile(r"[A-Za-z_][\w$.]*(?:\(D\))?")
COLLECTIVE = re.compile(r'mslsim::wait \(\d.*"(\w+)"')
CONVERSION = re.compile(r"\((float|half|_Float16|int|unsigned int|short unsigned int|unsigned char)\) (\S+)")
SPECIAL = re.compile(r"\b(?:__builtin_)?(?:expf?|exp2f?|logf?|log2f?|sqrtf?|tanhf?|sinf?|cosf?)(?:\.\d+)? \(")
REAL = ("float", "_Float16", "half", "double")


def why_not() -> str:
    """Why nothing can be counted here; nothing where it can."""
    said = subprocess.run([CXX, "--version"], capture_output=True, text=True, check=False).stdout
    return "" if "Free Software Foundation" in said else f"Operations are counted by g++; {CXX} is another compiler."


def counted(source: str, name: str, run: Callable[[ctypes.CDLL], None]) -> Counter[str]:
    """The operations of one run of a kernel, by kind; `run` runs the library that it is given."""
    runtime()  # its symbols must be there before a kernel is loaded
    with tempfile.TemporaryDirectory() as folder:
        return _counted(source, name, Path(folder), run)


def _counted(source: str, name: str, folder: Path, run: Callable[[ctypes.CDLL], None]) -> Counter[str]:
    text, made, library, told = (folder / f"made.{end}" for end in ("cpp", "o", "so", "gimple"))
    text.write_text(source + SUFFIX)
    how = (CXX, *FLAGS, *Mode.COUNTED.value, *KEPT, f"-I{HERE}", "-c", str(text), "-o", str(made))
    call(*how, "-fprofile-generate", "-fprofile-update=single")
    call(CXX, "-shared", str(made), "-o", str(library), "-lgcov")
    loaded = ctypes.CDLL(str(library))
    run(loaded)
    loaded.mslsim_counted()
    call(*how, "-fprofile-use", "-w", f"-fdump-tree-optimized-lineno-blocks-details={told}")
    return operations(told.read_text(), (name, f"{name}.header", *ARITHMETIC))


def operations(told: str, files: tuple[str, ...]) -> Counter[str]:
    """Of g++'s dump, what stems from these files; collectives wherever they are called."""
    found: Counter[str] = Counter()
    types: dict[str, str] = {}
    times, file = 0, ""
    for line in told.splitlines():
        if line.startswith(";; Function"):
            types, file = {}, ""
        elif block := BLOCK.match(line):
            times = int(block[1])
        elif line.startswith(";;"):
            continue
        elif call_of := COLLECTIVE.search(line):
            found[call_of[1]] += times
        elif declared := DECLARED.fullmatch(line):
            types[declared[2]] = "" if declared[2] in types else declared[1]  # two of one name: unknown
        else:
            if place := PLACE.match(line.strip()):  # one without a place stands by that before it
                file = Path(place[1]).name
            if file in files:
                found.update(dict.fromkeys(kinds(PLACE.sub("", line.strip()), types, file == ARITHMETIC[0]), times))
    return +found


def kinds(statement: str, types: dict[str, str], of_bfloat: bool = False) -> Iterator[str]:
    """What one statement is: at most one operation, and none where it only names, moves or leads somewhere."""
    if statement.startswith("if ("):
        yield "compare"
        return
    to, equals, made = statement.rstrip(";").partition(" = ")
    if not equals or made.startswith(("PHI", "{")) or "VIEW_CONVERT" in made:
        return
    if to.startswith(("MEM", "*")) or "[" in to:
        yield "store"
        return
    kind = types[to] = next((k for name in (to, *NAME.findall(made)) if (k := _type_of(name, types))), "")
    real = kind in REAL
    if made.startswith((".FMA", ".FMS", ".FNM")):
        yield "fma"
    elif SPECIAL.search(made):
        yield "special"
    elif conversion := CONVERSION.fullmatch(made):
        before = _type_of(conversion[2], types)
        if real != (before in REAL):
            yield "convert"
        elif real and before != kind:
            yield "widen"
    elif made.startswith(("MEM", "*")) or re.match(r"\w[\w.$]*\[", made):
        yield "load"
    elif "*" in kind or kind in ("long unsigned int", "unsigned long", "sizetype", "ulong", "long int"):
        yield "address"
    elif re.search(r" (?:<<|>>) ", made):
        yield "widen" if of_bfloat and made.endswith("<< 16") else "shift"
    elif re.search(r" (?:[-+*/%&|^]|<|>|<=|>=|==|!=) |(?:MIN|MAX)_EXPR| \? |^[-~]|ABS_EXPR", made):
        yield _arithmetic(made, real)


def _arithmetic(made: str, real: bool) -> str:
    if re.search(r"(?:MIN|MAX)_EXPR| \? | (?:<|>|<=|>=|==|!=) ", made):
        return "compare"
    if re.search(r" [/%] ", made):
        return "divide"
    if real:
        return "multiply" if " * " in made else "add"
    return "integer multiply" if " * " in made else "integer"


def _type_of(name: str, types: dict[str, str]) -> str:
    """SSA names are a variable's with a number behind it, or only the number."""
    return types.get(name) or types.get(re.sub(r"_\d+(?:\(D\))?$", "", name), "")
