"""Mutants of the native CPU kernels' C++: one thing changed at a time; the tests of this folder must notice.

    python -m tests.kernels.cpu.mutate [file ...] [--sample N] [--seed S] [--minutes M] [--survivors]

For each mutant the objects that its file goes into are compiled, without optimization, and linked with those of the
last build; then the tests that TESTS names (of this folder, or by a path under tests/) run on that library, with the
instruction set that this processor has best (or the one that the file is of). What does not compile is no mutant.
Results stand in build/mutants/cpu.jsonl, and a run goes on where the last one stopped. Needs Linux and g++.
"""

from __future__ import annotations

import atexit
import functools
import os
import queue
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlxrun.cpu_kernels import build, native

from .. import cpp_mutants, mutants
from ..mutants import KILLED, NO_MUTANT, ROOT, SURVIVED, Mutant
from .equivalent import EQUIVALENT

SOURCES = build.HERE / "src"
RECURRENT = " ".join(  # families whose mixers between them take every step of scans
    f"golden/test_default_path.py::test_as_a_person_loads_it[{name}]"
    for name in (
        *("mamba", "mamba2_groups", "falcon_h1_bias", "bamba_bias", "jamba", "nemotron_h", "recurrent_gemma", "lfm2"),
        *("qwen3_next", "kimi_linear", "olmo_hybrid_turned", "bailing_hybrid"),
    )
)
SAMPLING = "engine/test_sampler.py engine/test_sampling_in_turn.py"
TESTS = {
    "attention.cpp": "attention graph stack same bad_input",
    "attention.h": "pages attention",
    "body_attend.h": "attention segments same",
    "body_codes.h": "products rows experts same",
    "body_integer.h": "products experts same",
    "body_pages.h": "pages same",
    "body_panel.h": "products rows experts same",
    "body_rows.h": "rows products feed_forward heads attention",
    "body_sample.h": SAMPLING,
    "body_scan.h": RECURRENT,
    "body_tile.h": "attention pages same",
    "body_tiles.h": "products same",
    "draw.cpp": SAMPLING,
    "experts.cpp": "experts bad_input",
    "glue.cpp": "heads rows bad_input graph same",
    "guard.cpp": "mapped unit/weights/test_lost_pages.py",
    "guard.h": "mapped unit/weights/test_lost_pages.py",
    "isa.cpp": "isa pool",
    "isa_amx.cpp": "products same",
    "kernels.h": "pages products rows",
    "linear.h": "products feed_forward experts heads same scratch",
    "mapped.cpp": "mapped bad_input",
    "mapped.h": "mapped bad_input",
    "module.cpp": f"bad_input pages rows products mapped packing {SAMPLING}",
    "module_stack.cpp": "steps steps_attend stack",
    "nodes.h": "stack pages graph",
    "pack.cpp": "products rows packing bad_input experts mapped",
    "packed.h": "products experts mapped stack",
    "paged.cpp": "pages stack graph",
    "pages.cpp": "pages stack",
    "pages.h": "pages stack",
    "parts.cpp": "products feed_forward heads stack experts same",
    "parts.h": "stack products feed_forward heads experts",
    "pool.cpp": "pool same bad_input",
    "pool.h": "pool",
    "primitive.h": "rows products graph feed_forward attention experts bad_input",
    "project.cpp": "products feed_forward rows bad_input graph",
    "project.h": "products rows bad_input",
    "sample.cpp": SAMPLING,
    "sample.h": SAMPLING,
    "scan.h": RECURRENT,
    "segments.cpp": "segments",
    "simd_avx2.h": "rows products attention feed_forward",
    "simd_avx512.h": "rows products attention feed_forward same",
    "simd_base.h": "rows products attention feed_forward",
    "stack.cpp": "stack steps steps_attend bad_input",
    "stack.h": "steps steps_attend stack",
    "stack_layers.h": "stack steps steps_attend",
    "stack_adapt.cpp": "adapt",
    "steps_adapt.cpp": "adapt",
    "spare.h": RECURRENT,
    "stack_scan.cpp": f"stack {RECURRENT}",
    "steps.cpp": "steps stack",
    "steps.h": "steps steps_attend stack",
    "steps_attend.cpp": "steps_attend",
    "steps_mix.cpp": "steps stack",
    "steps_scan.cpp": RECURRENT,
    "steps_scan.h": RECURRENT,
}
NOT_JUDGED = {"simd_neon.h": "compiled on ARM alone, and mutants are made on x86"}
OF_ONE_SET = {
    "isa_amx.cpp": "amx",
    "body_tiles.h": "amx",
    "simd_avx2.h": "avxvnni" if "avxvnni" in native.isas() else "avx2",
    "simd_avx512.h": "avx512",
    "simd_base.h": "base",
}
LEAST, TIMES, MEMORY = 30, 4, 8 << 30  # a mutant's tests get so many seconds of a processor, or the source's own times
# so much, and so many bytes of addresses


def isa_of(file: str) -> str:
    return OF_ONE_SET.get(file) or next(name for name in native.isas() if name not in ("amx", "avxvnni"))


def included(name: str) -> set[str]:
    """The headers that a source of ours includes, and those that these include."""
    found = set(re.findall(r'#include "(\w+\.h)"', (SOURCES / name).read_text()))
    return found.union(*(included(header) for header in found)) if found else found


def objects_of(file: str) -> list[str]:
    """The sources whose objects a file goes into; of instruction sets only the one that is tested."""
    every = sorted(path.name for path in SOURCES.glob("*.cpp"))
    every = [name for name in every if not name.startswith("isa_") or name == f"isa_{isa_of(file)}.cpp"]
    return [name for name in every if name == file or file in included(name)]


