"""What a plan says of every step, and why."""

import shutil
from pathlib import Path

import pytest
from small_world import World, Writing, step

from mlctl.engine.fingerprint import Identity, SourceFile
from mlctl.engine.reasons import (
    Damaged,
    Forced,
    InputChanged,
    Missing,
    New,
    Reason,
    RevisionChanged,
    SettingChanged,
    SourceChanged,
    Unfinished,
    differences,
)
from mlctl.engine.stage import Step, Work
from mlctl.errors import Interrupted, UsageError


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_new_step_was_never_made(world: World) -> None:
    assert world.reasons(world.life(step("one"))) == [("one", "run", "never made")]


def test_planning_makes_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    before = sorted(world.store.root.rglob("*"))
    world.reasons(world.life(step("one")))
    assert sorted(world.store.root.rglob("*")) == before


def test_a_made_step_is_reused_without_a_reason(world: World) -> None:
    life = world.life(step("one"))
    world.run(life)
    assert world.reasons(life) == [("one", "reuse", "")]


def test_a_changed_setting_is_named_with_both_values(world: World) -> None:
    before = {"epochs": 2, "model": {"arch": "mlp", "hidden": [4]}, "keep": None, "shuffle": True}
    after = {"epochs": 3, "model": {"arch": "mlp", "hidden": (4, 8)}, "keep": "loss", "bias": False}
    world.run(world.life(step("train", settings=before)))
    assert world.reasons(world.life(step("train", settings=after))) == [
        (
            "train",
            "run",
            "train.epochs: 2 → 3; train.model.hidden: [4] → [4, 8]; train.keep: null → loss; "
            "train.bias: absent → false; train.shuffle: true → absent",
        )
    ]


def test_a_list_that_became_a_tuple_did_not_change(world: World) -> None:
    world.run(world.life(step("train", settings={"hidden": [4, [1]]})))
    assert world.reasons(world.life(step("train", settings={"hidden": (4, (1,))}))) == [("train", "reuse", "")]


def test_a_change_above_is_an_input_that_changed(world: World) -> None:
    above = step("above")
    world.run(world.life(above, step("below", above)))
    changed = step("above", text="other")
    assert world.reasons(world.life(changed, step("below", changed)))[1] == (
        "below",
        "run",
        "its input above is another",
    )


def test_an_input_that_went_away_is_named(world: World) -> None:
    above = step("above")
    world.run(world.life(above, step("below", above)))
    assert world.reasons(world.life(above, step("below")))[1] == ("below", "run", "its input above is another")


def test_sources_that_changed_came_or_went_are_named(world: World, tmp_path: Path) -> None:
    one, two, three = (tmp_path / name for name in ("one.csv", "two.csv", "three.csv"))
    for path in (one, two, three):
        path.write_text(path.name)
    world.run(world.life(step("prepare", sources=(one, two))))
    one.write_text("changed")
    assert world.reasons(world.life(step("prepare", sources=(one, three)))) == [
        ("prepare", "run", "one.csv has other content; three.csv is new; two.csv is gone")
    ]


def test_a_new_revision_of_the_code_is_named(world: World) -> None:
    class Revised(Writing):
        revision = 2

    world.run(world.life(step("one")))
    life = world.life(Step("one", Revised("one")))
    assert world.reasons(life) == [("one", "run", "code of writing: revision 1 → 2")]


def test_an_artifact_that_was_taken_away_is_missed(world: World) -> None:
    life = world.life(step("one"))
    world.run(life)
    shutil.rmtree(world.made(life, "one").folder)
    assert world.reasons(life) == [("one", "run", "its artifact is no longer in the store")]


def test_a_damaged_artifact_is_told_by_file(world: World) -> None:
    life = world.life(step("one"))
    world.run(life)
    file = world.made(life, "one").folder / "text.txt"
    file.write_text("too long")
    assert world.reasons(life) == [("one", "run", f"damaged: {file} one: the file has 8 bytes where 3 were written")]


def test_a_forced_step_is_made_again(world: World) -> None:
    life = world.life(step("one"), step("two"))
    world.run(life)
    assert world.reasons(life, "two") == [("one", "reuse", ""), ("two", "run", "forced")]


def interrupted_halfway(work: Work) -> None:
    (work.resume / "checkpoint").write_text("half")
    raise Interrupted(15)


def test_an_unfinished_step_is_resumed(world: World) -> None:
    world.run(world.life(step("one", also=interrupted_halfway)))
    assert world.reasons(world.life(step("one"))) == [("one", "resume", "goes on where it stopped")]


def test_a_step_that_is_back_at_old_settings_is_reused(world: World) -> None:
    first, second = world.life(step("one")), world.life(step("one", text="other"))
    world.run(first)
    world.run(second)
    assert world.reasons(first) == [("one", "reuse", "")]


def test_the_reason_is_told_against_the_last_artifact_of_this_recipe(world: World) -> None:
    for text in ("first", "second"):
        world.run(world.life(step("one", text=text)))
    assert world.reasons(world.life(step("one", text="third")))[0][2] == "one.text: second → third"


def test_only_wanted_steps_are_planned(world: World) -> None:
    above = step("above")
    life = world.life(above, step("below", above), step("aside"))
    assert life.closure(["below"]) == {"above", "below"}


def test_an_unknown_step_is_refused_with_the_known_ones(world: World) -> None:
    with pytest.raises(UsageError, match="no step 'three'") as caught:
        world.life(step("one"), step("two")).step("three")
    assert caught.value.next == "its steps are: one, two"


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (New(), "never made"),
        (Missing(), "its artifact is no longer in the store"),
        (SettingChanged("train.epochs", "2", "3"), "train.epochs: 2 → 3"),
        (InputChanged("data"), "its input data is another"),
        (SourceChanged("rows.csv", "has other content"), "rows.csv has other content"),
        (RevisionChanged("train", 1, 2), "code of train: revision 1 → 2"),
        (Damaged("damaged: model.onnx is missing"), "damaged: model.onnx is missing"),
        (Forced(), "forced"),
        (Unfinished(), "goes on where it stopped"),
    ],
)
def test_every_reason_is_a_phrase(reason: Reason, text: str) -> None:
    assert str(reason) == text


def test_equal_identities_do_not_differ() -> None:
    identity = Identity("train", 1, {"epochs": 2}, {"data": "f"}, (SourceFile("a", "b", 1),))
    assert differences("train", identity, identity) == ()
