"""What `make mac-wheels` would notice, on wheels that are made up: the true ones are not downloaded in tests."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tests import mac_wheels
from tests.mac_wheels import Wheel
from tests.macs import NO_DEVICE
from tests.metal_names import declared, macros

STUB = "def sin(a: array) -> array:\n    ...\n\nclass array:\n    x: int\n\nfloat32: Dtype = ...\n"
PREAMBLE = """
// Auto generated source for mlx/backend/metal/kernels/utils.h
#define UNROLL _Pragma("unroll")
#define wrapped(a) \\
  a##b
using namespace metal;
typedef half float16_t;
template <typename T> struct Limits { static const constant T max; };
enum Mode : int { FIRST, SECOND = 3 };
enum class Kept { third };
namespace metal {
inline float hypot(float a, float b) { float inside = a; return inside; }
}
namespace theirs {
inline float unseen(float x) { return x; }
}
template <typename IdxT = long> inline IdxT elem_to_loc(uint2 elem, constant const int* shape);
constant constexpr int READS = 4;
"""


def wheel(folder: Path, files: dict[str, str | bytes], name: str = "mlx-1-cp311-cp311-macosx_14_0_arm64.whl") -> Wheel:
    with zipfile.ZipFile(folder / name, "w") as made:
        for file, text in files.items():
            made.writestr(file, text)
    return Wheel(folder / name)


def library(*texts: str) -> bytes:
    return b"\0".join([b"", *(text.encode() for text in texts), b""])


def test_names_that_another_text_would_see() -> None:
    seen = {"float16_t", "Limits", "Mode", "FIRST", "SECOND", "Kept", "hypot", "elem_to_loc", "READS"}
    assert declared(PREAMBLE) == seen
    assert macros(PREAMBLE) == {"UNROLL", "wrapped"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("struct Limits { int a; };", "k.h: Limits is also MLX's"),
        ("inline float hypot(float x) { return x; }", "k.h: hypot is also MLX's"),
        ("enum Other { SECOND };", "k.h: SECOND is also MLX's"),
        ("inline int free_one() { const int wrapped = 1; return wrapped; }", "k.h: wrapped is a macro of MLX"),
        ("// \u00e9\ninline int free_one();", "k.h is not ASCII, which MLX demands"),
        ("inline int free_one() { int hypot = 1; return hypot; }  // Limits, READS, UNROLL", ""),
        ("namespace ours { struct Limits {}; }", ""),
    ],
)
def test_a_name_that_is_taken(text: str, told: str) -> None:
    assert mac_wheels.check_names(PREAMBLE, {"k.h": text}).wrong == ((told,) if told else ())


def test_the_preamble_is_found_in_the_library() -> None:
    found = mac_wheels.preamble_of(library("before", PREAMBLE, "after"))
    assert found == PREAMBLE
    assert mac_wheels.check_names(mac_wheels.preamble_of(b"nothing"), {}).wrong == ("MLX's own text was not found",)


def test_a_key_that_the_library_lacks() -> None:
    whole = library("device_name", NO_DEVICE, *mac_wheels.ENVIRONMENT)
    assert mac_wheels.check_library(whole, ["device_name"]).wrong == ()
    assert mac_wheels.check_library(whole, ["device_nam"]).wrong == ("'device_nam' is not in libmlx.dylib",)


def test_the_keys_that_are_read_are_known() -> None:
    assert {"device_name", "max_buffer_length", "max_recommended_working_set_size"} <= mac_wheels.keys()
    assert mac_wheels.keys() <= {
        *("architecture", "device_name", "max_buffer_length", "max_recommended_working_set_size", "memory_size"),
        "resource_limit",
    }


def test_a_declaration_that_differs(tmp_path: Path) -> None:
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "__init__.pyi").write_text(STUB)
    same = wheel(tmp_path, {"mlx/core/__init__.pyi": STUB + "def new(): ...\n"})
    assert mac_wheels.check_stubs(same, {"sin", "array", "float32"}, tmp_path).wrong == ()
    other = wheel(tmp_path, {"mlx/core/__init__.pyi": STUB.replace("a: array", "b: array")})
    assert mac_wheels.check_stubs(other, {"sin", "array"}, tmp_path).wrong == ("mx.sin is declared otherwise on a Mac",)


def test_names_of_mlx_that_are_used_are_declared() -> None:
    text = (mac_wheels.INSTALLED / "core" / "__init__.pyi").read_text()
    used = mac_wheels.names_used(mac_wheels.sources())
    assert {"fast.metal_kernel", "gather_qmm", "device_info", "array"} <= used
    undeclared = [name for name in used if "." not in name and not mac_wheels.declarations(text, name)]
    assert undeclared == ["__version__"]  # its stub forgets it


def test_a_header_that_is_missing_or_differs(tmp_path: Path) -> None:
    (tmp_path / "include" / "mlx").mkdir(parents=True)
    for name in ("a.h", "b.h", "c.h"):
        (tmp_path / "include" / "mlx" / name).write_text("one")
    made = wheel(tmp_path, {"mlx/include/mlx/a.h": "one", "mlx/include/mlx/b.h": "two"})
    assert mac_wheels.check_headers(made, {"mlx/a.h", "mlx/b.h", "mlx/c.h"}, tmp_path).wrong == (
        "mlx/b.h differs from the one here",
        "mlx/c.h is not there",
    )


def test_a_wheel_that_is_missing_or_of_another_kind(tmp_path: Path) -> None:
    good = wheel(tmp_path, {"mlx/core.cpython-311-darwin.so": b""})
    empty = wheel(tmp_path, {}, "mlx-1-cp312-cp312-macosx_14_0_arm64.whl")
    found = mac_wheels.check_tags(
        {("3.11", "14"): good, ("3.12", "14"): empty, ("3.13", "14"): None, ("3.11", "15"): good}
    )
    assert found.wrong == (
        "mlx-1-cp312-cp312-macosx_14_0_arm64.whl has no library for Python 3.12",
        "no wheel for Python 3.13 on macOS 14",
        "Python 3.11 on macOS 15 gets mlx-1-cp311-cp311-macosx_14_0_arm64.whl",
    )
