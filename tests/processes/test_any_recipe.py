"""Any bytes as a recipe: a documented exit code, a message when it is not 0, never a traceback."""

import contextlib
import io
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mlctl.cli.boundary import run

DIGITS = (Path(__file__).parents[2] / "recipes" / "digits.yaml").read_bytes()
DOCUMENTED = {0, 2, 3, 5}
PIECES = (
    b":", b"-", b"{", b"}", b"[", b"]", b"&a", b"*a", b"<<", b"!!python/object:os.system", b"null", b"~", b"0x1f",
    b"1e999", b".nan", b"-1", b"2026-01-01", b"'", b'"', b"\n", b"\t", b"\x00", b"\xff", b"|", b">", b"%", b"#",
    b"train:", b"export:", b"  epochs: 3", b"gates:", b"yes", b"99999999999999999999", b"\xe2\x80\xa8", b"---\n",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("recipes")
    (folder / "data").mkdir()
    (folder / "data" / "digits.csv.gz").write_bytes(b"")
    yield folder
    assert sorted(path.name for path in folder.iterdir()) == ["data", "recipe.yaml"]


def mutated(seed: int, count: int) -> bytes:
    """The shipped recipe with pieces put in, taken out, repeated or moved."""
    dice, text = random.Random(seed), bytearray(DIGITS)
    for _ in range(count):
        start = dice.randrange(len(text) + 1)
        end = min(len(text), start + dice.randrange(1, 30))
        match dice.randrange(4):
            case 0:
                text[start:start] = dice.choice(PIECES)
            case 1:
                del text[start:end]
            case 2:
                text[start:end] = dice.choice(PIECES)
            case _:
                place = dice.randrange(len(text) + 1)
                text[place:place] = text[start:end]
        if not text:
            break
    return bytes(text)


mutations = st.builds(mutated, st.integers(0, 2**32), st.integers(1, 6))


@settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mutations | st.binary(max_size=300))
@example(DIGITS)
@example(b"")
@example(b"\xff\xfe\x00")
@example(b"[" * 5000)
@example(b"a: &a [*a]")
@example(b"{" * 2000)
def test_any_bytes_are_answered(folder: Path, recipe: bytes) -> None:
    path = folder / "recipe.yaml"
    path.write_bytes(recipe)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(["plan", str(path)])
    assert code in DOCUMENTED, err.getvalue()
    assert "Traceback" not in err.getvalue()
    if code:
        assert err.getvalue().strip()
        assert "next: " in err.getvalue()
    else:
        assert out.getvalue().strip()
