"""Tensors out of whole pages that MLX adopts, as on a Mac: page size, limits and descriptors of one, on any machine."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from mlxrun.spec import ModelError
from mlxrun.weights.adopted import Adoption, Lying, NotAdopted, adopt, cut
from mlxrun.weights.headers import read_header
from mlxrun.weights.mapped import Mapped, map_tensors
from mlxrun.weights.pages import MOST_WORDS, WORD, FilePages, windows
from tests.adopting import PAGE, FakeMetal

KINDS = ("float32", "float16", "uint32", "int8", "uint8", "uint64", "bool")


def arrays() -> dict[str, np.ndarray]:
    """Most are no multiple of a word, so those behind them begin anywhere that their type allows."""
    rng = np.random.default_rng(0)
    found = {kind: rng.integers(0, 2, (3, 22223 + 2 * i)).astype(kind) for i, kind in enumerate(KINDS)}
    return found | {"small": np.arange(5, dtype=np.float32), "empty": np.zeros((0, 4), np.float32)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_file(arrays(), tmp_path / "some.safetensors")
    return tmp_path / "some.safetensors"


def mapped(file: Path, metal: FakeMetal) -> Mapped:
    return map_tensors(file, read_header(file).tensors, file.stat().st_size, metal.adoption)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def stretches(file: Path) -> int:
    gc.collect()
    return sum(str(file) in line for line in Path("/proc/self/maps").read_text().splitlines())


@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 10**5)), max_size=30),
    st.sampled_from([4096, PAGE]),
    st.integers(0, 300_000),
)
def test_windows_are_whole_pages_and_none_is_too_long(places: list[tuple[int, int]], page: int, longest: int) -> None:
    spans = [(start, start + size) for start, size in places]
    found = windows(spans, page, longest)
    for window in found:
        assert window.start % page == window.end % page == 0
        assert 0 < window.end - window.start <= longest
    for start, end in spans:
        fits = -(-end // page) * page - start // page * page <= longest // page * page
        assert any(window.start <= start and end <= window.end for window in found) == fits


def test_no_axis_of_words_is_longer_than_mlx_counts() -> None:
    (window, *more) = windows([(i << 30, (i + 1) << 30) for i in range(40)], PAGE, 1 << 50)
    assert (window.end - window.start) // WORD <= MOST_WORDS
    assert more


def test_views_are_what_is_read(file: Path) -> None:
    metal = FakeMetal()
    found, read = mapped(file, metal), mx.load(str(file))
    assert isinstance(read, dict)
    assert set(found.views) == set(KINDS)  # the small are not worth it
    for name, view in found.views.items():
        assert (view.dtype, view.shape) == (read[name].dtype, read[name].shape)
        assert np.array_equal(np.array(view), arrays()[name])
    assert (found.adopted, found.reason, len(metal.taken)) == (True, None, 1)


def test_bfloat16_and_rows_beyond_the_longest_axis() -> None:
    words = mx.array(np.arange(4096, dtype=np.uint64))
    view = cut(words, 10, Lying(0, 4000, (2, 1000), mx.bfloat16))
    assert view is not None
    raw = np.arange(4096, dtype=np.uint64).tobytes()[10:4010]
    assert np.array_equal(np.array(view.view(mx.uint16)).reshape(-1), np.frombuffer(raw, np.uint16))
    assert cut(words, 3, Lying(0, 4, (2,), mx.bfloat16)) is None


def test_rows_are_cut_where_one_axis_is_too_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlxrun.weights.adopted.MOST_WORDS", 1000)
    words = mx.array(np.arange(4096, dtype=np.uint64))
    view = cut(words, 16, Lying(0, 4096, (2, 2048), mx.uint8))
    assert view is not None
    assert np.array(view).tobytes() == np.arange(4096, dtype=np.uint64).tobytes()[16 : 16 + 4096]
    assert cut(words, 17, Lying(0, 4096, (2, 2048), mx.uint8)) is None
    assert cut(words, 16, Lying(0, 4095, (3, 1365), mx.uint8)) is None


def test_what_no_window_can_hold_is_counted(file: Path) -> None:
    sizes = {name: array.nbytes for name, array in arrays().items()}
    metal = FakeMetal(longest=300_000)
    found = mapped(file, metal)
    assert sizes["uint64"] > 300_000
    assert set(found.views) == {name for name in KINDS if sizes[name] < 300_000 - 2 * PAGE}
    assert found.reason is not None
    assert found.reason.startswith("1 tensor lies across")
    assert len(metal.taken) > 1


def test_one_mapping_no_descriptor_and_all_is_released(file: Path) -> None:
    before, metal = descriptors(), FakeMetal(longest=300_000)
    found = mapped(file, metal)
    assert descriptors() == before
    assert stretches(file) == 1  # however many windows
    last = metal.taken[0]
    del found
    metal.forget()
    assert stretches(file) == 1
    assert last[0] >= 0  # still there to be read
    del last
    assert stretches(file) == 0


def test_whole_pages_reach_past_the_files_end(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"\1" * 100)
    pages = FilePages(tmp_path / "short", 100, PAGE)
    (window,) = windows([(0, 100)], PAGE, PAGE)
    words = pages.words(window)
    assert (pages.address % PAGE, words.nbytes) == (0, PAGE)
    assert bytes(words.view(np.uint8)) == b"\1" * 100 + bytes(PAGE - 100)


def test_a_refusal_is_told_in_its_words(file: Path) -> None:
    def refuse(words: np.ndarray) -> mx.array:
        raise RuntimeError("[metal] no device\nand more")

    found = map_tensors(file, read_header(file).tensors, file.stat().st_size, Adoption(refuse))
    assert (found.views, found.pages) == ({}, None)
    assert found.reason == "MLX takes no mapped memory here: [metal] no device"
    pages = FilePages(file, file.stat().st_size)
    with pytest.raises(NotAdopted):
        adopt(pages, {"a": Lying(0, 8, (8,), mx.uint8)}, Adoption(refuse))


def test_a_file_of_another_size_by_now_is_an_error(file: Path) -> None:
    tensors, size = read_header(file).tensors, file.stat().st_size
    with file.open("ab") as more:
        more.write(b"x")
    with pytest.raises(ModelError, match=r"some\.safetensors has changed"):
        map_tensors(file, tensors, size, FakeMetal().adoption)
    file.unlink()
    found = map_tensors(file, tensors, size, FakeMetal().adoption)
    assert found.reason == "the file cannot be mapped: No such file or directory"


def test_a_change_is_noticed_and_a_replacement_is_harmless(file: Path) -> None:
    pages = FilePages(file, file.stat().st_size)
    assert pages.unchanged
    os.utime(file, (2, 2))
    assert not pages.unchanged
    pages = FilePages(file, file.stat().st_size)
    other = file.with_name("other")
    other.write_bytes(b"other")
    os.replace(other, file)
    assert pages.unchanged
    file.unlink()
    assert pages.unchanged
