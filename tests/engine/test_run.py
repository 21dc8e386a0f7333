"""What becomes of a plan: steps, own gates, failures, resumes."""

from pathlib import Path

import pytest
from small_world import World, Writing, no_difference, outcomes, step

from mlctl.engine.figures import Figure, Kind
from mlctl.engine.making import RunOptions
from mlctl.engine.run import Runner
from mlctl.engine.sources import SourceLedger
from mlctl.engine.stage import Step, Work
from mlctl.errors import (
    ArtifactDamaged,
    DataError,
    Diverged,
    Interrupted,
    MachineError,
    MlctlError,
    OutOfMemory,
    StepFailed,
)
from mlctl.events import Note, StepAborted, StepFinished, StepReused, StepSkipped, StepStarted, Warned


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def failing(error: BaseException, checkpoint: str = "") -> Step[Path]:
    """A step that writes, leaves a checkpoint, and fails."""

    def fail(work: Work) -> None:
        if checkpoint:
            (work.resume / checkpoint).write_text("")
        raise error

    return step("broken", also=fail)


def test_a_run_makes_everything_in_order_and_tells(world: World) -> None:
    one = step("one", also=lambda work: work.tell(Note("halfway")))
    two = step("two", one)
    verdict = world.run(world.life(one, two))
    assert outcomes(verdict) == [("one", "ran"), ("two", "ran")]
    assert verdict.exit_code == 0
    assert [type(event) for event in world.events] == [StepStarted, Note, StepFinished, StepStarted, StepFinished]
    assert world.events[0] == StepStarted("one", "run", ("never made",))
    assert (world.made(world.life(one, two), "two").folder / "text.txt").read_text() == "two|one"


def test_a_second_run_only_reuses(world: World) -> None:
    ran: list[str] = []
    one = step("one", also=lambda work: ran.append("one"))
    first = world.run(world.life(one))
    world.events.clear()
    second = world.run(world.life(one))
    assert ran == ["one"]
    assert outcomes(second) == [("one", "reused")]
    assert second.steps[0].figures == first.steps[0].figures
    assert second.steps[0].seconds == 0
    assert world.events == [StepReused("one")]


def test_a_failure_stops_the_run(world: World) -> None:
    broken = failing(Diverged("the loss is nan"))
    verdict = world.run(world.life(step("one"), broken, step("below", broken), step("aside")))
    assert outcomes(verdict) == [("one", "ran"), ("broken", "failed"), ("below", "skipped"), ("aside", "skipped")]
    assert [(each.kind, each.step, each.exit_code) for each in verdict.failures] == [("Diverged", "broken", 4)]
    assert verdict.exit_code == 4
    assert world.events[-3:] == [
        StepAborted("broken", "the loss is nan"),
        StepSkipped("below"),
        StepSkipped("aside"),
    ]


def test_keep_going_leaves_out_only_what_needs_the_failed_step(world: World) -> None:
    broken = failing(DataError("bad row"))
    below = step("below", broken)
    life = world.life(broken, below, step("further", below), step("aside"))
    verdict = world.run(life, keep_going=True)
    assert outcomes(verdict) == [
        ("broken", "failed"),
        ("below", "skipped"),
        ("further", "skipped"),
        ("aside", "ran"),
    ]
    assert verdict.exit_code == 3


def test_an_interrupt_stops_even_a_run_that_keeps_going(world: World) -> None:
    verdict = world.run(world.life(failing(Interrupted(15)), step("aside")), keep_going=True)
    assert outcomes(verdict) == [("broken", "failed"), ("aside", "skipped")]
    assert verdict.exit_code == 143


@pytest.mark.parametrize("keep_going", [False, True])
def test_a_failed_gate_of_a_step_stops_what_reads_it(world: World, keep_going: bool) -> None:
    """The artifact itself is kept: what is wrong with it can be looked at, and is not made again."""
    graph = step("graph", conditions=("length <= 3", "length >= 1"))
    life = world.life(graph, step("below", graph), step("aside"))
    verdict = world.run(life, keep_going=keep_going)
    assert outcomes(verdict) == [
        ("graph", "ran"),
        ("below", "skipped"),
        ("aside", "ran" if keep_going else "skipped"),
    ]
    assert [(gate.text, gate.outcome.value, gate.exit_code) for gate in verdict.gates] == [
        ("graph.length <= 3", "failed", 23),
        ("graph.length >= 1", "passed", 0),
    ]
    assert verdict.exit_code == 23
    assert outcomes(world.run(life))[0] == ("graph", "reused")
    assert world.run(life).exit_code == 23


def test_gates_at_the_end_are_judged_over_reused_figures_too(world: World) -> None:
    life = world.life(step("one"), gates=("one.length >= 3", "one.length > 3"))
    for _ in range(2):
        verdict = world.run(life)
        assert [gate.outcome.value for gate in verdict.gates] == ["passed", "failed"]
        assert verdict.exit_code == 23


def test_a_gate_over_a_step_that_was_skipped_is_not_measured(world: World) -> None:
    broken = failing(StepFailed("no"))
    verdict = world.run(world.life(broken, gates=("broken.length >= 3",)))
    assert [(gate.outcome.value, gate.note) for gate in verdict.gates] == [
        ("not measured", "broken.length was not measured")
    ]
    assert verdict.exit_code == 4


