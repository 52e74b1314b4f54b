"""Where each named pre-tokenizer cuts: words as llama.cpp cuts them with the same names; kimi-k2 as its authors do."""

from __future__ import annotations

import pytest
from tokenizers import Regex
from tokenizers.pre_tokenizers import Sequence, Split

from mlxrun.text.pretokenizers import PRETOKENIZERS

TEXT = "It's 12345 I'LL go!!\n\n  HelloWorld 漢字かな été"
WORDS = {
    "gpt-2": "It|'s| 12345| I|'|LL| go|!!|\n\n | HelloWorld| 漢字かな| été",
    "smollm": "It|'s| |1|2|3|4|5| I|'|LL| go|!!|\n\n | HelloWorld| 漢字かな| été",
    "llama-bpe": "It|'s| |123|45| I|'LL| go|!!\n\n| | HelloWorld| 漢字かな| été",
    "qwen2": "It|'s| |1|2|3|4|5| I|'LL| go|!!\n\n| | HelloWorld| 漢字かな| été",
    "qwen35": "It|'s| |1|2|3|4|5| I|'LL| go|!!\n\n| | HelloWorld| 漢字かな| été",
    "gpt-4o": "It's| |123|45| I'LL| go|!!\n\n| | Hello|World| 漢字かな| été",
    "kimi-k2": "It's| |123|45| I'LL| go|!!\n\n| | Hello|World| |漢字|かな| été",
    "tekken": "It|'s| |1|2|3|4|5| I|'LL| go|!!\n\n| | Hello|World| 漢字かな| été",
    "deepseek-llm": "It|'|s| |12345| I|'|LL| go|!!|\n|\n| | HelloWorld| |漢字かな| é|t|é",
    "deepseek-coder": "It|'|s| |1|2|3|4|5| I|'|LL| go|!!|\n|\n| | HelloWorld| |漢字かな| été",
    "deepseek-v3": "It|'s| |123|45| I|'LL| go|!!\n\n| | HelloWorld| |漢字かな| été",
    "falcon": "It|'|s| |123|45| I|'|LL| go|!!|\n\n | HelloWorld| 漢字かな| été",
    "default": "It|'|s| |123|45| I|'|LL| go|!!|\n\n | HelloWorld| 漢字かな| été",
    "bloom": "It's| 12345| I'LL| go|!!\n\n | HelloWorld| 漢字かな| été",
}


def cut(name: str, text: str) -> list[str]:
    rules = Sequence([Split(Regex(pattern), "isolated") for pattern in PRETOKENIZERS[name].patterns])
    return [word for word, _ in rules.pre_tokenize_str(text)]


@pytest.mark.parametrize("name", WORDS)
def test_words(name: str) -> None:
    assert "|".join(cut(name, TEXT)) == WORDS[name]


@pytest.mark.parametrize("name", PRETOKENIZERS)
def test_nothing_is_lost(name: str) -> None:
    text = " \t\n\r\u3000aZéß1²½!-’漢か한яहि🙂\U000e0001\x00" * 2
    assert "".join(cut(name, text)) == text
