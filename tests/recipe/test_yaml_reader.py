import json
import math
import sys
from typing import Any, Final

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mlctl.errors import RecipeError
from mlctl.recipe import yaml_reader
from mlctl.recipe.tree import Place, entry_at, place_at, plain
from mlctl.recipe.yaml_reader import decoded, read_tree

START = Place(1, 1, "r.yaml")


def values(text: str) -> Any:
    tree = read_tree(text, START)
    return None if tree is None else plain(tree)


def refusal(text: str) -> str:
    with pytest.raises(RecipeError) as refused:
        read_tree(text, START)
    return str(refused.value.what)


@pytest.fixture(params=["libyaml", "pure Python"])
def _each_parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = yaml.CSafeLoader if request.param == "libyaml" else yaml.SafeLoader
    monkeypatch.setattr(yaml_reader, "LOADER", loader)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("2.0e-3", 0.002),
        (".5", 0.5),
        ("-3", -3),
        ("+3", 3),
        ("010", 10),
        ("0x1F", 31),
        ("0o17", 15),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"),
        ("no", "no"),
        ("on", "on"),
        ("yes", "yes"),
        ("off", "off"),
        ("true", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("-.INF", -math.inf),
        (".inf", math.inf),
        ("'3'", "3"),
        ('"true"', "true"),
        ("!!str 3", "3"),
        ("!!float 3.5", 3.5),
        ("! 3", "3"),
        ("=", "="),
    ],
)
def test_a_scalar_means_what_the_core_schema_of_yaml_1_2_says(text: str, value: object) -> None:
    found = values(f"a: {text}")["a"]
    assert (type(found), found) == (type(value), value)


def test_nan_is_a_number() -> None:
    assert math.isnan(values("a: .nan")["a"])


def test_sequences_become_tuples_and_mappings_keep_their_order() -> None:
    assert list(values("b: [1, [x]]\na: {}").items()) == [("b", (1, ("x",))), ("a", {})]


def test_keys_and_values_remember_their_line_and_column() -> None:
    tree = read_tree("train:\n  optimizer: {name: adamw, lr: 3}\n  list:\n  - é: x\n", START)
    assert tree is not None
    lr = entry_at(tree, ("train", "optimizer", "lr"))
    assert lr is not None
    assert (lr.key, lr.node.place) == (Place(2, 28, "r.yaml"), Place(2, 32, "r.yaml"))
    assert place_at(tree, ("train", "list", 0, "é")) == Place(4, 8, "r.yaml")


def test_what_is_missing_is_placed_at_the_nearest_thing_above_it() -> None:
    tree = read_tree("a: 1\nb:\n  c: {d: 1}\n", START)
    assert tree is not None
    assert place_at(tree, ("b", "c", "x", "y")) == Place(3, 3, "r.yaml")
    assert place_at(tree, ("x",)) == Place(1, 1, "r.yaml")


def test_an_alias_has_its_own_place_and_the_values_of_its_anchor() -> None:
    tree = read_tree("a: &x {b: 1}\nc: [*x]\n", START)
    assert tree is not None
    assert plain(tree) == {"a": {"b": 1}, "c": ({"b": 1},)}
    assert place_at(tree, ("c", 0, "b")) == Place(1, 11, "r.yaml")


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 20))


