"""Chat templates that write calls of tools: other people's (tests/data/templates), and minimal ones of formats whose
templates are under a licence that keeps them out of here. Each with the format that its model writes.

What templates of other people do that cannot be read back, and which are not here for it:
- LFM2's writes strings between quotes without escapes: a quote or a line's end in one breaks its call.
- Gemma's and FunctionGemma's have no escape for the marks round a string, and write keys bare: such a key is cut short.
- Tags round raw texts (Qwen3-Coder, GLM, MiniMax, DeepSeek V3.2, Kimi K3, Seed) cannot hold what ends a parameter and
  then goes on as a call does, unless that is a token.
Formats that are not read: MiniMax M3 (values nested as tags), Functionary 3.2 (the first name stands behind a marker of
the prompt), MiniCPM5 (texts in CDATA), Command R+ (a list in a code block under "Action:").
"""

from __future__ import annotations

from pathlib import Path

DATA = Path(__file__).resolve().parents[2] / "data" / "templates"

REAL = {
    "Apertus-8B-Instruct": "apertus",
    "Apriel-1.6-15b-Thinker-fixed": "jamba",
    "Bielik-11B-v3.0-Instruct": "hermes",
    "ByteDance-Seed-OSS": "seed",
    "GLM-4.6": "glm4.5",
    "GLM-4.7-Flash": "glm4.7",
    "GigaChat3-10B-A1.8B": "gigachat3",
    "GigaChat3.1-10B-A1.8B": "gigachat3.1",
    "MiMo-VL": "hermes",
    "MiniMax-M1": "minimax1",
    "MiniMax-M2": "minimax2",
    "Mistral-Small-3.2-24B-Instruct-2506": "mistral11",
    "Qwen-QwQ-32B": "hermes",
    "Qwen-Qwen2.5-7B-Instruct": "hermes",
    "Qwen-Qwen3-0.6B": "hermes",
    "Qwen3-Coder": "qwen3-coder",
    "Qwen3.5-4B": "qwen3-coder",
    "StepFun3.5-Flash": "step3.5",
    "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B": "deepseek3",
    "deepseek-ai-DeepSeek-V3.1": "deepseek3.1",
    "deepseek-ai-DeepSeek-V3.2": "deepseek3.2",
    "deepseek-ai-DeepSeek-V4": "deepseek4",
    "google-gemma-4-31B-it": "gemma4",
    "google-gemma-4-31B-it-interleaved": "gemma4",
    "ibm-granite-granite-4.0": "hermes",
    "ibm-granite-granite-4.1": "hermes",
    "meetkai-functionary-medium-v3.1": "functionary3.1",
    "mistralai-Ministral-3-14B-Reasoning-2512": "mistral13",
    "mistralai-Mistral-Nemo-Instruct-2407": "mistral3",
    "moonshotai-Kimi-K2": "kimi2",
    "openai-gpt-oss-120b": "harmony",
    "unsloth-Apriel-1.5": "jamba",
    "unsloth-mistral-Devstral-Small-2507": "mistral13",
}

