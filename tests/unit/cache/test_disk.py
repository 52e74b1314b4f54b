"""The second tier: what is written is found again, after a restart too; what is broken is dropped and told."""

from __future__ import annotations

import json
import os
import stat
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from zlib import crc32

import pytest

from mlxrun.cache import disk
from mlxrun.cache.disk import DiskRefused, DiskTier, Lost
from mlxrun.cache.files import START, BadSegment, DiskSegment, PageLayout, read_header, whole, write_file
from mlxrun.cache.table import Group

FULL, WINDOW = Group("full"), Group("window", reach=8)
LAYOUT = PageLayout("ab" * 16, 4, 3, (("full", 10),))
Change = Callable[[Path], None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "prefixes"


@pytest.fixture
def opened(folder: Path) -> Iterator[Callable[..., DiskTier]]:
    tiers: list[DiskTier] = []

    def open_tier(most: int = 1 << 20, spare: int = 0, layout: PageLayout = LAYOUT, **how) -> DiskTier:
        for tier in tiers:
            tier.close()
        groups = how.get("groups", [FULL])
        tiers[:] = [DiskTier(folder, layout, groups, how.get("states", False), most, spare)]
        tiers[0].settle()
        return tiers[0]

    yield open_tier
    for tier in tiers:
        tier.close()


def ids(*tokens: int) -> bytes:
    return array("i", tokens).tobytes()


def segment(tier: DiskTier, tokens: range, after: DiskSegment | None = None, **how) -> DiskSegment:
    count = -(-len(tokens) // 4)
    pages = how.pop("pages", ((True,) * len(tier.layout.groups),) * count)
    parent, begun = ("", 0) if after is None else (after.name, after.end)
    return DiskSegment(tier.layout, tier.root(how.pop("scope", None)), parent, begun, ids(*tokens), pages, **how)


def parts(segment: DiskSegment) -> list[bytes]:
    return [bytes([index + 1]) * size for index, size in enumerate(segment.sizes)]


def written(tier: DiskTier, *segments: DiskSegment) -> None:
    for one in segments:
        tier.write(one, parts(one))
    tier.settle()


def length(tier: DiskTier, *tokens: int, scope: object = None) -> int:
    found = tier.find(ids(*tokens), scope)
    return 0 if found is None else found.length


def test_what_was_written_is_found_and_read(opened):
    tier = opened()
    first = segment(tier, range(12))
    second = segment(tier, range(12, 17), first)
    written(tier, first, second)
    found = tier.find(ids(*range(30)))
    assert (found.length, found.segments) == (17, (first, second))
    assert tier.read(first, [(0, 0), (2, 0)]).result() == [b"\1" * 10, b"\3" * 10]
    assert tier.read(second, [(1, 0)]).result() == [b"\2" * 10]
    told = tier.statistics
    assert (told.segments, told.written, told.read, told.bytes_read) == (2, 2, 2, 30)
    assert told.dropped == {}


def test_it_is_found_after_a_restart(opened):
    tier = opened()
    first = segment(tier, range(12))
    written(tier, first, segment(tier, range(12, 17), first))
    before = tier.statistics
    tier = opened()
    assert length(tier, *range(30)) == 17
    assert (tier.statistics.segments, tier.statistics.bytes) == (2, before.bytes)


def test_it_is_found_to_the_token(opened):
    tier = opened()
    first = segment(tier, range(12))
    written(tier, first, segment(tier, range(12, 22), first), segment(tier, range(50, 55)))
    assert length(tier, *range(19), 99, 98) == 19
    assert length(tier, *range(7), 99, 98) == 7
    assert length(tier, *range(15)) == 15
    assert length(tier, 50, 51, 99) == 2
    assert length(tier, 99) == 0
    assert length(tier) == 0


def test_another_scope_finds_nothing_and_is_not_named(opened, folder):
    tier = opened()
    written(tier, segment(tier, range(12), scope=("adapter", "secret")))
    assert length(tier, *range(12), scope=("adapter", "secret")) == 12
    assert length(tier, *range(12)) == length(tier, *range(12), scope=("adapter", "other")) == 0
    assert all(b"secret" not in file.read_bytes() for file in folder.iterdir())


def test_windows_are_found_where_their_pages_are(opened):
    layout = PageLayout("ab" * 16, 4, 8, (("full", 10), ("window", 5)))
    tier = opened(layout=layout, groups=[FULL, WINDOW])
    held = tuple((True, number in (1, 2, 5, 6, 7)) for number in range(8))
    written(tier, segment(tier, range(32), pages=held))
    assert [length(tier, *range(n)) for n in (32, 30, 27, 26, 13, 12, 11, 9, 8)] == [32, 30, 27, 12, 12, 12, 11, 0, 0]


def test_states_are_found_at_their_length(opened):
    tier = opened(states=True)
    first = segment(tier, range(12), states=((8, 3), (12, 3)))
    written(tier, first, segment(tier, range(12, 19), first, states=((19, 5),)))
    assert [length(tier, *range(n)) for n in (30, 19, 18, 12, 11, 8, 7)] == [19, 19, 12, 12, 8, 8, 0]
    assert tier.read(first, [(12, None)]).result() == [b"\5" * 3]


def test_a_longer_one_takes_the_place_of_its_part(opened, folder):
    tier = opened(states=True)
    with_state = segment(tier, range(6), states=((6, 3),))
    written(tier, with_state, segment(tier, range(5)), segment(tier, range(8), states=((8, 3),)))
    assert tier.statistics.segments == len(list(folder.glob("*.pages"))) == 2
    again = segment(tier, range(8), states=((6, 3), (8, 3)))
    written(tier, again)
    assert tier.statistics.segments == len(list(folder.glob("*.pages"))) == 1
    assert tier.find(ids(*range(7))).segments == (again,)
    before = tier.statistics.written
    written(tier, again, segment(tier, range(8), states=((8, 3),)))
    assert tier.statistics.written == before, "nothing new is in them"


def test_who_reads_gets_his_part_though_more_was_written_since(opened):
    tier = opened(states=True)
    before = segment(tier, range(8), states=((8, 3),))
    written(tier, before, segment(tier, range(8), states=((5, 2), (8, 3))))
    assert tier.read(before, [(1, 0), (8, None)]).result() == [b"\2" * 10, b"\4" * 3]
    with pytest.raises(Lost, match="lacks something"):
        tier.read(before, [(7, None)]).result()


def test_one_that_lacks_something_takes_nobodys_place(opened):
    layout = PageLayout("ab" * 16, 4, 8, (("full", 10), ("window", 5)))
    tier = opened(layout=layout, groups=[FULL, WINDOW])
    written(tier, segment(tier, range(8)), segment(tier, range(8), pages=((True, False), (True, True))))
    assert tier.statistics.written == 1
    assert length(tier, *range(8)) == 8


def test_only_their_owner_may_read_them(opened, folder):
    tier = opened()
    written(tier, segment(tier, range(12)))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}


def test_no_more_is_kept_than_was_allowed_and_the_longest_unused_goes(opened, folder):
    tier = opened()
    written(tier, segment(tier, range(12)))
    each = tier.statistics.bytes
    tier = opened(most=3 * each + 100)
    for begin in (100, 200):
        written(tier, segment(tier, range(begin, begin + 12)))
    tier.read(tier.find(ids(*range(12))).segments[0], [(0, 0)]).result()
    written(tier, segment(tier, range(300, 312)))
    assert [length(tier, *range(begin, begin + 12)) for begin in (0, 100, 200, 300)] == [12, 0, 12, 12]
    assert tier.statistics.bytes == sum(file.stat().st_size for file in folder.glob("*.pages")) <= 3 * each + 100
    assert tier.statistics.evicted == 1


def test_the_order_of_use_survives_a_restart(opened, folder):
    tier = opened()
    for begin in (0, 100):
        written(tier, segment(tier, range(begin, begin + 12)))
    each = tier.statistics.bytes // 2
    first = tier.find(ids(*range(12))).segments[0]
    os.utime(folder / f"{first.name}.pages", (2e9, 2e9))
    tier = opened(most=2 * each - 10)
    assert [length(tier, *range(begin, begin + 12)) for begin in (0, 100)] == [12, 0]


def test_what_follows_goes_before_what_it_follows(opened):
    tier = opened()
    first = segment(tier, range(12))
    written(tier, first, segment(tier, range(12, 24), first))
    tier = opened(most=tier.statistics.bytes - 10)
    assert length(tier, *range(30)) == 12


def test_one_that_is_larger_than_all_that_is_allowed_is_not_written(opened):
    tier = opened(most=50)
    written(tier, segment(tier, range(12)))
    assert (tier.statistics.segments, tier.statistics.skipped) == (0, 1)


def test_so_much_waits_and_no_more(opened, monkeypatch):
    monkeypatch.setattr(disk, "QUEUED", 50)
    tier = opened()
    assert tier.takes(60), "nothing waits"
    one = segment(tier, range(12))
    waiting = Event()
    tier._thread.submit(waiting.wait)
    tier.write(one, parts(one))
    assert tier.takes(20)
    assert not tier.takes(21)
    waiting.set()
    tier.settle()
    assert tier.takes(60)
    assert tier.statistics.skipped == 1


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 1)


