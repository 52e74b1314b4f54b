"""CUDA text compiled by NVRTC, which needs no GPU: three packages of NVIDIA's, named below. `make cuda` fetches them.

What NVRTC accepts need not be right, but it is a second compiler's opinion of our texts, one that knows of threads,
and what it would be asked where there is a card. Nothing is run.
"""

from __future__ import annotations

import ctypes
import importlib.util
from functools import cache
from pathlib import Path

PACKAGE = "nvidia-cuda-nvrtc-cu12"
HEADERS = {"nvidia-cuda-runtime-cu12": "cuda_fp16.h", "nvidia-cuda-cccl-cu12": "nv/target"}
ARCHITECTURE = "compute_80"
# of what MLX puts before a kernel, as much as ours use; the real file is in MLX's library
UTILS = """
#include <cuda_bf16.h>
#include <cuda_fp16.h>
namespace mlx::core::cu {
struct Shape { int v[10]; __device__ const int& operator[](int i) const { return v[i]; } };
struct Strides { long long v[10]; __device__ const long long& operator[](int i) const { return v[i]; } };
}
"""


class Refused(Exception):
    """The text does not compile; the message is NVRTC's."""


def folders() -> list[Path]:
    spec = importlib.util.find_spec("nvidia")
    return [Path(place) for place in spec.submodule_search_locations or ()] if spec else []


@cache
def library() -> Path | None:
    found = [p for folder in folders() for p in folder.rglob("libnvrtc.so.*")]
    return min(found, key=lambda p: len(p.name), default=None)


@cache
def headers() -> dict[str, Path]:
    """The folders of what is included, by package."""
    return {package: place for package, file in HEADERS.items() if (place := folder_of(file)) is not None}


def folder_of(file: str) -> Path | None:
    places = [p.parents[file.count("/")] for folder in folders() for p in folder.rglob(file)]
    places += [p.parents[file.count("/")] for p in Path("/usr/local").glob(f"cuda*/include/{file}")]
    return places[0] if places else None


def why_not() -> str:
    """Why nothing can be compiled here; nothing where it can."""
    missing = [PACKAGE] if library() is None else []
    missing += [package for package in HEADERS if package not in headers()]
    return f"Metal text is not compiled as CUDA: without {' and '.join(missing)}." if missing else ""


def compiled(text: str, kernel: str, utils: str = UTILS, flags: tuple[str, ...] = ()) -> bytes:
    """PTX of one kernel, with the options that MLX gives."""
    nvrtc, program = ctypes.CDLL(str(library())), ctypes.c_void_p()
    name = (ctypes.c_char_p * 1)(b"mlx/backend/cuda/device/utils.cuh")
    content = (ctypes.c_char_p * 1)(utils.encode())
    _well(nvrtc.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernel.cu", 1, content, name))
    try:
        _well(nvrtc.nvrtcAddNameExpression(program, kernel.encode()))
        flags = (f"--gpu-architecture={ARCHITECTURE}", "--device-as-default-execution-space", *flags)
        flags += tuple(f"-I{place}" for place in headers().values())
        given = (ctypes.c_char_p * len(flags))(*(flag.encode() for flag in flags))
        if nvrtc.nvrtcCompileProgram(program, len(flags), given):
            raise Refused(_text(nvrtc, program, "ProgramLog"))
        return _text(nvrtc, program, "PTX").encode()
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _text(nvrtc: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> str:
    size = ctypes.c_size_t()
    _well(getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    held = ctypes.create_string_buffer(size.value)
    _well(getattr(nvrtc, f"nvrtcGet{what}")(program, held))
    return held.value.decode()


def _well(code: int) -> None:
    if code:
        raise Refused(f"NVRTC answers {code}")