FRAME = """\
{% macro json(call) %}{"name": "{{ call.name }}", "arguments": {{ call.arguments | tojson }}}{% endmacro %}
{% macro python(value) %}
  {%- if value is string or value is number and value is not boolean %}{{ value | tojson -}}
  {% elif value is none or value is boolean %}{{ value -}}
  {% elif value is mapping %}
    {{- '{' }}{% for k, v in value | items %}{{ k | tojson }}: {{ python(v) }}{{ ', ' if not loop.last }}{% endfor %}}
  {%- else %}[{% for v in value %}{{ python(v) }}{{ ', ' if not loop.last }}{% endfor %}]{% endif %}
{%- endmacro %}
{% macro keywords(call, lower) %}
  {{- call.name }}(
  {%- for k, v in call.arguments | items %}
    {{- k }}={{ v | tojson if lower else python(v) }}{{ ', ' if not loop.last }}
  {%- endfor %})
{%- endmacro %}
{% macro bare(value, quote) %}
  {%- if value is string %}{{ quote + value + quote -}}
  {% elif value is mapping %}
    {{- '{' }}{% for k, v in value | items %}{{ k }}:{{ bare(v, quote) }}{{ ',' if not loop.last }}{% endfor %}}
  {%- elif value is boolean or value is none or value is number %}{{ value | tojson -}}
  {% else %}[{% for v in value %}{{ bare(v, quote) }}{{ ',' if not loop.last }}{% endfor %}]{% endif %}
{%- endmacro %}
{% macro raw(value) %}{{ value if value is string else value | tojson }}{% endmacro %}
{% macro kind(value) %}
  {{- 'string' if value is string else 'boolean' if value is boolean else 'null' if value is none
    else 'number' if value is number else 'object' if value is mapping else 'array' }}
{%- endmacro %}
{% for message in messages %}
  {{- '<|' + message.role + '|>' + (message.content or '') }}
  {%- if message.tool_calls %}
    {{- BEFORE }}
    {%- for one in message.tool_calls %}
      {%- set call = one.function %}CALL{{ BETWEEN if not loop.last }}
    {%- endfor %}
    {{- AFTER }}
  {%- endif %}
  {{- '<|done|>' }}
{%- endfor %}
{{- '<|assistant|>' if add_generation_prompt }}
"""

