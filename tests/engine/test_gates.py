import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_world import World, step

from mlctl.engine.figures import Figure, FigureName, Kind
from mlctl.engine.gates import Difference, Gate, GateResult, Outcome, judge
from mlctl.engine.memory import GateMemory
from mlctl.engine.verdict import Failure, Verdict
from mlctl.errors import ArtifactDamaged, Diverged, Interrupted, Problem, RecipeError


def measured(**values: float) -> dict[FigureName, Figure]:
    """Figures of the step `m`."""
    return {FigureName("m", None, name): Figure(name, Kind.METRIC, value) for name, value in values.items()}


def judged(
    text: str,
    figures: dict[FigureName, Figure],
    difference: Difference | None = None,
    confidence: float | None = None,
) -> GateResult:
    return judge(Gate.of(text, confidence), figures, lambda gate: difference)


def interval(low: float, high: float, more: int | None = None) -> Difference:
    return Difference(low, high, 0.95, "wilson", 100, more_samples=more)


def test_a_gate_that_holds_passes_and_shows_both_sides() -> None:
    result = judged("m.a >= m.b - 0.5", measured(a=1.0, b=1.25))
    assert (result.outcome, result.exit_code, result.left, result.right) == (Outcome.PASSED, 0, 1.0, 0.75)


@pytest.mark.parametrize(
    ("kind", "code"),
    [(Kind.METRIC, 20), (Kind.PARITY, 21), (Kind.LATENCY, 22), (Kind.SIZE, 23), (Kind.DRIFT, 24)],
)
def test_a_gate_that_fails_has_the_code_of_its_first_figure(kind: Kind, code: int) -> None:
    figures = measured(b=1.0) | {FigureName("m", None, "a"): Figure("a", kind, 2.0)}
    result = judged("m.a <= m.b", figures)
    assert (result.outcome, result.exit_code) == (Outcome.FAILED, code)


def test_a_gate_whose_figure_is_missing_is_not_measured() -> None:
    result = judged("m.a <= m.b + m.c", measured(a=1.0))
    assert (result.outcome, result.exit_code, result.note) == (Outcome.NOT_MEASURED, 0, "m.b, m.c was not measured")


def test_a_division_by_zero_fails_with_a_note() -> None:
    result = judged("m.a / m.b <= 1", measured(a=1.0, b=0.0))
    assert (result.outcome, result.exit_code, result.note) == (Outcome.FAILED, 20, "the gate divides by zero")


@pytest.mark.parametrize("symbol", ["<=", ">=", "<", ">", "==", "!="])
def test_no_gate_holds_over_nan(symbol: str) -> None:
    assert judged(f"m.a {symbol} 1", measured(a=float("nan"))).outcome is Outcome.FAILED
    assert judged(f"1 {symbol} m.a", measured(a=float("nan"))).outcome is Outcome.FAILED


def test_a_plain_gate_compares_figures_and_shows_the_interval() -> None:
    result = judged("m.a >= 0.9", measured(a=0.95), interval(-0.1, 0.2))
    assert result.outcome is Outcome.PASSED
    assert result.difference == interval(-0.1, 0.2)


@pytest.mark.parametrize(
    ("symbol", "low", "high", "outcome"),
    [
        (">=", 0.1, 0.2, Outcome.PASSED),
        (">=", 0.0, 0.2, Outcome.PASSED),
        (">", 0.0, 0.2, Outcome.INCONCLUSIVE),
        (">=", -0.2, 0.0, Outcome.INCONCLUSIVE),
        (">", -0.2, 0.0, Outcome.FAILED),
        (">=", -0.2, -0.1, Outcome.FAILED),
        (">=", -0.1, 0.1, Outcome.INCONCLUSIVE),
        (">=", 0.0, 0.0, Outcome.PASSED),
        (">", 0.0, 0.0, Outcome.FAILED),
        ("<=", -0.2, -0.1, Outcome.PASSED),
        ("<=", -0.2, 0.0, Outcome.PASSED),
        ("<", -0.2, 0.0, Outcome.INCONCLUSIVE),
        ("<=", 0.1, 0.2, Outcome.FAILED),
        ("<", 0.0, 0.2, Outcome.FAILED),
    ],
)
def test_with_a_confidence_the_interval_decides(symbol: str, low: float, high: float, outcome: Outcome) -> None:
    result = judged(f"m.a {symbol} 0.9", measured(a=0.95), interval(low, high), confidence=0.95)
    codes = {Outcome.PASSED: 0, Outcome.FAILED: 20, Outcome.INCONCLUSIVE: 25}
    assert (result.outcome, result.exit_code) == (outcome, codes[outcome])


@given(st.sampled_from([">=", ">", "<=", "<"]), st.floats(-1, 1), st.floats(-1, 1))
def test_an_interval_decides_exactly_when_all_of_it_agrees(symbol: str, one: float, two: float) -> None:
    low, high = sorted((one, two))
    result = judged(f"m.a {symbol} 0", measured(a=0.0), interval(low, high), confidence=0.9)
    inside = [low, (low + high) / 2, high]
    holds = {judged(f"m.a {symbol} 0", measured(a=each)).outcome is Outcome.PASSED for each in inside}
    if result.outcome is Outcome.INCONCLUSIVE:
        assert holds == {True, False}
    else:
        assert holds == {result.outcome is Outcome.PASSED}


