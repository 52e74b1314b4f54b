"""What is read from the disk is computed again and compared, but for rows of pictures: these have no tokens."""

from __future__ import annotations

from typing import Any, cast

from mlxrun.cache.paged_disk import same_again
from mlxrun.cache.store import PagedStore
from mlxrun.cache.table import Tables


class AnyLength:
    size = 16

    def reusable(self, length: int) -> int:
        return length


def never(*_: Any) -> Any:
    raise AssertionError("rows of a picture went through the model as tokens")


def test_rows_of_a_picture_are_not_computed_again() -> None:
    tables, store = cast(Tables, AnyLength()), cast(PagedStore, None)
    assert same_again(store, [*range(20), -7, -9, 5], tables, never) is None