@pytest.mark.usefixtures("_each_parser")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\n---\nb: 2\n", "r.yaml:2:1: a second document begins; a recipe is one"),
        ("[" * 40, "r.yaml:1:33: nested more than 32 levels deep"),
        ("[" * 100_000, "r.yaml:1:33: nested more than 32 levels deep"),
        (
            "a: &a [[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]\nb: [[[[[[[[[[[[*a]]]]]]]]]]]]",
            "nested more than 32 levels",
        ),
        ("[" + "1, " * 20_001 + "]", "more than 20,000 values, aliases written out"),
        (BOMB, "more than 20,000 values, aliases written out"),
        ("a: &x [*x]", "r.yaml:1:8: the alias '*x' stands inside what it names"),
        ("a: *x", "r.yaml:1:4: the alias '*x' names no anchor above it"),
        (
            "a: !!python/object:os.system {}",
            "r.yaml:1:4: the tag 'tag:yaml.org,2002:python/object:os.system' is not read",
        ),
        ("a: !mine 3", "r.yaml:1:4: the tag '!mine' is not read here; take it away"),
        ("a: !!int x", "r.yaml:1:4: the tag 'tag:yaml.org,2002:int' is not read here; take it away"),
        ("a: !!set {x}", "r.yaml:1:4: the tag 'tag:yaml.org,2002:set' is not read here; take it away"),
        ("a: &x {b: 1}\nc:\n  <<: *x", "r.yaml:3:3: merge keys are not read; write the keys out"),
        ("a: 1\nb: 2\na: 3", "r.yaml:3:1: the key 'a' stands here a second time; the first is on line 1"),
        ("3: x", "r.yaml:1:1: a key must be a text, found the number 3; write it in quotes"),
        ("true: x", "r.yaml:1:1: a key must be a text, found true; write it in quotes"),
        ("? [a]\n: b", "r.yaml:1:3: a key must be a text"),
        ("a: " + "9" * 5_000, "r.yaml:1:4: a number of 5,000 characters; 400 are the most that is read"),
        ("a: 0x" + "f" * 5_000, "r.yaml:1:4: a number of 5,002 characters"),
        ('a: "\\0"', "r.yaml:1:4: the text holds a character that no file can hold"),
        ("a: \x07", "r.yaml:1:4: the character U+0007 cannot stand in YAML"),
        ("a:\n\t- b", "r.yaml:2:1: not YAML: "),
        ("a: [1, 2\n\n", "r.yaml:1:4: not YAML: "),
        ('a: "b\n', "r.yaml:1:4: not YAML: "),
        ("a: b: c", "r.yaml:1:5: not YAML: "),
    ],
)
def test_what_is_not_a_recipes_kind_of_yaml_is_refused_at_its_place(text: str, message: str) -> None:
    assert message in refusal(text)


@pytest.mark.usefixtures("_each_parser")
@pytest.mark.parametrize(
    "text", ['a: "\\ud800"', 'a: "\\UFFFFFFFF"', "%YAML 9.9\n---\na: 1", "a: !<tag:x>y 1", "%TAG ! x"]
)
def test_an_odd_escape_or_directive_is_a_problem_and_no_crash(text: str) -> None:
    assert refusal(text).startswith("r.yaml")


def test_a_tab_that_indents_is_named() -> None:
    assert refusal("a:\n\tb: 1").endswith("; indent with spaces, not with tabs")


def test_bytes_that_are_not_utf_8_are_placed() -> None:
    with pytest.raises(RecipeError, match=r"r\.yaml:2:5: byte 0xff is not UTF-8") as refused:
        decoded("a: 1\né: ".encode() + b"x\xff", "r.yaml")
    assert refused.value.problems[0].column == 5


def test_a_byte_order_mark_is_passed_over() -> None:
    assert decoded(b"\xef\xbb\xbfa: 1", "r.yaml") == "a: 1"


def test_a_file_over_one_mebibyte_is_refused() -> None:
    with pytest.raises(RecipeError, match="larger than 1 MiB"):
        decoded(b" " * (2**20 + 1), "r.yaml")


@pytest.mark.parametrize("text", ["", "\n", "# only a comment\n"])
def test_a_file_without_a_document_has_no_tree(text: str) -> None:
    assert read_tree(text, START) is None


def test_an_alias_bomb_takes_no_memory() -> None:
    before = sys.getallocatedblocks()
    refusal(BOMB)
    assert sys.getallocatedblocks() - before < 20_000  # written out it would be 2 × 9¹⁹ values


def test_without_a_line_every_place_is_the_origin() -> None:
    tree = read_tree("{a: [1, 2]}", Place(0, 0, "--set x={a: [1, 2]}"))
    assert tree is not None
    assert place_at(tree, ("a", 1)) == Place(0, 0, "--set x={a: [1, 2]}")


KEYS: Final = st.text(max_size=80)
"""YAML 1.1 ends a key in braces after 1,024 bytes, and JSON escapes a character as twelve of them."""

TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**300), 10**300) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


def as_tuples(value: object) -> object:
    if isinstance(value, list):
        return tuple(as_tuples(item) for item in value)
    return {key: as_tuples(item) for key, item in value.items()} if isinstance(value, dict) else value


@given(TREES)
def test_json_is_read_as_what_it_says(value: object) -> None:
    text = json.dumps(value)
    if any(mark in text for mark in ("Infinity", "\\u0000", "\\ud", "\\u007f", '"<<"')):
        return  # no JSON, refused by design, or a surrogate pair, which YAML writes in another way
    assert values(text) == as_tuples(value)
