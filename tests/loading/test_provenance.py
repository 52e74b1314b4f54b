"""A ready file's name changes with whatever it was made from or by, and the imports are read off right."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlxrun.loading import provenance
from mlxrun.loading.open import open_model
from mlxrun.loading.pack import source_of
from mlxrun.loading.provenance import Rooms, code, code_of, imported, name_of, rooms_of_package, seen
from mlxrun.ops.native import native
from mlxrun.weights import open_checkpoint
from tests.golden.checkpoint import reference, write

HERE = imported(rooms_of_package())
DATA = sorted({file for folder in {Path(f).parent for f, _ in HERE.values()} for file in provenance.data_of(folder)})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(reference("llama").checkpoint(), tmp_path / "model")


def name(folder: Path, dialect: str = "hf", *waived: str) -> str:
    return name_of(source_of(open_model(folder, dialect=dialect, waive=frozenset(waived))), ".x")  # type: ignore[arg-type]  # one of two words


# ---- by what ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("package")
    for file in (*(Path(f) for f, _ in HERE.values()), *DATA):
        target = home / path_in_package(file)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    return home


def path_in_package(file: Path) -> Path:
    rooms = {Path(f).parent: module for module, (f, _) in HERE.items() if f.endswith("__init__.py")}
    package = rooms.get(file.parent, "")
    return Path(*package.split(".")) / file.name


def test_every_module_and_all_data_that_loading_imports_change_it(copied: Path) -> None:
    before = code_of(Rooms(copied, {}), None)
    assert before == code_of(Rooms(copied, {}), None)
    files = sorted(file for file in copied.rglob("*") if file.is_file())
    assert len(files) == len(HERE) + len(DATA) > 150
    assert copied / "families" / "gguf" / "gemma4.py" in files
    assert copied / "weights" / "codebooks.bin" in files
    for file in files:
        raw = file.read_bytes()
        file.write_bytes(raw + b"#\n")
        assert code_of(Rooms(copied, {}), None) != before, file
        file.write_bytes(raw)
    assert code_of(Rooms(copied, {}), None) == before


def test_a_new_module_counts_once_it_is_imported(copied: Path) -> None:
    before = code_of(Rooms(copied, {}), None)
    new, old = copied / "ops" / "new.py", copied / "ops" / "quantized.py"
    raw = old.read_bytes()
    try:
        new.write_text("VALUE = 1\n")
        assert code_of(Rooms(copied, {}), None) == before
        old.write_bytes(raw + b"def late():\n    from . import (\n        new,\n    )\n")
        first = code_of(Rooms(copied, {}), None)
        new.write_text("VALUE = 2\n")
        assert code_of(Rooms(copied, {}), None) != first
    finally:
        old.write_bytes(raw)
        new.unlink()


def test_library_and_versions_change_it(copied: Path, tmp_path: Path) -> None:
    (tmp_path / "library").write_bytes(b"1")
    rooms = Rooms(copied, {})
    found = [code_of(rooms, None), code_of(rooms, tmp_path / "library"), code_of(rooms, None, "mlx 2")]
    (tmp_path / "library").write_bytes(b"2")
    assert len({*found, code_of(rooms, tmp_path / "library")}) == 4
    assert code() == code()
    if native is not None:
        assert code() != code_of(rooms_of_package(), None)


def parsed(module: str, raw: bytes, package: str) -> Iterator[str]:
    """What Python's own parser finds of ours, modules and names in them alike."""
    for node in ast.walk(ast.parse(raw)):
        if isinstance(node, ast.ImportFrom) and node.level:
            above = package.split(".") if package else []
            base = ".".join([*above[: len(above) + 1 - node.level], *filter(None, [node.module])])
            yield base
            yield from (f"{base}.{alias.name}".lstrip(".") for alias in node.names)
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from (each.removeprefix("mlxrun.") for each in names if each.startswith("mlxrun."))


def test_no_import_is_overlooked() -> None:
    rooms = rooms_of_package()
    for module, (file, raw) in HERE.items():
        package = module if file.endswith("__init__.py") else module.rpartition(".")[0]
        for wanted in parsed(module, raw, package):
            assert rooms.file_of(wanted) is None or wanted in HERE, f"{module} imports {wanted}"


def test_what_a_process_has_after_loading_is_among_them(folder: Path) -> None:
    told = "import sys; from mlxrun.loading import load_model; load_model(sys.argv[1]); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", told, str(folder)], capture_output=True, text=True, check=True)
    ours = {module.removeprefix("mlxrun.") for module in done.stdout.split() if module.startswith("mlxrun.")}
    assert len(ours) > 60
    # hashed as the library; imported by the package itself, and changes no byte of a weight
    assert ours - set(HERE) <= {"cpu_kernels._native", "command_buffers"}


# ---- from what ----------------------------------------------------------------------------------


def test_every_flag_changes_it(folder: Path) -> None:
    assert len({name(folder), name(folder, "mlx"), name(folder, "hf", "a"), name(folder, "hf", "a", "b")}) == 4
    assert name(folder, "hf", "a", "b") == name(folder, "hf", "b", "a")


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "hf_quant_config.json"])
def test_a_file_of_equal_size_and_time_is_another_one(file: str, folder: Path) -> None:
    (folder / "hf_quant_config.json").write_text('{"producer": {"name": "modelopt"}, "quantization": {}}')
    before, stat = name(folder), (folder / file).stat()
    raw, other = (folder / file).read_bytes(), folder / "other"
    other.write_bytes(raw.replace(b": ", b" :", 1) if file.endswith("json") else raw[:-1] + b"\7")
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    os.replace(other, folder / file)
    now = (folder / file).stat()
    assert (now.st_size, now.st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    assert name(folder) != before


def test_ends_are_read_where_no_time_tells(tmp_path: Path) -> None:
    file = tmp_path / "large"
    found = set()
    for at in (0, 300_000 - 1):
        raw = bytearray(300_000)
        raw[at] = 1
        file.write_bytes(raw)
        found.add(seen(file).rsplit(" ", 1)[1])
    assert len(found) == 2


def test_an_index_counts(folder: Path) -> None:
    before = name(folder)
    names = ", ".join(f'"{each}": "model.safetensors"' for each in open_checkpoint(folder).shapes)
    (folder / "model.safetensors.index.json").write_text(f'{{"weight_map": {{{names}}}}}')
    assert name(folder) != before


def test_whatever_loading_opens_in_the_folder_is_counted(folder: Path) -> None:
    told = (
        "import sys; from pathlib import Path; from mlxrun.loading import load_model\n"
        "sys.addaudithook(lambda event, args: print(args[0]) if event == 'open' else None); load_model(sys.argv[1])"
    )
    (folder / "tokenizer.json").write_text("{}")
    done = subprocess.run([sys.executable, "-c", told, str(folder)], capture_output=True, text=True, check=True)
    read = {line for line in done.stdout.splitlines() if Path(line).parent == folder}
    source = source_of(open_model(folder))
    assert read
    assert read <= {str(file) for file in source.files}
