"""Classes of mlx-lm that nobody has checked here, each with the reason."""

from __future__ import annotations

NO_REFERENCE = "transformers has no reference"
MULTIMODAL = "its language model has no recipe under that name"
# mlx-lm's classes that are refused until a person says --unchecked, and why nobody has checked them
UNCHECKED: dict[str, str] = {
    **dict.fromkeys(
        [
            "Klear",
            "afm7",
            "baichuan_m1",
            "bailing_moe_linear",
            "deepseek_v41",
            "gear",
            "iquestloopcoder",
            "kimi_k3",
            "lille-130m",
            "longcat_flash_ngram",
            "nanbeige",
            "nemotron-nas",
            "openelm",
            "phi3small",
            "phixtral",
            "plamo",
            "plamo2",
            "plamo3",
            "prism_hadamard_qwen35",
            "qwen",
            "rwkv7",
            "spark2_5",
            "step3p5",
            "talkie",
            "telechat3",
        ],
        NO_REFERENCE,
    ),
    **dict.fromkeys(["kimi_vl", "lfm2-vl", "minimax_m3_vl", "muse_glimmer", "muse_spark", "pixtral"], MULTIMODAL),
    "dbrx": "transformers and the class look for the base of its rope in different places",
    "longcat_flash": "its class asks for keys that transformers' config has not",
    "mimo_v2_flash": "its class cannot be made from transformers' config",
    "minimax": "its class is that of MiniMax M2, another architecture",
}
