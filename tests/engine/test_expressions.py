"""The grammar of gates, against Python's own reading of arithmetic."""

import ast
import operator
import string
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from mlctl.engine.expressions import (
    MAX_LENGTH,
    Comparison,
    GateSyntaxError,
    evaluate,
    linear_form,
    parse,
)
from mlctl.engine.figures import FigureName

NAMES = {
    "p": FigureName("eval", "train", "accuracy"),
    "q": FigureName("eval", "quantize.half", "p50_batch_32"),
    "r": FigureName("export", None, "parity"),
    "s": FigureName("train.small", None, "loss"),
}
"""Figures, by the letters that stand for them where Python reads the same text."""

OPERATORS: Mapping[type, Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def reference(node: ast.expr, values: Mapping[str, float]) -> float:
    """The value of an arithmetic expression that Python has parsed."""
    match node:
        case ast.BinOp(left, symbol, right):
            return OPERATORS[type(symbol)](reference(left, values), reference(right, values))
        case ast.UnaryOp(ast.USub(), operand):
            return 0.0 - reference(operand, values)
        case ast.Name(name):
            return values[name]
        case ast.Constant(value) if isinstance(value, float | int):
            return float(value)
    raise AssertionError(ast.dump(node))


numbers = st.floats(0, 1e6, allow_nan=False).map(repr) | st.integers(0, 10**6).map(str)
terms = st.recursive(
    numbers | st.sampled_from(sorted(NAMES)),
    lambda inner: (
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda parts: " ".join(parts))
        | inner.map(lambda text: f"({text})")
        | inner.map(lambda text: f"-{text}")
    ),
    max_leaves=12,
)
values = st.fixed_dictionaries({name: st.floats(-1e3, 1e3, allow_nan=False) for name in NAMES})


def spelled(text: str) -> str:
    """The text with figures for letters."""
    return "".join(str(NAMES[character]) if character in NAMES else character for character in text)


@given(terms, terms, values)
def test_sides_have_the_values_that_python_gives_them(left: str, right: str, found: dict[str, float]) -> None:
    # A number's exponent would be taken for nothing else, and a gate needs a figure.
    gate = parse(f"{spelled(left)} <= {spelled(right)} + {NAMES['p']}")
    by_name = {NAMES[letter]: value for letter, value in found.items()}
    for side, text in ((gate.left, left), (gate.right, f"{right} + p")):
        try:
            expected = reference(ast.parse(text, mode="eval").body, found)
        except ZeroDivisionError:
            with pytest.raises(ZeroDivisionError):
                evaluate(side, by_name)
            return
        # The same operations in the same order on the same floats: equal to the last bit, nan included.
        assert repr(evaluate(side, by_name)) == repr(expected)


@given(terms, values, values)
def test_a_linear_form_is_the_expression(text: str, one: dict[str, float], two: dict[str, float]) -> None:
    expression = parse(f"{spelled(text)} <= {NAMES['p']}").left
    form = linear_form(expression)
    assume(form is not None)
    assert form is not None
    coefficients, constant = form
    for found in (one, two):
        by_name = {NAMES[letter]: value for letter, value in found.items()}
        direct = evaluate(expression, by_name)
        parts = [coefficients[name] * by_name[name] for name in coefficients]
        # Sums in another order: the error grows with the largest intermediate, which the text itself bounds.
        scale = magnitude(ast.parse(text, mode="eval").body, found)
        assume(scale < 1e300)
        assert sum(parts) + constant == pytest.approx(direct, rel=1e-9, abs=1e-9 * scale + 1e-300)


def magnitude(node: ast.expr, values: Mapping[str, float]) -> float:
    """A bound of every intermediate, however the terms are ordered."""
    match node:
        case ast.BinOp(left, ast.Div(), right):
            divisor = abs(reference(right, values))
            return magnitude(left, values) / divisor if divisor else float("inf")
        case ast.BinOp(left, ast.Mult(), right):
            return magnitude(left, values) * magnitude(right, values)
        case ast.BinOp(left, _, right):
            return magnitude(left, values) + magnitude(right, values)
        case ast.UnaryOp(_, operand):
            return magnitude(operand, values)
    return abs(reference(node, values))


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("p - 0.005", ({"p": 1.0}, -0.005)),
        ("2 * (p - q) / 4", ({"p": 0.5, "q": -0.5}, 0.0)),
        ("-p", ({"p": -1.0}, 0.0)),
        ("p * q", None),
        ("1 / p", None),
        ("p / 0", None),
        ("p / (1 - 1)", None),
    ],
)
def test_what_is_linear_and_what_is_not(text: str, form: object) -> None:
    found = linear_form(parse(f"{spelled(text)} <= {NAMES['r']}").left)
    letters = {name: letter for letter, name in NAMES.items()}
    assert form == (None if found is None else ({letters[each]: value for each, value in found[0].items()}, found[1]))