def cut_to_nothing(file: Path) -> None:
    os.truncate(file, 0)


def lengthened(file: Path) -> None:
    with file.open("ab") as sink:
        sink.write(b"\0")


def foreign(file: Path) -> None:
    file.write_bytes(b"PK\3\4" + bytes(200))


def newer(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[8:12] = (7).to_bytes(4, "little")
    file.write_bytes(data)


def header_bit(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[START.size + 40] ^= 1
    file.write_bytes(data)


def endless_header(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[12:20] = (1 << 62).to_bytes(8, "little")
    file.write_bytes(data)


def said(**changes: object) -> Change:
    """A header that says something else, and whose checksum is right."""

    def change(file: Path) -> None:
        data = file.read_bytes()
        magic, version, size, _ = START.unpack(data[: START.size])
        header = json.loads(data[START.size : START.size + size])
        for name, value in changes.items():
            if value is None:
                del header[name]
            else:
                header[name] = value
        made = json.dumps(header).encode()
        file.write_bytes(START.pack(magic, version, len(made), crc32(made)) + made + data[START.size + size :])

    return change


def renamed(file: Path) -> None:
    file.rename(file.with_name(f"{'0' * 32}.pages"))


def linked(file: Path) -> None:
    target = file.with_suffix(".target")
    file.rename(target)
    file.symlink_to(target)


def a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def unreadable(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


BROKEN = {
    "not the length that its header says": (cut, lengthened, said(pages=[[True]] * 2, tokens=list(range(8)))),
    "it was cut off": (cut_to_nothing, unreadable),
    "no segment of ours": (foreign,),
    "of version 7": (newer,),
    "checksum of its header": (header_bit,),
    "absurdly long": (endless_header,),
    "another model": (
        *(said(fingerprint="cd" * 16), said(size=8), said(block=4), said(size="4")),
        *(said(groups=[["full", 11]]), said(groups=[["full", 10], ["window", 5]])),
    ),
    "its name is not": (renamed, said(tokens=[9, *range(1, 12)]), said(root="00" * 16)),
    "contradicts itself": (
        *(said(begun=12), said(begun=-12), said(parent="ab" * 16), said(tokens=[]), said(pages=[])),
        *(said(pages=[[True, True]] * 3), said(states=[[13, 1]]), said(states=[[0, 1]]), said(states=[[3, -1]])),
    ),
    "not understood": (
        *(said(tokens="many"), said(tokens=[1 << 40]), said(tokens=None), said(pages=7), said(states=[[1]])),
        *(said(sums=["x"]), said(begun=[]), said(begun=1e400), said(groups=3)),
    ),
    "Too many levels of symbolic links": (linked,),
    "Is a directory": (a_folder,),
}


@pytest.mark.parametrize(
    ("reason", "change"), [pytest.param(reason, change) for reason, changes in BROKEN.items() for change in changes]
)
def test_a_broken_file_is_dropped_with_its_reason(opened, folder, reason: str, change: Change):
    tier = opened()
    broken, well = segment(tier, range(12)), segment(tier, range(50, 62))
    written(tier, broken, well)
    tier.close()
    change(folder / f"{broken.name}.pages")
    tier = DiskTier(folder, LAYOUT, [FULL], False, 1 << 20, 0)
    tier.settle()
    told = tier.statistics.dropped
    assert sum(told.values()) == 1
    assert reason in next(iter(told))
    assert [length(tier, *range(12)), length(tier, *range(50, 62))] == [0, 12]
    tier.close()


def test_what_is_not_ours_in_the_folder_is_left_alone(opened, folder):
    opened()
    (folder / "letter.pages").write_text("dear")
    (folder / f"{'A' * 32}.pages").write_text("dear")
    (folder / f"{'0' * 32}.half").write_text("half made")
    tier = opened()
    assert sorted(file.name for file in folder.iterdir()) == [".lock", f"{'A' * 32}.pages", "letter.pages"]
    assert tier.statistics.dropped == {}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (cut, "not the length"),
        (header_bit, "checksum of its header"),
        (Path.unlink, "No such file"),
        (said(states=[[4, 0]]), "not the length"),
        (lambda file: os.truncate(file, 30), "cut off"),
    ],
)
def test_what_breaks_while_it_is_in_use_is_lost_with_all_that_follows(opened, folder, change: Change, reason: str):
    tier = opened()
    first = segment(tier, range(12))
    written(tier, first, segment(tier, range(12, 24), first))
    change(folder / f"{first.name}.pages")
    with pytest.raises(Lost, match=reason):
        tier.read(first, [(0, 0)]).result()
    assert length(tier, *range(30)) == 0
    assert sum(tier.statistics.dropped.values()) == 2
    assert list(folder.glob("*.pages")) == []
    assert tier.statistics.bytes == 0


def test_a_wrong_byte_in_a_page_is_found_when_it_is_read(opened, folder):
    tier = opened()
    one = segment(tier, range(12))
    written(tier, one)
    file = folder / f"{one.name}.pages"
    data = bytearray(file.read_bytes())
    data[-15] ^= 4  # in the second of three pages
    file.write_bytes(data)
    assert tier.read(one, [(0, 0), (2, 0)]).result() == [b"\1" * 10, b"\3" * 10]
    with pytest.raises(Lost, match="a checksum is wrong"):
        tier.read(one, [(1, 0)]).result()
    assert tier.statistics.dropped == {"a checksum is wrong": 1}


def test_what_lost_its_beginning_is_dropped(opened, folder):
    tier = opened()
    first = segment(tier, range(12))
    second = segment(tier, range(12, 24), first)
    written(tier, first, second, segment(tier, range(24, 30), second))
    tier.close()
    (folder / f"{first.name}.pages").unlink()
    tier = DiskTier(folder, LAYOUT, [FULL], False, 1 << 20, 0)
    tier.settle()
    assert tier.statistics.dropped == {"what comes before it is gone": 2}
    assert list(folder.glob("*.pages")) == []
    tier.close()


def test_pages_that_everybody_needs_may_not_be_missing(opened, folder):
    tier = opened()
    written(tier, segment(tier, range(12), pages=((True,), (False,), (True,))))
    tier = opened()
    assert tier.statistics.dropped == {"pages are missing in it": 1}


def test_a_full_disk_loses_what_was_to_be_written_and_nothing_else(small_disk):
    tier = DiskTier(small_disk / "prefixes", big(), [FULL], False, 1 << 30, 0)
    kept = segment(tier, range(4))
    written(tier, kept)
    assert length(tier, *range(4)) == 4
    written(tier, segment(tier, range(100, 112)))
    assert length(tier, *range(100, 112)) == 0
    assert tier.statistics.skipped == 1
    assert length(tier, *range(4)) == 4
    assert sorted(file.suffix for file in (small_disk / "prefixes").iterdir()) == ["", ".pages"]
    tier.close()


def big() -> PageLayout:
    return PageLayout("ab" * 16, 4, 3, (("full", 20_000),))


def test_a_disk_that_fills_while_it_is_written(opened, folder, monkeypatch):
    tier = opened()

    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("mlxrun.cache.files.os.fsync", full)
        written(tier, segment(tier, range(12)))
    assert tier.statistics.dropped == {"No space left on device": 1}
    assert [file.name for file in folder.iterdir()] == [".lock"]
    written(tier, segment(tier, range(12)))
    assert length(tier, *range(12)) == 12


def test_so_much_of_the_disk_is_left_free(opened):
    tier = opened(spare=1 << 60)
    written(tier, segment(tier, range(12)))
    assert (tier.statistics.written, tier.statistics.skipped) == (0, 1)


def test_a_folder_that_cannot_be_used_is_refused(tmp_path):
    def refused(folder: Path) -> str:
        with pytest.raises(DiskRefused) as told:
            DiskTier(folder, LAYOUT, [FULL], False, 1 << 20)
        return str(told.value)

    (tmp_path / "file").write_text("")
    assert "cannot be used for prefixes: File exists" in refused(tmp_path / "file")
    assert "cannot be used for prefixes: Not a directory" in refused(tmp_path / "file" / "below")
    (tmp_path / "open").mkdir(mode=0o755)
    assert "can be read by others" in refused(tmp_path / "open")
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert "is no folder of yours" in refused(tmp_path / "link")
    first = DiskTier(tmp_path / "used", LAYOUT, [FULL], False, 1 << 20)
    assert "is used by another process" in refused(tmp_path / "used")
    first.close()
    DiskTier(tmp_path / "used", LAYOUT, [FULL], False, 1 << 20).close()


def test_parts_must_be_what_the_header_says():
    one = DiskSegment(LAYOUT, "r", "", 0, ids(1, 2), ((True,),))
    with pytest.raises(ValueError, match="other sizes than its header says"):
        whole(one, [b"short"])


def test_what_was_half_written_before_is_no_obstacle(tmp_path):
    one = DiskSegment(LAYOUT, "r", "", 0, ids(1, 2), ((True,),))
    (tmp_path / f"{one.name}.half").write_text("half")
    write_file(tmp_path, one.name, whole(one, parts(one)))
    assert read_header(tmp_path / f"{one.name}.pages", LAYOUT) == one
    with pytest.raises(BadSegment, match="another model"):
        read_header(tmp_path / f"{one.name}.pages", big())
