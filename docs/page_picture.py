"""Draws docs/page.png, the picture of the web page, from a real run with the starter model in headless Chromium."""

from __future__ import annotations

from pathlib import Path

from tests.page.browser import Talk, browser
from tests.server.process import serving

OUT = Path(__file__).with_name("page.png")
QUESTIONS = (
    "What is the capital of France?",
    "Write a Python function that says whether a word is a palindrome, with a short explanation.",
)


def main() -> None:
    with serving("smollm2", "--temperature", "0") as server, browser() as opened:
        talk = Talk(opened.new_page(color_scheme="light", viewport={"width": 1000, "height": 740})).open(server.url)
        for count, question in enumerate(QUESTIONS, 1):
            talk.ask(question)
            talk.answered(count)
        talk.page.screenshot(path=OUT)


if __name__ == "__main__":
    main()
