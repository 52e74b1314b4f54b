"""Requests made up from our own OpenAPI document, good and bad: none is our fault, all answers are as promised."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import checks

from .process import Serving, serving

checks.load_all_checks()
NAMES = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
)
EXAMPLES = settings.default.max_examples * 3 // 10  # of a POST; --hypothesis-profile=thorough makes ten times as many
CHECKS = [checks.CHECKS.get_one(name) for name in NAMES]


@pytest.fixture(scope="module")
def short(tiny_folder: Path) -> Iterator[Serving]:
    """With a context so short that no answer takes long."""
    with serving(str(tiny_folder), "--context", "64", "--max-concurrent", "8") as own:
        yield own


@pytest.fixture(scope="module")
def described(short: Serving) -> Any:
    return schemathesis.openapi.from_url(f"{short.url}/openapi.json")


GOOD, BAD = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
OPERATIONS = [
    ("POST", "/v1/chat/completions", GOOD),
    ("POST", "/v1/chat/completions", BAD),
    ("POST", "/v1/completions", GOOD),
    ("POST", "/v1/completions", BAD),
    ("POST", "/v1/messages", BAD),
    ("GET", "/v1/models/{id}", GOOD),
    ("GET", "/v1/models", GOOD),
    ("GET", "/health", GOOD),
    ("GET", "/memory", GOOD),
    ("GET", "/metrics", GOOD),
]


@pytest.mark.parametrize(("method", "path", "mode"), OPERATIONS)
def test_no_request_is_our_fault(method: str, path: str, mode: Any, described: Any) -> None:
    @settings(max_examples=EXAMPLES if method == "POST" else 5, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=described[path][method].as_strategy(generation_mode=mode))
    def run(case: Any) -> None:
        case.call_and_validate(checks=CHECKS)

    run()


def test_the_server_is_alive_after_all_that(short: Serving) -> None:
    short.idle()
    assert short.answers()