tokens = st.lists(
    st.sampled_from(
        ["eval[train].accuracy", "a.b", "a-b.c", "1", ".5", "1e3", "1e999", "(", ")", "+", "-", "*", "/", "<", "<=",
         "==", "!=", "=", "[", "]", ".", " ", "a", "\n", "\x00", "é", "٣"]
    ),
    max_size=30,
).map("".join)  # fmt: skip


@given(st.text(max_size=200) | tokens | st.text(alphabet=string.printable, max_size=60))
@example("(" * MAX_LENGTH)
@example("-" * MAX_LENGTH)
@example("1<" + "a.b+" * 249)
@example("a.b" + "+1" * 498 + "<")
@example("a." * 499)
@example("٣ < a.b")
def test_any_text_is_a_gate_or_a_syntax_error(text: str) -> None:
    with suppress(GateSyntaxError):
        assert [str(name) for name in parse(text).figures] != []


def test_the_longest_sum_is_parsed_evaluated_and_compared() -> None:
    text = "a.b" + "+1" * 497 + "<1"
    gate = parse(text)
    name = FigureName("a", None, "b")
    assert evaluate(gate.left, {name: 2.0}) == 499
    assert linear_form(gate.left) == ({name: 1.0}, 497.0)
    assert gate.figures == (name,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it ends where a number or a figure such as eval[train].accuracy should be"),
        ("a.b", "it ends where a comparison such as >= or <= should be"),
        ("a.b >= ", "it ends where a number or a figure such as eval[train].accuracy should be"),
        ("a.b >= 1 >= 2", "'>=' stands after the end of the comparison"),
        ("a.b >= (1", "a parenthesis is not closed"),
        ("a.b ** 2 >= 1", "'*' stands where a number or a figure such as eval[train].accuracy should be"),
        ("a.b = 1", "'= 1' is neither a number, a figure nor one of + - * / ( )"),
        ("accuracy >= 1", "'accuracy >= 1' is neither a number, a figure nor one of + - * / ( )"),
        ("1 >= 2", "no figure is named, so nothing is measured"),
        ("a.b <= 1e999", "1e999 is too large for a number"),
        ("eval[].accuracy >= 1", "'eval[].accuracy >= 1' is neither a number, a figure nor one of + - * / ( )"),
        ("exit('x') >= 1", "\"exit('x') >= 1\" is neither a number, a figure nor one of + - * / ( )"),
        ("a.b >= " + "(" * 60 + "1" + ")" * 60, "more than 50 parentheses or signs within each other"),
        ("a.b >= " + "1" * MAX_LENGTH, f"a gate has at most {MAX_LENGTH} characters"),
    ],
)  # fmt: skip
def test_a_syntax_error_says_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(GateSyntaxError) as caught:
        parse(text)
    assert str(caught.value) == message


def test_a_figure_is_spelled_as_it_is_written() -> None:
    gate = parse("eval[quantize.half].top_5_accuracy >= train.small.loss")
    assert gate.figures == (
        FigureName("eval", "quantize.half", "top_5_accuracy"),
        FigureName("train.small", None, "loss"),
    )
    assert [str(name) for name in gate.figures] == ["eval[quantize.half].top_5_accuracy", "train.small.loss"]


def test_a_figure_that_is_named_twice_is_listed_once() -> None:
    assert parse("a.b - c.d >= a.b").figures == (FigureName("a", None, "b"), FigureName("c", None, "d"))


@given(st.sampled_from(["<=", ">=", "<", ">", "==", "!="]), st.floats(), st.floats())
def test_a_comparison_holds_as_in_python_but_never_for_nan(symbol: str, left: float, right: float) -> None:
    gate: Comparison = parse(f"a.b {symbol} 1")
    both: dict[str, Any] = {"left": left, "right": right}
    numbers_only = left == left and right == right
    # Python's own comparison of two literals.
    expected = eval(f"left {symbol} right", {}, both) and numbers_only
    assert gate.holds(left, right) == expected
