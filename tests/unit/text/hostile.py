"""Templates that want time, memory or the world outside; run as a program, it renders them all under hard limits."""

from __future__ import annotations

import json
import resource
import sys

from mlxrun.core import RequestError
from mlxrun.spec import ModelError
from mlxrun.text.template import ChatTemplate

NS = "{%- set ns = namespace(x='a', y='a') -%}"
TWINS = NS + "{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}{% endfor %}"
TUPLES = NS + "{% for i in range(60) %}{% set ns.x = (ns.x, ns.x) %}{% endfor %}"
BIG = "{% set b = range(100000)|list %}{% for i in range(100000) %}"

TREES = (
    NS
    + "{% for i in range(12) %}{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}{% endfor %}"
    + "{% set ns.x = [ns.x, 1] %}{% set ns.y = [ns.y, 2] %}{% set many = [ns.y] * 1000 %}"
)


def doubling(expression: str) -> str:
    return NS + "{% for i in range(100) %}{% set ns.x = " + expression + " %}{% endfor %}{{ ns.x }}"


BUDGET = "does more work than any conversation needs"
LOOPS = {
    "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}": BUDGET,
    "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}": BUDGET,
    "{% for a in range(10) %}" * 18 + "x" + "{% endfor %}" * 18: BUDGET,
    "{% for a in range(2) %}" * 60 + "{% endfor %}" * 60: "too many statically nested blocks",
    "{% for x in range(10**12) %}x{% endfor %}": "counts to more than 100000",
    "{% for y in range(99999) %}{% for x in range(99999) if x < 0 %}{% endfor %}{% endfor %}": BUDGET,
    "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}": "nests too deeply",
    "{% for x in [1,1] recursive %}{% if loop.depth < 60 %}{{ loop([1,1]) }}{% endif %}{% endfor %}": BUDGET,
    "{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}": "nests too deeply",
    "{% macro m(n) %}{% if n < 60 %}{{ m(n + 1) }}{{ m(n + 1) }}{% endif %}{% endmacro %}{{ m(0) }}": BUDGET,
    "{% macro m() %}{{ caller() }}{{ caller() }}{% endmacro %}"
    + "{% call m() %}" * 30
    + "x"
    + "{% endcall %}" * 30: BUDGET,
    BIG + "{{ b|map('string')|list|length }}{% endfor %}": BUDGET,
    BIG + "{{ b|select('eq', 3)|list|length }}{% endfor %}": BUDGET,
    BIG + "{{ b|reject|list|length }}{% endfor %}": BUDGET,
    BIG + "{{ b|select|select|select|first }}{% endfor %}": BUDGET,
    BIG + "{% if -1 in b %}{% endif %}{% endfor %}": BUDGET,
    TREES + "{% for i in range(999) %}{% if ns.x in (many|select) %}{% endif %}{% endfor %}": BUDGET,
    TREES + "{% for i in range(999) %}{% if ns.x is in (many|select) %}{% endif %}{% endfor %}": BUDGET,
    BIG + "{{ b.count(-1) }}{% endfor %}": BUDGET,
    BIG + "{{ b[1:]|length }}{% endfor %}": BUDGET,
    BIG + "{{ (b|sort)|length }}{% endfor %}": BUDGET,
    BIG + "{{ cycler(*b).current }}{% endfor %}": BUDGET,
    BIG + "{{ [-1000000000]|map('~charge')|list }}{% for j in b %}{% endfor %}{% endfor %}": BUDGET,
    "{% for i in range(100000) %}{{ ('ab ' * 100000)|title|length }}{% endfor %}": BUDGET,
    "{% for i in range(100000) %}{% filter upper %}{{ 'a' * 100000 }}{% endfilter %}{% endfor %}": BUDGET,
    "{% set a = 'a' * 1000000 %}{{ a.strip('b' * 500000 ~ 'a') }}": BUDGET,
    "{% set a = 'a' * 1000000 %}{% for i in range(9999) %}{{ a.rfind('b' ~ 'a' * 1000) }}{% endfor %}": BUDGET,
    "{% set a = 'a ' * 1000000 %}{% for i in range(1000) %}{{ a.split()|length }}{% endfor %}": BUDGET,
}
SIZES = {
    "{{ 'a' * 10**9 }}": BUDGET,
    "{{ 10**9 * 'a' }}": BUDGET,
    "{{ ([0] * 10**9)|length }}": BUDGET,
    "{{ 2**1000000 }}": "a number of absurd size",
    NS + "{% set ns.x = 3 %}{% for i in range(99999) %}{% set ns.x = ns.x * ns.x %}{% endfor %}": "absurd size",
    "{{ ('9' * 100000)|int }}": "a width or count of 100000",
    doubling("ns.x + ns.x"): BUDGET,
    doubling("ns.x ~ ns.x"): BUDGET,
    doubling("[ns.x, ns.x]|join"): BUDGET,
    doubling("''.join([ns.x, ns.x])"): BUDGET,
    doubling("'%s%s' % (ns.x, ns.x)"): BUDGET,
    doubling("'%s%s'|format(ns.x, ns.x)"): BUDGET,
    doubling("'{0}{0}'.format(ns.x)"): BUDGET,
    doubling("ns.x.replace('a', 'aa')"): BUDGET,
    doubling("ns.x|replace('a', 'aa')"): BUDGET,
    doubling("ns.x.replace('', 'aa')"): BUDGET,
    doubling("[ns.x ~ '\\\\']|string"): BUDGET,
    NS + "{% for i in range(99) %}{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}{% endfor %}": BUDGET,
    TWINS + "{{ ns.x }}": BUDGET,
    TWINS + "{{ ns.x|tojson }}": BUDGET,
    TWINS + "{{ ns.x == ns.y }}": BUDGET,
    TWINS + "{{ ns.x in [ns.y] }}": BUDGET,
    TWINS + "{{ ns.x is eq ns.y }}": BUDGET,
    TWINS + "{{ [ns.y].index(ns.x) }}": BUDGET,
    TUPLES + "{{ {ns.x: 1}|length }}": BUDGET,
    TUPLES + "{{ {}[ns.x] }}": BUDGET,
    TUPLES + "{{ {}.get(ns.x) }}": BUDGET,
    TUPLES + "{{ [ns.x]|unique|list|length }}": BUDGET,
    TUPLES + "{{ dict([(ns.x, 1)])|length }}": BUDGET,
    TUPLES + "{% set d = {'a': ns.x} %}{{ d.items() - d.items() }}": BUDGET,
    NS
    + "{% set ns.x = [] %}{% for i in range(99999) %}{% set ns.x = ns.x + [range(50000)|list] %}{% endfor %}": BUDGET,
    NS + "{% for i in range(99999) %}{% set ns.x = [ns.x, '\U0001f600' * 100000] %}{% endfor %}": BUDGET,
    BIG + "{% for j in b %}{% set c = [c, {'a': {'b': {}}}] %}{% endfor %}{% endfor %}": BUDGET,
    "{{ 'a'|center(10**9) }}": "width or count of 1000000000",
    "{{ 'a'.center(10**9) }}": "width or count",
    "{{ 'a'.zfill(10**9) }}": "width or count",
    "{{ ('\t' * 100000).expandtabs(100000)|length }}": BUDGET,
    "{{ ('a\n' * 10000)|indent(100000) }}": BUDGET,
    "{{ ('a\n' * 10000)|indent('x' * 100000) }}": BUDGET,
    "{{ [1]|batch(10**9, 'x')|list|length }}": "width or count",
    "{{ [1]|slice(10**9)|list|length }}": "width or count",
    "{{ '%1000000000d' % 1 }}": "absurd width",
    "{{ '%.1000000000f'|format(1) }}": "absurd width",
    "{{ '%*d' % (1000000000, 1) }}": "a width that is computed",
    "{{ '{:1000000000}'.format(1) }}": "absurd width",
    "{{ '{a!r:>1000000000}'.format(a=1) }}": "absurd width",
    "{{ '%(a)1000000000d' % {'a': 1} }}": "absurd width",
    "{{ '%-+ 1000000000d' % 1 }}": "absurd width",
    "{{ ('%s' * 100000) % (('x' * 1000,) * 100000) }}": BUDGET,
    "{{ ('{0}' * 10000).format('x' * 10000) }}": BUDGET,
    "{{ '{a:1000000000}'.format_map({'a': 1}) }}": "absurd width",
    "{{ '{:{w}}'.format(1, w=10**9) }}": "a width that is computed",
    "{{ '%1000000000d' is even }}": "divides what is not a number",
    "{{ '%1000000000d' is divisibleby 3 }}": "divides what is not a number",
    "{{ [[[1]]]|tojson(indent=10**9) }}": "width or count",
    "{{ (range(1000)|list)|tojson(separators=('x' * 100000, ':')) }}": "absurd separators",
    "{{ 1|round(10**9, 'ceil') }}": "width or count",
    "{{ ([range(10000)|list] * 1000)|sum(start=[])|length }}": "sums what is not a number",
    "{{ strftime_now('%c' * 100000) }}": "a date in an absurd format",
}
OUTSIDE = {
    "{{ ''.__class__.__mro__[1].__subclasses__() }}": "unsafe",
    "{{ ''['__class__']['__mro__'] }}": "unsafe",
    "{{ (''|attr('__class__')).mro() }}": "unsafe",
    "{{ '{0.__class__.__mro__}'.format('') }}": "unsafe",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}": "unsafe",
    "{{ raise_exception.__globals__.os }}": "unsafe",
    "{{ namespace.__func__.__globals__ }}": "unsafe",
    "{{ self._TemplateReference__context.environment }}": "unsafe",
    "{{ self.__init__.__globals__ }}": "unsafe",
    "{{ lipsum.__globals__ }}": "'lipsum' is undefined",
    "{{ messages.append(1) }}": "unsafe",
    "{{ messages[0].update({'a': 1}) }}": "unsafe",
    "{{ messages.pop() }}": "unsafe",
    "{% set ns = namespace() %}{% set ns.__class__ = 1 %}": "keeps a value under the name '__class__'",
    "{{ namespace(**{'_x': 1}) }}": "keeps a value under the name '_x'",
    "{{ 'a'.encode() }}": "calls encode",
    "{{ (1).to_bytes(10**9, 'big') }}": "calls to_bytes",
    "{{ 'a'.translate({97: 'b' * 1000}) }}": "calls translate",
    "{{ dict.fromkeys([1]) }}": "has no attribute 'fromkeys'",
    "{% include '/etc/passwd' %}": "uses Include",
    "{% import 'os' as os %}": "uses Import",
    "{% from 'os' import path %}": "uses FromImport",
    "{% extends 'x' %}": "uses Extends",
    "{% block a %}{{ self.a() }}{% endblock %}": "uses Block",
    "{% autoescape true %}{% endautoescape %}": "uses ScopedEvalContextModifier",
    "{% do messages.clear() %}": "unknown tag 'do'",
    "{{ 'a. ' * 9|urlize }}": "No filter named 'urlize'",
    "{{ [1]|random }}": "No filter named 'random'",
}
BROKEN = {
    "{% for %}": "has an error in line 1",
    "a\n{{ 'a": "has an error in line 2",
    "{{ nothing.at.all }}": "'nothing' is undefined",
    "{{ 1 / 0 }}": "ZeroDivisionError",
    "{{ 1 + 'a' }}": "TypeError",
    "{{ 1e400 }}": "holds a number in line 1 that is too large",
    "\n{{ messages[-1e400:] }}": "holds a number in line 2 that is too large",
    "{{ 'ab'|truncate(-1) }}": "AssertionError",
    "{{ messages[0].content() }}": "calls a str",
    "{{ cycler(1, 2)|list }}": "TypeError",
    "{{ " + "(" * 20000 + "1" + ")" * 20000 + " }}": "nests too deeply",
    "{{ " + "1+" * 30000 + "1 }}": "nests too deeply",
    "{{ " + "[" * 5000 + "]" * 5000 + " }}": "nests too deeply",
    "{% if 1 %}" * 2500 + "{% endif %}" * 2500: "nests too deeply",
    "{{ a" + ".b" * 20000 + " }}": "nests too deeply",
    "{{ 1" + "|string" * 5000 + " }}": "nests too deeply",
    "{{ " + "9" * 50000 + " }}": "ValueError",
    "x" * 70000: "has 70000 characters; at most 65536",
}
ALL = LOOPS | SIZES | OUTSIDE | BROKEN


def main() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (120, 120))  # a hang ends here and fails the test
    ChatTemplate({"default": "{{ 1 }}"}, {}).render([])
    if sys.platform == "linux":
        pages = int(open("/proc/self/statm").read().split()[0])  # noqa: SIM115 a file that is not one
        limit = pages * resource.getpagesize() + (512 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for source in ALL:
        try:
            result = [
                "rendered",
                ChatTemplate({"default": source}, {}).render([{"role": "user", "content": "hi"}])[:99],
            ]
        except (ModelError, RequestError) as error:
            result = [type(error).__name__, str(error)]
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