@functools.cache
def standing() -> dict[str, Path]:
    """The objects of the sources as they are."""
    return {path.stem: path for path in build.compile_all(ROOT / "build" / "cpu_kernels")}


@functools.cache
def flags_of(source: str) -> list[str]:
    known = {path.name: flags for path, flags in build.jobs(os.uname().machine, None)}
    mine = [flag for flag in known[source] if not flag.startswith("-O")]
    return [*build.compiler(), *build.COMMON, "-w", "-O0", *mine, *build.includes()]


@functools.cache
def headers() -> Path:
    """MLX's headers, read once for all mutants: they take the compiler longer than our sources do."""
    texts = [path.read_text() for path in SOURCES.iterdir()]
    wanted = r'#include (?:"mlx/.*"|<(?:algorithm|cmath|memory|mutex|optional|string|vector)>)'
    header = ROOT / "build" / "mutants" / f"mlx-{build.versions()['mlx']}.h"
    header.parent.mkdir(parents=True, exist_ok=True)
    header.write_text("\n".join(sorted({line for text in texts for line in re.findall(wanted, text)})) + "\n")
    made = header.with_suffix(".h.gch")
    subprocess.run([*flags_of("module.cpp"), "-x", "c++-header", str(header), "-o", str(made)], check=True)
    return header


def read_before(source: str) -> list[str]:
    ours = re.search(r'#include "(?:mlx/|nodes|primitive|packed|stack|mapped)', (SOURCES / source).read_text())
    return ["-include", str(headers())] if ours else []


@functools.cache
def folders() -> queue.SimpleQueue[Path]:
    return queue.SimpleQueue()


@contextmanager
def workplace() -> Iterator[Path]:
    """A folder with a copy of the sources; as many as are worked in at once."""
    try:
        folder = folders().get_nowait()
    except queue.Empty:
        folder = Path(tempfile.mkdtemp(prefix="mutant-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        shutil.copytree(SOURCES, folder / "src")
    try:
        yield folder
    finally:
        folders().put(folder)


def fate(mutant: Mutant) -> str:
    with workplace() as folder:
        place, text = folder / "src" / mutant.file, (SOURCES / mutant.file).read_text()
        place.write_text(mutant.applied(text))
        try:
            if not linked(folder, mutant.file):
                return NO_MUTANT
            return tested(folder, mutant.file)
        finally:
            place.write_text(text)


def linked(folder: Path, file: str) -> bool:
    made = {}
    for source in objects_of(file):
        target = folder / f"{Path(source).stem}.o"
        command = [*flags_of(source), *read_before(source), "-c", str(folder / "src" / source), "-o", str(target)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return False
        made[target.stem] = target
    try:
        build.link([*(standing() | made).values()], folder / build.library_name())
    except build.BuildError:
        return False
    return True


TAKEN: dict[str, float] = {}  # seconds of a processor that the tests of each file took on the source as it is


def limited(seconds: int) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def tested(folder: Path, file: str) -> str:
    """The tests in a process of their own: a mutant may write anywhere, and never end."""
    tests = [ROOT / "tests" / (name if "/" in name else f"kernels/cpu/test_{name}.py") for name in TESTS[file].split()]
    own = {"MLXRUN_TEST_NATIVE": str(folder), "MLXRUN_TEST_SOURCES": str(folder / "src"), "MLXRUN_ISA": isa_of(file)}
    own |= {"MLXRUN_TEST_ISAS": isa_of(file), "HYPOTHESIS_STORAGE_DIRECTORY": str(folder / "hypothesis")}
    own["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # schemathesis takes longer to import than most mutants live
    command = [sys.executable, "-m", "pytest", "-p", "tests.kernels.cpu.library", "-x", "-q", "-p", "no:cacheprovider"]
    command += ["-p", "_hypothesis_pytestplugin", "--hypothesis-seed=0", "--tb=line"]
    seconds = max(LEAST, round(TIMES * TAKEN.get(file, 600)))
    try:
        done = subprocess.run(
            [*command, *map(str, tests)],
            cwd=ROOT,
            env=os.environ | own,
            capture_output=True,
            text=True,
            check=False,
            timeout=10 * seconds,
            preexec_fn=functools.partial(limited, seconds),
        )
    except subprocess.TimeoutExpired:
        return f"{KILLED}: it does not end"
    shutil.rmtree(folder / "hypothesis", ignore_errors=True)
    if done.returncode == 0:
        return SURVIVED
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.M)
    return f"{KILLED}: {failed[0].split('/')[-1] if failed else f'the tests ended with {done.returncode}'}"


def prove(file: str) -> None:
    """The unchanged text compiled as mutants are: what the tests say of it, they say of mutants."""
    first = next(mutants_of(file))
    same = Mutant(file, first.line, first.before, first.before)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    if (end := fate(same)) != SURVIVED:
        raise SystemExit(f"{file} as it is does not pass: {end}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)  # the compiler's too
    TAKEN[file] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def mutants_of(file: str) -> Iterator[Mutant]:
    return cpp_mutants.mutants_of(file, SOURCES / file)


def main(arguments: list[str]) -> int:
    usable = [file for file in TESTS if isa_of(file) in native.isas()]
    plan = mutants.Plan("cpu", {file: SOURCES / file for file in usable}, mutants_of, fate, prove, EQUIVALENT)
    return mutants.main(plan, __doc__ or "", arguments, jobs=1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