JSON, KEYWORDS = "{{ json(call) }}", "{{ keywords(call, false) }}"
TAGGED = "{% for k, v in call.arguments | items %}"
# format: before all calls, a call, between two, after all
MINIMAL: dict[str, tuple[str, str, str, str, str]] = {
    "EXAONE": ("exaone", "", "<tool_call>" + JSON + "</tool_call>", "\n", ""),
    "Trinity": ("hermes", "", "<tool_call>\n" + JSON + "\n</tool_call>", "\n", ""),
    "Reka": ("reka", "", "<tool_call>\n" + JSON + "\n</tool_call>", "", ""),
    "Phi-4-mini": ("phi4", "functools[", JSON, ", ", "]"),
    "Phi-4-mini-repaired": ("phi4-tags", "", "<|tool_call|>" + JSON + "<|/tool_call|>", "", ""),
    "Llama-3": (
        "llama3",
        "",
        '{"name": "{{ call.name }}", "parameters": {{ call.arguments | tojson }}}',
        "; ",
        "",
    ),
    "Llama-3-typed": (
        "llama3",
        "<|python_tag|>",
        '{"type": "function", "name": "{{ call.name }}", "parameters": {{ call.arguments | tojson }}}',
        "; ",
        "",
    ),
    "Llama-4": ("llama4", "[", KEYWORDS, ", ", "]"),
    "Llama-4-marked": ("llama4", "<|python_start|>[", KEYWORDS, ", ", "]<|python_end|>"),
    "LFM2": ("lfm2", "<|tool_call_start|>[", KEYWORDS, ", ", "]<|tool_call_end|>"),
    "LFM2-JSON": ("lfm2-json", "<|tool_call_start|>[", JSON, ", ", "]<|tool_call_end|>"),
    "OLMo-3": ("olmo3", "<function_calls>", "{{ keywords(call, true) }}", "\n", "</function_calls>"),
    "Granite-3": ("granite3", "<|tool_call|>[", JSON, ", ", "]"),
    "Granite-3.1": ("granite3", "<tool_call>[", JSON, ", ", "]"),
    "Nemotron-Nano-2": ("nemotron2", "<TOOLCALL>[", JSON, ", ", "]</TOOLCALL>"),
    "Jamba": ("jamba", "<tool_calls>[", JSON, ", ", "]</tool_calls>"),
    "Command": (
        "command",
        "<|START_ACTION|>[\n    ",
        '{"tool_call_id": "{{ loop.index0 }}", "tool_name": "{{ call.name }}", '
        '"parameters": {{ call.arguments | tojson }}}',
        ",\n    ",
        "\n]<|END_ACTION|>",
    ),
    "Solar": (
        "solar",
        "<|tool_calls|>",
        "<|tool_call:begin|>{{ one.id }}<|tool_call:name|>{{ call.name }}<|tool_call:args|>"
        "{{ call.arguments | tojson }}<|tool_call:end|>",
        "",
        "<|calls|>",
    ),
    "Nemotron-3": (
        "qwen3-coder",
        "",
        "<tool_call>\n<function={{ call.name }}>\n" + TAGGED + "<parameter={{ k }}>\n{{ raw(v) }}\n</parameter>\n"
        "{% endfor %}</function>\n</tool_call>",
        "\n",
        "",
    ),
    "Qwen3-Coder-bare": (
        "qwen3-coder",
        "",
        "<function={{ call.name }}>\n" + TAGGED + "<parameter={{ k }}>\n{{ raw(v) }}\n</parameter>\n"
        "{% endfor %}</function>",
        "\n",
        "",
    ),
    "Laguna": (
        "glm4.7",
        "",
        "<tool_call>{{ call.name }}" + TAGGED + "<arg_key>{{ k }}</arg_key><arg_value>{{ raw(v) }}</arg_value>"
        "{% endfor %}</tool_call>",
        "",
        "",
    ),
    "Ling-3": (
        "ling3",
        "",
        "<tool_call>{{ call.name }}\n" + TAGGED + "<arg_key>{{ k }}</arg_key>\n<arg_value>{{ raw(v) }}</arg_value>"
        "{% endfor %}\n</tool_call>",
        "\n",
        "",
    ),
    "Hunyuan-3": (
        "hunyuan3",
        "<tool_calls:opensource>\n",
        "<tool_call:opensource>{{ call.name }}<tool_sep:opensource>\n" + TAGGED + "<arg_key:opensource>{{ k }}"
        "</arg_key:opensource>\n<arg_value:opensource>{{ raw(v) }}</arg_value:opensource>\n{% endfor %}"
        "</tool_call:opensource>",
        "\n",
        "\n</tool_calls:opensource>",
    ),
    "Kimi-K3": (
        "kimi3",
        "<|open|>tools<|sep|>",
        '<|open|>call tool="{{ call.name }}" index="{{ loop.index }}"<|sep|>' + TAGGED + '<|open|>argument '
        'key="{{ k }}" type="{{ kind(v) }}"<|sep|>{{ raw(v) }}<|close|>argument<|sep|>{% endfor %}<|close|>call<|sep|>',
        "",
        "<|close|>tools<|sep|>",
    ),
    "FunctionGemma": (
        "functiongemma",
        "",
        "<start_function_call>call:{{ call.name }}{{ bare(call.arguments, '<escape>') }}<end_function_call>",
        "",
        "",
    ),
    "Kimi-K2-Thinking": (
        "kimi2",
        "<|tool_calls_section_begin|>",
        "<|tool_call_begin|>functions.{{ call.name }}:{{ loop.index0 }}<|tool_call_argument_begin|>"
        "{{ call.arguments | tojson }}<|tool_call_end|>",
        "",
        "<|tool_calls_section_end|>",
    ),
}  # fmt: skip


def sources() -> dict[str, tuple[str, str]]:
    """Of each: its format, and the template."""
    found = {name: (form, (DATA / f"{name}.jinja").read_text(encoding="utf-8")) for name, form in REAL.items()}
    for name, (form, before, call, between, after) in MINIMAL.items():
        source = FRAME.replace("CALL", call.replace("\n", "{{ '\\n' }}"))  # a block takes the newline behind it away
        for word, text in (("BEFORE", before), ("BETWEEN", between), ("AFTER", after)):
            source = source.replace(word, repr(text))
        found[name] = form, source
    return found
