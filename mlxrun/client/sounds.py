"""A sound on its way to a server: samples as a file, a form with it, and what comes back."""

from __future__ import annotations

import secrets
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..speech import Transcript, TranscriptSegment

if TYPE_CHECKING:
    from .readings import Array

RATE = 16_000  # samples a second that a client hands in


def wav_of(samples: Array) -> bytes:
    """float32, one channel."""
    import numpy as np

    data = np.asarray(samples, "<f4").tobytes()
    form = struct.pack("<HHIIHH", 3, 1, RATE, 4 * RATE, 4, 32)
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def form_of(fields: Mapping[str, Any], sound: bytes) -> tuple[bytes, str]:
    """A body, and its Content-Type."""
    mark = secrets.token_hex(16)
    parts = [
        f'--{mark}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    head = f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="sound"\r\n\r\n'
    return b"".join(
        [*parts, head.encode(), sound, f"\r\n--{mark}--\r\n".encode()]
    ), f"multipart/form-data; boundary={mark}"


def transcript_of(found: Mapping[str, Any]) -> Transcript:
    """Of an answer in full."""
    told = ({name: one[name] for name in TranscriptSegment.__slots__} for one in found.get("segments", ()))
    segments = tuple(TranscriptSegment(**{**one, "tokens": tuple(one["tokens"])}) for one in told)
    return Transcript(str(found["text"]), found.get("language"), float(found.get("duration", 0.0)), segments)
