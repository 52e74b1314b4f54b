"""The bytes of a sound file -> its samples, one channel at the rate a model listens at. In bounded memory and time.

WAV is read here, and what its header says is checked against the bytes that are there before a sample is read.
FLAC, MP3 and Ogg Vorbis need the package miniaudio, which `pip install 'mlxrun[audio]'` brings.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core import RequestError
from .resample import resampled

MOST_BYTES = 25 << 20  # of a file, as OpenAI's endpoint takes them
MOST_MINUTES = 120
RATES = (1_000, 384_000)  # samples a second, the least and the most
MOST_CHANNELS = 32
PCM, FLOATS, EXTENSIBLE = 1, 3, 0xFFFE  # format tags of WAV
UNKNOWN = 0xFFFFFFFF  # bytes of a chunk that was written without knowing its end: up to the end of the file
WIDTHS = {(PCM, 8), (PCM, 16), (PCM, 24), (PCM, 32), (FLOATS, 32), (FLOATS, 64)}
BLOCK = 1 << 20  # frames that are mixed at once
# what files begin with that other programs decode
Begins = tuple[tuple[bytes, str], ...]
MP3: Begins = tuple((begin, "MP3") for begin in (b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2", b"\xff\xfa"))
OTHERS: Begins = ((b"fLaC", "FLAC"), (b"OggS", "Ogg"), *MP3)
UNREAD: Begins = ((b"\x1aE\xdf\xa3", "WebM"), (b"RF64", "RF64"), (b"FORM", "AIFF"), (b"#!AMR", "AMR"))
INSTALL = "pip install 'mlxrun[audio]'"
Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Wave:
    """What a WAV header says, once it is known to be so."""

    tag: int
    bits: int
    channels: int
    rate: int
    first: int  # byte of the samples
    frames: int  # samples of one channel


def open_sound(data: bytes, rate: int, name: str = "The audio") -> Samples:
    """(n,) from -1 to 1, at that rate. A RequestError says in one sentence why it cannot be read; `name` stands at its
    beginning."""
    if not data:
        raise RequestError(f"{name} is an empty file.")
    if len(data) > MOST_BYTES:
        raise RequestError(f"{name} has {len(data)} bytes; at most {MOST_BYTES} are read.")
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        wave = header_of(data, name)
        found, own = mono(data, wave), wave.rate
    elif (kind := kind_of(data, OTHERS)) is not None:
        found, own = decoded(data, kind, name)
    else:
        told = kind_of(data, UNREAD) or ("MP4" if data[4:8] == b"ftyp" else None)
        what = "none that can be read" if told is None else f"{told}, which is not read"
        raise RequestError(f"{name} is {what}: WAV is, and FLAC, MP3 and Ogg Vorbis with {INSTALL}.")
    return checked(resampled(found, own, rate), name)


def checked(samples: Samples, name: str = "The audio") -> Samples:
    """Samples that a program hands in, or a file held."""
    if samples.ndim != 1 or not len(samples):
        raise RequestError(f"{name} holds no samples.")
    if not np.isfinite(samples).all():
        raise RequestError(f"{name} holds samples that are no numbers.")
    return samples


def kind_of(data: bytes, known: Begins) -> str | None:
    return next((kind for begin, kind in known if data.startswith(begin)), None)


def header_of(data: bytes, name: str) -> Wave:
    """The chunks of a WAV file up to its samples."""
    at, found = 12, None
    while at + 8 <= len(data):
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8
        if kind == b"fmt ":
            found = format_of(data[at : at + min(size, 40)], name)
        elif kind == b"data":
            if found is None:
                raise RequestError(f"{name} is a broken WAV file: its samples come before their format.")
            return within(found, at, size, len(data), name)
        at += size + size % 2
    raise RequestError(f"{name} is a broken WAV file: it ends before its samples.")


def format_of(chunk: bytes, name: str) -> tuple[int, int, int, int]:
    """(tag, bits, channels, rate)."""
    if len(chunk) < 16:
        raise RequestError(f"{name} is a broken WAV file: its format has {len(chunk)} bytes.")
    tag, channels, rate, _, block, bits = struct.unpack_from("<HHIIHH", chunk)
    if tag == EXTENSIBLE and len(chunk) >= 26:
        (tag,) = struct.unpack_from("<H", chunk, 24)
    if (tag, bits) not in WIDTHS:
        raise RequestError(f"{name} is WAV of format {tag} with {bits} bits; PCM of 8 to 32 bits and float are read.")
    check_rate(rate, name)
    if not 1 <= channels <= MOST_CHANNELS:
        raise RequestError(f"{name} has {channels} channels; 1 to {MOST_CHANNELS} are read.")
    if block != channels * bits // 8:
        raise RequestError(f"{name} is a broken WAV file: {channels} x {bits} bits are not {block} bytes.")
    return tag, bits, channels, rate


def within(form: tuple[int, int, int, int], first: int, size: int, there: int, name: str) -> Wave:
    """The samples that a header promises are all there."""
    tag, bits, channels, rate = form
    size = there - first if size == UNKNOWN else size
    if size > there - first:
        raise RequestError(f"{name} says that it has {size} bytes of samples; {there - first} are there.")
    frames = size // (channels * bits // 8)
    check_length(frames, rate, name)
    return Wave(tag, bits, channels, rate, first, frames)


def check_rate(rate: int, name: str) -> None:
    if not RATES[0] <= rate <= RATES[1]:
        raise RequestError(f"{name} has {rate} samples a second; {RATES[0]} to {RATES[1]} are read.")


def check_length(frames: int, rate: int, name: str) -> None:
    if not frames:
        raise RequestError(f"{name} holds no samples.")
    if frames > 60 * MOST_MINUTES * rate:
        raise RequestError(f"{name} lasts {frames / rate / 60:.0f} minutes; at most {MOST_MINUTES} are heard at once.")


def mono(data: bytes, wave: Wave) -> Samples:
    """The mean of the channels."""
    out, width = np.empty(wave.frames, np.float32), wave.channels * wave.bits // 8
    for start in range(0, wave.frames, BLOCK):
        count = min(BLOCK, wave.frames - start)
        raw = np.frombuffer(data, np.uint8, count * width, wave.first + start * width)
        out[start : start + count] = numbers(raw, wave).reshape(count, wave.channels).mean(axis=1)
    return out


def numbers(raw: NDArray[np.uint8], wave: Wave) -> NDArray[Any]:
    """From -1 to 1."""
    if wave.tag == FLOATS:
        return raw.view("<f4" if wave.bits == 32 else "<f8")
    if wave.bits == 8:
        return (raw.astype(np.float32) - 128) / 128
    if wave.bits == 24:
        whole = np.zeros((len(raw) // 3, 4), np.uint8)
        whole[:, 1:] = raw.reshape(-1, 3)  # in the upper bytes, so that the sign is where it belongs
        return whole.reshape(-1).view("<i4") / np.float32(1 << 31)
    return raw.view("<i2" if wave.bits == 16 else "<i4") / np.float32(1 << (wave.bits - 1))


def decoded(data: bytes, kind: str, name: str) -> tuple[Samples, int]:
    """By miniaudio, and at what rate."""
    try:
        import miniaudio  # an extra: decoders of other formats
    except ImportError:
        raise RequestError(f"{name} is {kind}, which needs a package: {INSTALL}; WAV is read without.") from None
    try:
        told = {"FLAC": miniaudio.flac_get_info, "MP3": miniaudio.mp3_get_info, "Ogg": miniaudio.vorbis_get_info}
        about = told[kind](data)
        check_rate(about.sample_rate, name)
        check_length(about.num_frames, about.sample_rate, name)
        float32 = miniaudio.SampleFormat.FLOAT32
        found = miniaudio.decode(data, float32, 1, about.sample_rate)
    except miniaudio.MiniaudioError as error:
        raise RequestError(f"{name} is a broken {kind} file, or no sound in it can be read.") from error
    return np.frombuffer(found.samples, np.float32).copy(), about.sample_rate