@pytest.mark.parametrize(
    ("text", "difference", "note"),
    [
        ("m.a >= 0.9", None, "these figures have no per-sample results to compare"),
        ("m.a == 0.9", interval(0.1, 0.2), "an interval cannot decide == or !=; write >= or <="),
        ("m.a >= 0.9", interval(-0.1, 0.2, 1234), "about 1,234 more samples would decide"),
        ("m.a >= 0.9", interval(-0.1, 0.2), "no number of samples would decide"),
    ],
)
def test_an_inconclusive_gate_says_what_would_decide(text: str, difference: Difference | None, note: str) -> None:
    result = judged(text, measured(a=0.95), difference, confidence=0.95)
    assert (result.outcome, result.exit_code, result.note) == (Outcome.INCONCLUSIVE, 25, note)


def result(code: int) -> GateResult:
    return GateResult("g", Outcome.FAILED if code else Outcome.PASSED, code)


@pytest.mark.parametrize(
    ("failures", "gates", "code"),
    [
        ([], [], 0),
        ([], [0, 0], 0),
        ([], [0, 22, 20], 22),
        ([], [25, 23], 23),
        ([], [25, 0], 25),
        ([4], [20], 4),
        ([143], [], 143),
        ([3, 4], [25], 3),
    ],
)
def test_a_failure_goes_before_a_gate_and_a_failed_gate_before_an_inconclusive_one(
    failures: list[int], gates: list[int], code: int
) -> None:
    found = tuple(Failure("K", "what", None, "next", each) for each in failures)
    verdict = Verdict("0", "run", None, gates=tuple(map(result, gates)), failures=found)
    assert verdict.exit_code == code
    assert verdict.to_json()["exit_code"] == code
    assert verdict.to_json()["passed"] is (code == 0)


def test_a_verdict_is_strict_json_even_over_nan() -> None:
    nan = float("nan")
    gate = GateResult("g", Outcome.FAILED, 20, left=nan, right=1.0, difference=interval(nan, float("inf")))
    text = json.dumps(Verdict("0", "run", "r.yaml", gates=(gate,)).to_json(), allow_nan=False)
    assert json.loads(text)["gates"][0]["right"] == 1.0


def test_a_failure_carries_what_its_error_said() -> None:
    error = Diverged("the loss is nan", where="train", next="lower it")
    assert Failure.of(error, "train") == Failure("Diverged", "the loss is nan", "train", "lower it", 4, "train")
    assert Failure.of(Interrupted(15)).exit_code == 143
    problem = Problem(3, 5, "r.yaml", "train.epochs", "must be at least 1")
    assert Failure.of(RecipeError((problem,))).problems == (
        {"line": 3, "column": 5, "file": "r.yaml", "path": "train.epochs", "message": "must be at least 1"},
    )


class TestMemory:
    """Intervals are computed once for the same gate over the same artifacts."""

    @pytest.fixture
    def world(self, tmp_path: Path) -> World:
        world = World(tmp_path)
        world.run(world.life(step("m")))
        return world

    def ask(self, world: World, gate: Gate, found: Difference | None, asked: list[str]) -> Difference | None:
        """What a new process gets to know, which notes in `asked` what it had to compute."""

        def compare(gate: Gate, folders: object) -> Difference | None:
            asked.append(gate.text)
            return found

        memory = GateMemory(world.store.root / "gates", compare)
        return memory.difference(gate, {"m": world.made(world.life(step("m")), "m")})

    @pytest.mark.parametrize("found", [interval(0.1, 0.2, 7), None])
    def test_an_answer_is_remembered(self, world: World, found: Difference | None) -> None:
        asked: list[str] = []
        for _ in range(2):
            assert self.ask(world, Gate.of("m.a >= 1"), found, asked) == found
        assert asked == ["m.a >= 1"]

    def test_another_confidence_is_another_question(self, world: World) -> None:
        asked: list[str] = []
        for confidence in (None, 0.9, 0.95, 0.9):
            self.ask(world, Gate.of("m.a >= 1", confidence), interval(0.1, 0.2), asked)
        assert len(asked) == 3

    @pytest.mark.parametrize("text", ["", "[1]", '{"low": 1}', "[" * 100_000])
    def test_a_corrupt_answer_is_computed_again(self, world: World, text: str) -> None:
        asked: list[str] = []
        self.ask(world, Gate.of("m.a >= 1"), interval(0.1, 0.2), asked)
        (place,) = (world.store.root / "gates").iterdir()
        place.write_text(text)
        assert self.ask(world, Gate.of("m.a >= 1"), interval(0.1, 0.2), asked) == interval(0.1, 0.2)
        assert len(asked) == 2

    def test_nothing_is_computed_from_a_damaged_artifact(self, world: World) -> None:
        (world.made(world.life(step("m")), "m").folder / "text.txt").write_text("M")
        asked: list[str] = []
        with pytest.raises(ArtifactDamaged):
            self.ask(world, Gate.of("m.a >= 1"), None, asked)
        assert asked == []
