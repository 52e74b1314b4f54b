"""How a BPE vocabulary cuts text into words before it merges: what `tokenizer.ggml.pre` names in GGUF files.

Each entry is the list of patterns of the model's own tokenizer.json, applied one after the other; every
match becomes a word and so does what lies between matches. A name that is not here is not guessed.
"""

from __future__ import annotations

from dataclasses import dataclass

WORDS_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
PUNCTUATION = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]"""
SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
CJK = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
# Letters with two cases, in the Unicode of its day.
CASED = (
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼ"
    "ℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃"
)
HAN_AND_HANGUL = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"  # as the authors wrote it, overlap and all


def _cl100k(digits: str, *, letters: str = r"\p{L}", tail: str = r"[\r\n]*") -> str:
    """The shape that GPT-4's tokenizer made common: Llama 3, Qwen, GLM, StableLM differ in a class or two."""
    other = r"[^\s\p{L}\p{N}]" if letters == r"\p{L}" else r"[^\s\p{L}\p{M}\p{N}]"
    return rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?{letters}+|{digits}| ?{other}+{tail}|{SPACES}"


def _o200k(digits: str, *, contractions: str, upper: str = UPPER, lower: str = LOWER, tail: str = r"[\r\n/]*") -> str:
    """Words split where lower case turns to upper."""
    lead, after = r"[^\r\n\p{L}\p{N}]?", f"{contractions}?" if contractions else ""
    words = f"{lead}{upper}*{lower}+{after}|{lead}{upper}+{lower}*{after}"
    return rf"{words}|{digits}| ?[^\s\p{{L}}\p{{N}}]+{tail}|{SPACES}"


def _but_han(letters: str) -> str:
    return rf"{letters[:-1]}&&[^\p{{Han}}]]"


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    patterns: tuple[str, ...]
    whole_words: bool = False  # a word that is a token is taken as it is, without merging ("ignore_merges")
    add_bos: bool = False  # where the file does not say


DIGITS_THEN_GPT2 = PreTokenizer((r"\p{N}", WORDS_GPT2))
GPT2 = PreTokenizer((WORDS_GPT2,))
LLAMA3 = _cl100k(r"\p{N}{1,3}")
QWEN2 = _cl100k(r"\p{N}")
DEEPSEEK3 = PreTokenizer(
    (
        r"\p{N}{1,3}",
        CJK,
        rf"{PUNCTUATION}[A-Za-z]+|[^\r\n\p{{L}}\p{{P}}\p{{S}}]?[\p{{L}}\p{{M}}]+| ?[\p{{P}}\p{{S}}]+[\r\n]*|{SPACES}",
    )
)
DEEPSEEK_LLM = PreTokenizer(
    (r"[\r\n]", rf"\s?[{CASED}]+", r"\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+", r"\s+$",
     HAN_AND_HANGUL, r"\p{N}+")
)  # fmt: skip
DEEPSEEK_CODER = PreTokenizer((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", HAN_AND_HANGUL, r"\p{N}"))
FALCON = PreTokenizer((r"[\p{P}\$\+<=>\^~\|`]+", WORDS_GPT2, r"[0-9][0-9][0-9]"))
DEFAULT = PreTokenizer((r"[\p{P}\$\+<=>\^~\|]+", WORDS_GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"))
BLOOM = PreTokenizer((" ?[^(\\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+",))
KIMI_K2 = r"\p{Han}+|" + _o200k(
    r"\p{N}{1,3}", contractions=CONTRACTIONS, upper=_but_han(UPPER), lower=_but_han(LOWER), tail=r"[\r\n]*"
)
BAILING = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"

PRETOKENIZERS: dict[str, PreTokenizer] = {
    "default": DEFAULT,
    **dict.fromkeys(("gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "modern-bert", "exaone4", "mellum"), GPT2),
    **dict.fromkeys(("granite-docling", "gigachat", "a.x-4.0"), GPT2),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone"), DIGITS_THEN_GPT2),
    **dict.fromkeys(("minerva-7b", "mellum2"), DIGITS_THEN_GPT2),
    **dict.fromkeys(
        ("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"),
        PreTokenizer((LLAMA3,), whole_words=True, add_bos=True),
    ),
    **dict.fromkeys(("dbrx", "smaug-bpe", "chatglm-bpe"), PreTokenizer((LLAMA3,))),
    **dict.fromkeys(("glm4", "glm5"), PreTokenizer((LLAMA3,), whole_words=True)),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "stablelm2", "megrez", "hunyuan"), PreTokenizer((QWEN2,))),
    **dict.fromkeys(("grok-2", "solar-open", "kormo"), PreTokenizer((QWEN2,))),
    "qwen35": PreTokenizer((_cl100k(r"\p{N}", letters=r"[\p{L}\p{M}]"),)),
    "laguna": PreTokenizer((r"[^\n]+|[\n]+", QWEN2)),
    "deepseek-llm": DEEPSEEK_LLM,
    "deepseek-coder": DEEPSEEK_CODER,
    **dict.fromkeys(("deepseek-v3", "hunyuan-dense", "joyai-llm"), DEEPSEEK3),
    "falcon": FALCON,
    **dict.fromkeys(("bloom", "poro-chat", "gpt3-finnish"), BLOOM),
    "tekken": PreTokenizer((_o200k(r"\p{N}", contractions=""),), whole_words=True, add_bos=True),
    **dict.fromkeys(
        ("gpt-4o", "llama4", "kanana2", "minimax-m2"),
        PreTokenizer((_o200k(r"\p{N}{1,3}", contractions=CONTRACTIONS),)),
    ),
    "kimi-k2": PreTokenizer((KIMI_K2,)),
    **dict.fromkeys(("bailingmoe", "bailingmoe2", "llada-moe"), PreTokenizer((BAILING,))),
    "seed-coder": PreTokenizer((rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}"
                                rf"| ?[^\s\p{{L}}\p{{N}}\r\n]+|{SPACES}",)),
}  # fmt: skip
