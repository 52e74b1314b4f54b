"""Metal text as CUDA, compiled by NVRTC. Needs no GPU: `pip install nvidia-cuda-nvrtc`, and CUDA's headers.

What NVRTC accepts need not be Metal, but it is a second compiler's opinion of the same text, one that knows of
threads. Nothing is run.
"""

from __future__ import annotations

import ctypes
import importlib.util
import re
from functools import cache
from pathlib import Path

from ..mslsim.build import DECLARED, INSTANTIATION
from ..mslsim.wrapper import Generated

PRELUDE = Path(__file__).parent / "prelude.h"
ARCHITECTURE = "compute_80"
ATTRIBUTE = re.compile(r",?\n  uint3? \w+ \[\[\w+\]\]")


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
def headers() -> Path | None:
    places = [p.parent for folder in folders() for p in folder.rglob("cuda_fp16.h")]
    places += [p.parent for p in Path("/usr/local").glob("cuda*/include/cuda_fp16.h")]
    return places[0] if places else None


def why_not() -> str:
    """Why nothing can be compiled here; nothing where it can."""
    if library() is None:
        return "Metal text is not compiled as CUDA: the package nvidia-cuda-nvrtc is not there."
    return "" if headers() else "Metal text is not compiled as CUDA: CUDA's headers (cuda_fp16.h) are not there."


def translate(made: Generated) -> str:
    text = INSTANTIATION.sub("\n", made.text)
    text = re.sub(r"\[\[kernel\]\] void", "__global__ void", text)
    text = ATTRIBUTE.sub("", text)
    text = re.sub(r" \[\[buffer\(\d+\)\]\]", "", text)
    text = DECLARED.sub(r"__shared__ \1 \2\3;", text)
    return f'#include "{PRELUDE.name}"\n{text}'


def compiled(made: Generated) -> bytes:
    """PTX of one kernel as it would be launched."""
    nvrtc, program = ctypes.CDLL(str(library())), ctypes.c_void_p()
    name = (ctypes.c_char_p * 1)(PRELUDE.name.encode())
    content = (ctypes.c_char_p * 1)(PRELUDE.read_bytes())
    _well(nvrtc.nvrtcCreateProgram(ctypes.byref(program), translate(made).encode(), b"kernel.cu", 1, content, name))
    try:
        _well(nvrtc.nvrtcAddNameExpression(program, f"{made.name}{made.template}".encode()))
        flags = [f"--gpu-architecture={ARCHITECTURE}", "-default-device", "--std=c++17", f"-I{headers()}"]
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