@pytest.mark.parametrize(
    ("error", "is_kept"),
    [
        (Interrupted(2), True),
        (MachineError("disk"), True),
        (OutOfMemory("the device is full"), True),
        (Diverged("nan"), False),
        (DataError("bad row"), False),
    ],
)
def test_only_what_could_succeed_later_keeps_its_checkpoint(world: World, error: MlctlError, is_kept: bool) -> None:
    life = world.life(failing(error, "checkpoint"))
    fingerprint = world.plan(life).steps[0].fingerprint
    world.run(life)
    assert world.store.can_resume(fingerprint) is is_kept
    assert list(world.store.artifacts()) == []
    assert not (world.store.root / "work" / fingerprint / "files").exists()


def test_a_bug_in_a_stage_goes_through_untouched_and_leaves_no_files(world: World) -> None:
    life = world.life(failing(KeyError("rows")))
    with pytest.raises(KeyError, match="rows"):
        world.run(life)
    assert list(world.store.root.glob("work/*/files")) == []


def test_a_resumed_step_finds_its_checkpoint_and_says_so(world: World) -> None:
    world.run(world.life(failing(Interrupted(15), "checkpoint")))
    seen: list[bool] = []
    life = world.life(step("broken", also=lambda work: seen.append((work.resume / "checkpoint").exists())))
    verdict = world.run(life)
    assert seen == [True]
    assert outcomes(verdict) == [("broken", "resumed")]
    assert world.made(life, "broken").manifest.made.resumed
    assert list((world.store.root / "work").iterdir()) == []


def test_a_forced_step_starts_from_the_beginning(world: World) -> None:
    world.run(world.life(failing(Interrupted(15), "checkpoint")))
    seen: list[bool] = []
    life = world.life(step("broken", also=lambda work: seen.append((work.resume / "checkpoint").exists())))
    assert outcomes(world.run(life, "broken")) == [("broken", "ran")]
    assert seen == [False]


def test_a_forced_step_that_comes_to_other_bytes_is_warned_of(world: World) -> None:
    """The stage breaks its promise here: its bytes depend on how often it ran."""
    runs: list[int] = []

    def wander(work: Work) -> None:
        runs.append(1)
        (work.folder / "count.txt").write_text(str(len(runs)))

    life = world.life(step("one", also=wander))
    world.run(life)
    world.run(life, "one")
    warnings = [event for event in world.events if isinstance(event, Warned)]
    assert warnings == [Warned("one: made again from the same inputs, other bytes in count.txt")]


def test_a_damaged_artifact_fails_its_step_until_it_is_forced(world: World) -> None:
    above = step("above")
    life = world.life(above, step("below", above))
    world.run(life)
    (world.made(life, "above").folder / "text.txt").write_text("twisted")
    verdict = world.run(life)
    assert outcomes(verdict) == [("above", "failed"), ("below", "skipped")]
    assert verdict.exit_code == 3
    assert outcomes(world.run(life, "above")) == [("above", "ran"), ("below", "reused")]


def test_a_damaged_input_is_found_before_it_is_read(world: World) -> None:
    """A flipped bit keeps the size, so only the reader's check of the bytes can find it."""
    above = step("above")
    world.run(world.life(above))
    file = world.made(world.life(above), "above").folder / "text.txt"
    file.write_text("abovE")
    life = world.life(above, step("below", above))
    verdict = world.run(life)
    assert outcomes(verdict) == [("above", "reused"), ("below", "failed")]
    assert [(each.kind, each.where, each.exit_code) for each in verdict.failures] == [("ArtifactDamaged", str(file), 3)]
    assert outcomes(world.run(life, "above")) == [("above", "ran"), ("below", "ran")]


def test_a_source_that_changes_while_it_is_read_fails_the_step(world: World, tmp_path: Path) -> None:
    """Otherwise the artifact would bear the fingerprint of content that it was not made from."""
    rows = tmp_path / "rows.csv"
    rows.write_text("before")
    life = world.life(step("prepare", sources=(rows,), also=lambda work: rows.write_text("after") and None))
    verdict = world.run(life)
    assert [(each.kind, each.what) for each in verdict.failures] == [
        ("DataError", "rows.csv changed while it was read")
    ]
    assert list(world.store.artifacts()) == []


def test_an_artifact_that_another_process_made_meanwhile_is_taken(world: World) -> None:
    """Planned while nothing was there, carried out when it is."""
    life = world.life(step("one"))
    early = world.plan(life)
    world.run(life)
    world.events.clear()
    verdict = world.carry_out(early)
    assert outcomes(verdict) == [("one", "reused")]
    assert verdict.steps[0].seconds == 0
    assert world.events == [StepStarted("one", "run", ("never made",)), StepReused("one")]


