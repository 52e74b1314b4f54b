"""The page about models is made from the record, and the record from these tests."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .cases import CASES
from .mlx_dialect import reason_against
from .models_doc import DEFAULT, PAGE, RECORD, WAYS, page
from .test_default_path import FAST
from .test_golden import TOLERANCE

LARGEST = 10  # of all outputs


@pytest.fixture
def stored() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RECORD.read_text(encoding="utf-8"))
    return found


def test_the_page_is_what_the_record_says(stored: dict[str, Any]) -> None:
    assert PAGE.read_text(encoding="utf-8") == page(stored), "run: python -m tests.golden.models_doc --only-page"


def test_the_record_has_every_case_and_every_check(stored: dict[str, Any]) -> None:
    assert set(stored["cases"]) == set(CASES)
    for name, case in CASES.items():
        wanted = {*WAYS, *DEFAULT} - ({"chunked", "rewound"} if case.encoder else set())
        if reason_against(name, case.model_type) is None:
            wanted.add("dialect mlx")
        assert wanted <= set(stored["cases"][name]), f"{name}: run make models-doc"
        for check, difference in stored["cases"][name].items():
            assert difference <= (FAST * LARGEST if check == "default fast" else TOLERANCE), f"{name}, {check}"
