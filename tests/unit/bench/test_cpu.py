"""The bench of CPUs: how llama.cpp is built for a processor, and engines that die while it runs."""

from __future__ import annotations

import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[3]
SKYLAKE = "avx avx2 fma f16c bmi2 avx512f avx512cd avx512vl avx512dq avx512bw"
SAPPHIRE = f"{SKYLAKE} avx512vbmi avx512_vnni avx512_bf16 avx_vnni amx_bf16 amx_tile amx_int8"

ENGINE = """#!{python}
import json, os, signal, sys
dies_at, how = {dies_at!r}, {how!r}
def perhaps(what):
    if what == dies_at:
        print("first\\nthe last | line", file=sys.stderr, flush=True)
        os.kill(os.getpid(), getattr(signal, how)) if how.startswith("SIG") else sys.exit(int(how))
perhaps("start")
print("{{}}", flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    perhaps(asked["do"])
    print(json.dumps({{"result": 0.5}}), flush=True)
"""


@pytest.fixture(scope="module")
def cpu() -> Iterator[ModuleType]:
    """bench/cpu.py, which finds its peers beside itself."""
    sys.path.insert(0, str(ROOT / "bench"))
    try:
        import cpu as found

        yield found
    finally:
        sys.path.remove(str(ROOT / "bench"))
        for name in [name for name in sys.modules if name == "cpu" or name.split(".")[0] == "peers"]:
            del sys.modules[name]


def engine(folder: Path, dies_at: str = "", how: str = "SIGILL") -> str:
    """A program that answers as an engine does, until it is asked for one thing."""
    file = folder / f"engine-{dies_at}-{how}"
    file.write_text(ENGINE.format(python=sys.executable, dies_at=dies_at, how=how))
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return str(file)


@pytest.mark.parametrize(
    ("flags", "options"),
    [
        (SKYLAKE, "-DGGML_NATIVE=ON"),
        ("", "-DGGML_NATIVE=ON"),
        (
            SAPPHIRE,
            "-DGGML_NATIVE=OFF -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON "
            "-DGGML_AVX_VNNI=ON -DGGML_AVX512=ON -DGGML_AVX512_VBMI=ON -DGGML_AVX512_VNNI=ON -DGGML_AVX512_BF16=ON",
        ),
        (
            "avx avx2 fma avx512f amx_tile",
            "-DGGML_NATIVE=OFF -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=OFF -DGGML_BMI2=OFF "
            "-DGGML_AVX_VNNI=OFF -DGGML_AVX512=OFF -DGGML_AVX512_VBMI=OFF -DGGML_AVX512_VNNI=OFF "
            "-DGGML_AVX512_BF16=OFF",
        ),
    ],
    ids=["no amx", "nothing known", "amx", "some of it"],
)
def test_how_llama_cpp_is_built(cpu: ModuleType, flags: str, options: str) -> None:
    cpuinfo = f"processor\t: 0\nmodel name\t: x\nflags\t\t: fpu {flags}\n"
    made = cpu.build(cpuinfo)
    assert made.options == options
    assert ("without AMX" in made.told) is ("amx" in flags)
    assert made.folder == ("llama-without-amx" if "amx" in flags else "llama")  # a native one is not used again


def benched(
    cpu: ModuleType, monkeypatch: pytest.MonkeyPatch, folder: Path, ours: str, llama: str | Exception
) -> tuple[list[str], list[str]]:
    """The lines of both tables."""
    model = folder / "model"
    model.write_bytes(bytes(100))
    start = cpu.Worker

    def worker(kind: str, file: Path, **options: object) -> object:
        return start(kind, file, **{**options, "python": ours if kind == "ours" else llama})

    def python() -> str:
        if isinstance(llama, Exception):
            raise llama
        return llama

    monkeypatch.setattr(cpu, "Worker", worker)
    monkeypatch.setattr(cpu.place, "llama_python", python)
    monkeypatch.setattr(cpu, "reads_of", lambda file: cpu.Reads(100, 0, 0, ()))
    asked = (cpu.Measure("decode", 32, steps=8), cpu.Measure("prompt", 64))
    case = cpu.Case("Tiny", {"Q4_0": lambda: model})
    runners = cpu.measured(case, 1, 2, asked)
    return cpu.table(cpu.rows(case, runners, 1e9, asked)), cpu.memory_table(cpu.memory(case, runners, asked))


def test_all_live(cpu: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    speeds, peaks = benched(cpu, monkeypatch, tmp_path, engine(tmp_path), engine(tmp_path))
    assert speeds[-2].startswith("| decode | 16.0 | 16.0 (1.00x) | 16.0 (1.00x) Q4_0 |")
    assert speeds[-1].startswith("| prompt | 128 | 128 (1.00x) | 128 (1.00x) Q4_0 |")
    assert not [line for line in (*speeds, *peaks) if "died" in line]


@pytest.mark.parametrize(
    ("dies_at", "how", "told"),
    [
        ("start", "SIGILL", "killed by SIGILL: the last / line"),
        ("fill", "SIGILL", "killed by SIGILL: the last / line"),
        ("prefill", "SIGKILL", "killed by SIGKILL: the last / line"),
        ("peak", "3", "exit code 3: the last / line"),
    ],
)
def test_an_engine_that_dies_is_a_row(
    cpu: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dies_at: str, how: str, told: str
) -> None:
    speeds, peaks = benched(cpu, monkeypatch, tmp_path, engine(tmp_path), engine(tmp_path, dies_at, how))
    assert speeds[-1].startswith(f"| llama.cpp died | {told} |")
    assert speeds[-3].startswith("| decode | 16.0 | 16.0" if dies_at in ("prefill", "peak") else "| decode | 16.0 |  |")
    assert speeds[-2].startswith("| prompt | 128 | 128" if dies_at == "peak" else "| prompt | 128 |  |")
    assert f"| Tiny | Q4_0 | llama.cpp | died: {told} | | | |" in peaks
    assert peaks[-2].startswith("| Tiny | Q4_0 | mlxrun | 0 |")


def test_one_that_cannot_be_built_and_ours_that_dies(
    cpu: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    failed = subprocess.CalledProcessError(1, ["pip"])
    speeds, _ = benched(cpu, monkeypatch, tmp_path, engine(tmp_path, "decode"), failed)
    assert [line.split(" | ")[0] for line in speeds[-4:]] == [
        "| decode",
        "| prompt",
        "| mlxrun died",
        "| llama.cpp died",
    ]
    assert "killed by SIGILL" in speeds[-2]
    assert "it could not be built: Command '['pip']' returned non-zero exit status 1." in speeds[-1]