def test_a_full_disk_keeps_the_checkpoint_and_nothing_half_made(world: World) -> None:
    """`/dev/full` answers every write as a full disk does."""

    def fill(work: Work) -> None:
        (work.resume / "checkpoint").write_text("")
        Path("/dev/full").write_text("x")

    life = world.life(step("one", also=fill))
    verdict = world.run(life)
    assert [(each.kind, each.exit_code) for each in verdict.failures] == [("DiskFull", 5)]
    assert list(world.store.artifacts()) == []
    assert world.reasons(life)[0][1] == "resume"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError("100000 requested and 1008 written"), "DiskFull"),
        (PermissionError(13, "Permission denied", "/rows.csv"), "MachineError"),
        (OSError(30, "Read-only file system", "/rows.csv"), "MachineError"),
        (MemoryError(), "OutOfMemory"),
    ],
)
def test_refusals_of_the_system_are_told_in_our_words(world: World, error: Exception, kind: str) -> None:
    verdict = world.run(world.life(failing(error)))
    assert [failure.kind for failure in verdict.failures] == [kind]


def test_a_figure_that_is_not_a_number_fails_its_gate(world: World) -> None:
    figures = (Figure("loss", Kind.METRIC, float("nan")),)
    verdict = world.run(world.life(step("one", figures=figures), gates=("one.loss <= 1", "one.loss != 1")))
    assert [(gate.outcome.value, gate.exit_code) for gate in verdict.gates] == [("failed", 20), ("failed", 20)]


def test_a_gate_over_a_damaged_artifact_is_not_judged_from_it(world: World) -> None:
    life = world.life(step("one"), gates=("one.length >= 1", "one.length >= 2"))
    world.run(world.life(step("one")))
    (world.made(life, "one").folder / "text.txt").write_text("onE")
    verdict = world.run(life)
    assert [gate.outcome.value for gate in verdict.gates] == ["not measured", "not measured"]
    assert [failure.kind for failure in verdict.failures] == ["ArtifactDamaged"]
    assert verdict.exit_code == 3


def test_a_stage_without_reproducible_bytes_is_not_warned_of(world: World) -> None:
    class Timed(Writing):
        @property
        def is_reproducible(self) -> bool:
            return False

    runs: list[int] = []

    def wander(work: Work) -> None:
        runs.append(1)
        (work.folder / "count.txt").write_text(str(len(runs)))

    life = world.life(Step("one", Timed("one", also=wander)))
    world.run(life)
    world.run(life, "one")
    assert [event for event in world.events if isinstance(event, Warned)] == []


def test_a_damaged_artifact_is_an_error_that_names_the_cure(world: World) -> None:
    life = world.life(step("one"))
    world.run(life)
    artifact = world.made(life, "one")
    (artifact.folder / "text.txt").write_text("onE")
    with pytest.raises(ArtifactDamaged) as caught:
        artifact.verify()
    assert caught.value.next == "`mlctl run RECIPE --force one` makes it again"


def test_what_was_made_from_other_bytes_is_made_again(world: World) -> None:
    extra = ["first"]
    base = step("base", also=lambda work: (work.folder / "extra.txt").write_text(extra[0]) and None)
    below, aside = step("below", base), step("aside")
    life = world.life(base, below, aside)
    world.run(life)
    assert outcomes(world.run(life, "base"))[1:] == [("below", "reused"), ("aside", "reused")]
    extra[0] = "second"
    assert outcomes(world.run(life, "base")) == [("base", "ran"), ("below", "ran"), ("aside", "reused")]
    assert outcomes(world.run(life)) == [("base", "reused"), ("below", "reused"), ("aside", "reused")]


def test_a_plan_says_which_input_was_made_again(world: World) -> None:
    extra = ["first"]
    base = step("base", also=lambda work: (work.folder / "extra.txt").write_text(extra[0]) and None)
    life = world.life(base, step("below", base))
    world.run(life)
    extra[0] = "second"
    world.run(world.life(base), "base")
    assert world.reasons(life)[1] == ("below", "run", "its input base was made again with other bytes")


def test_a_signal_that_was_taken_for_a_failure_is_told_as_what_it_was(world: World) -> None:
    runner = Runner(
        world.store,
        SourceLedger(world.store.ledger),
        RunOptions(),
        tell=world.events.append,
        comparer=no_difference,
        interruption=lambda: Interrupted(15),
    )
    verdict = runner.run(world.plan(world.life(failing(Diverged("not traced")))), "run")
    assert [failure.kind for failure in verdict.failures] == ["Interrupted"]
    assert verdict.exit_code == 143


@pytest.mark.parametrize(
    ("is_kept", "forced", "next_step"),
    [
        (True, (), "run the same command again; it goes on where it stopped"),
        (False, (), "run the same command again"),
        (True, ("one",), "run the same command again"),  # which begins anew
    ],
)
def test_an_interrupt_says_that_it_goes_on_only_where_it_does(
    world: World, is_kept: bool, forced: tuple[str, ...], next_step: str
) -> None:
    def stop(work: Work) -> None:
        if is_kept:
            (work.resume / "position").write_text("7")
        raise Interrupted(2)

    verdict = world.run(world.life(step("one", also=stop)), *forced)
    assert [(failure.kind, failure.next) for failure in verdict.failures] == [("Interrupted", next_step)]
