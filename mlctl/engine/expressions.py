"""The grammar of gates.

```
gate     = sum comparison sum
sum      = product { ("+" | "-") product }
product  = factor { ("*" | "/") factor }
factor   = ["-"] ( number | figure | "(" sum ")" )
figure   = step "." name | step "[" model "]" "." name
comparison = "<=" | ">=" | "<" | ">" | "==" | "!="
```
"""

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final, TypeAlias

from mlctl.engine.figures import FigureName

_TOKEN: Final = re.compile(
    r"""[ \t]*(?:
    (?P<figure>[A-Za-z_][\w-]*(?:\.[\w-]+)*\[[^\]\s]+\]\.[A-Za-z_]\w*|[A-Za-z_][\w-]*(?:\.[\w-]+)*\.[A-Za-z_]\w*)
    |(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
    |(?P<comparison><=|>=|==|!=|<|>)
    |(?P<operator>[-+*/()])
    )""",
    re.VERBOSE,
)
_COMPARISONS: Final[dict[str, Callable[[float, float], bool]]] = {
    "<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
_ARITHMETIC: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv,
}  # fmt: skip
MAX_LENGTH: Final = 1000
MAX_DEPTH: Final = 50


class GateSyntaxError(ValueError):
    """The text is not a gate; says where and what was expected."""


@dataclass(frozen=True)
class Number:
    """A constant."""

    value: float


@dataclass(frozen=True)
class Arithmetic:
    """Two expressions and what joins them: + - * or /."""

    symbol: str
    left: "Expression"
    right: "Expression"


Expression: TypeAlias = Number | FigureName | Arithmetic


@dataclass(frozen=True)
class Comparison:
    """What a gate demands of two expressions."""

    left: Expression
    symbol: str
    right: Expression

    @property
    def figures(self) -> tuple[FigureName, ...]:
        """Every figure that is named, left to right, each once."""
        return tuple(dict.fromkeys([*_names(self.left), *_names(self.right)]))

    def holds(self, left: float, right: float) -> bool:
        """Whether the two values stand as demanded; never when one is not a number."""
        return _COMPARISONS[self.symbol](left, right) and left == left and right == right


def evaluate(expression: Expression, values: Mapping[FigureName, Any]) -> Any:
    """The expression's value, of the type of `values` (numbers, or arrays). Raises ZeroDivisionError."""
    match expression:
        case Number(value):
            return value
        case Arithmetic(symbol, left, right):
            return _ARITHMETIC[symbol](evaluate(left, values), evaluate(right, values))
        case _:
            return values[expression]


def linear_form(expression: Expression) -> tuple[dict[FigureName, float], float] | None:
    """Coefficients, all finite, and constant of an expression that is linear in its figures; None for any other."""
    match expression:
        case Number(value):
            return {}, value
        case FigureName():
            return {expression: 1.0}, 0.0
        case Arithmetic(symbol, left, right):
            first, second = linear_form(left), linear_form(right)
            return None if first is None or second is None else _combined(symbol, first, second)


Linear: TypeAlias = tuple[dict[FigureName, float], float]


def _combined(symbol: str, first: Linear, second: Linear) -> Linear | None:
    if symbol in "+-":
        return _added(first, second, 1.0 if symbol == "+" else -1.0)
    if symbol == "*" and not first[0]:
        return _added(({}, 0.0), second, first[1])
    if second[0] or (symbol == "/" and second[1] == 0):
        return None
    if symbol == "/":
        # Not by 1 / divisor, which is infinite for the smallest numbers.
        shares = {name: value / second[1] for name, value in first[0].items()}
        return (shares, first[1] / second[1]) if all(map(isfinite, shares.values())) else None
    return _added(({}, 0.0), first, second[1])


def _added(first: Linear, second: Linear, factor: float) -> Linear:
    coefficients = dict(first[0])
    for name, value in second[0].items():
        coefficients[name] = coefficients.get(name, 0.0) + factor * value
    return coefficients, first[1] + factor * second[1]


def _names(expression: Expression) -> Iterator[FigureName]:
    match expression:
        case FigureName():
            yield expression
        case Arithmetic(_, left, right):
            yield from _names(left)
            yield from _names(right)


def parse(text: str) -> Comparison:
    """The gate that `text` spells. Raises GateSyntaxError."""
    if len(text) > MAX_LENGTH:
        raise GateSyntaxError(f"a gate has at most {MAX_LENGTH} characters")
    return _Parser(text).gate()


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._depth = 0

    def gate(self) -> Comparison:
        left = self._sum()
        symbol = self._take("comparison", "a comparison such as >= or <=")
        right = self._sum()
        if self._tokens:
            raise GateSyntaxError(f"{self._tokens[0][1]!r} stands after the end of the comparison")
        gate = Comparison(left, symbol, right)
        if not gate.figures:
            raise GateSyntaxError("no figure is named, so nothing is measured")
        return gate

    def _sum(self) -> Expression:
        value = self._product()
        while self._next_is("+", "-"):
            value = Arithmetic(self._pop(), value, self._product())
        return value

    def _product(self) -> Expression:
        value = self._factor()
        while self._next_is("*", "/"):
            value = Arithmetic(self._pop(), value, self._factor())
        return value

    def _factor(self) -> Expression:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise GateSyntaxError(f"more than {MAX_DEPTH} parentheses or signs within each other")
        value = self._unsigned_factor()
        self._depth -= 1
        return value

    def _unsigned_factor(self) -> Expression:
        if self._next_is("-"):
            self._pop()
            return Arithmetic("-", Number(0.0), self._factor())
        if self._next_is("("):
            self._pop()
            value = self._sum()
            if not self._next_is(")"):
                raise GateSyntaxError("a parenthesis is not closed")
            self._pop()
            return value
        if self._tokens and self._tokens[0][0] == "number":
            return _number(self._pop())
        return _figure(self._take("figure", "a number or a figure such as eval[train].accuracy"))

    def _next_is(self, *symbols: str) -> bool:
        return bool(self._tokens) and self._tokens[0][0] == "operator" and self._tokens[0][1] in symbols

    def _take(self, kind: str, expected: str) -> str:
        if not self._tokens:
            raise GateSyntaxError(f"it ends where {expected} should be")
        if self._tokens[0][0] != kind:
            raise GateSyntaxError(f"{self._tokens[0][1]!r} stands where {expected} should be")
        return self._pop()

    def _pop(self) -> str:
        return self._tokens.pop(0)[1]


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    position, end = 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if not match:
            raise GateSyntaxError(
                f"{text[position:].strip()[:20]!r} is neither a number, a figure nor one of + - * / ( )"
            )
        assert match.lastgroup
        yield match.lastgroup, match[match.lastgroup]
        position = match.end()


def _number(text: str) -> Number:
    value = float(text)
    if not isfinite(value):
        raise GateSyntaxError(f"{text} is too large for a number")
    return Number(value)


def _figure(text: str) -> FigureName:
    head, _, figure = text.rpartition(".")
    step, bracket, model = head.partition("[")
    return FigureName(step, model[:-1] if bracket else None, figure)
