from pathlib import Path

import pytest
from small_world import World, step

from mlctl.engine.collection import Garbage, collect, garbage, remember_recipe, remembered_recipes
from mlctl.engine.stage import Work
from mlctl.errors import DataError, Interrupted


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.run(world.life(step("old")))
    world.run(world.life(step("needed")))
    return world


def fingerprint(world: World, name: str) -> str:
    return world.plan(world.life(step(name))).steps[0].fingerprint


def found(world: World) -> list[Garbage]:
    return list(garbage(world.store, {fingerprint(world, "needed")}))


def test_what_is_needed_is_no_garbage(world: World) -> None:
    (each,) = found(world)
    assert (each.fingerprint, each.what) == (fingerprint(world, "old"), "old")
    # text.txt and nested/more.txt, and the manifest
    assert each.bytes == 3 + 4 + (each.folder / "manifest.json").stat().st_size


def test_looking_removes_nothing(world: World) -> None:
    assert found(world) == found(world)
    assert len(list(world.store.artifacts())) == 2


def test_what_is_collected_is_gone_without_a_trace(world: World) -> None:
    assert all(collect(world.store, each) for each in found(world))
    assert [folder.name for folder in world.store.artifacts()] == [fingerprint(world, "needed")]
    assert list((world.store.root / "work").iterdir()) == []


def test_what_a_process_works_on_stays(world: World) -> None:
    """Locks are of open files, not of processes, so that a second handle in this one meets them too."""
    (each,) = found(world)
    with world.store.locked(each.fingerprint, on_wait=lambda: pytest.fail("nobody else holds it")):
        assert not collect(world.store, each)
    assert each.folder.exists()
    assert collect(world.store, each)


def half(work: Work) -> None:
    (work.resume / "checkpoint").write_text("12345")
    raise Interrupted(15)


def test_unfinished_work_that_nobody_needs_is_garbage(world: World) -> None:
    world.run(world.life(step("unfinished", also=half)))
    each = next(each for each in found(world) if each.what == "unfinished work")
    assert (each.fingerprint, each.bytes) == (fingerprint(world, "unfinished"), 5)
    assert collect(world.store, each)
    assert not world.store.can_resume(each.fingerprint)


def test_unfinished_work_that_is_needed_stays(world: World) -> None:
    world.run(world.life(step("unfinished", also=half)))
    needed = {fingerprint(world, name) for name in ("needed", "old", "unfinished")}
    assert list(garbage(world.store, needed)) == []


def test_what_a_killed_collection_left_is_garbage(world: World) -> None:
    old = fingerprint(world, "old")
    (world.store.root / "work" / old).mkdir()
    (world.store.root / "artifacts" / old).rename(world.store.root / "work" / old / "discarded")
    (each,) = found(world)
    assert each.fingerprint == old
    assert collect(world.store, each)
    assert list((world.store.root / "work").iterdir()) == []


def test_an_unreadable_artifact_is_garbage_too(world: World) -> None:
    (world.store.root / "artifacts" / fingerprint(world, "old") / "manifest.json").write_text("{")
    assert [each.what for each in found(world)] == ["unreadable"]


def test_recipes_are_remembered_once_and_as_long_as_they_exist(world: World, tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text("")
        for _ in range(2):
            remember_recipe(world.store, tmp_path / name)
    assert set(remembered_recipes(world.store)) == {tmp_path / "a.yaml", tmp_path / "b.yaml"}
    (tmp_path / "a.yaml").unlink()
    assert remembered_recipes(world.store) == (tmp_path / "b.yaml",)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"path": 1}', "\xff"])
def test_a_damaged_note_stops_the_collection(world: World, tmp_path: Path, text: str) -> None:
    """Taking it for nothing would make garbage of a recipe's artifacts."""
    (tmp_path / "a.yaml").write_text("")
    remember_recipe(world.store, tmp_path / "a.yaml")
    (note,) = (world.store.root / "recipes").iterdir()
    note.write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match="note of a recipe") as caught:
        remembered_recipes(world.store)
    assert caught.value.where == str(note)


def test_a_store_that_was_never_made_remembers_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    store = type(world.store)(tmp_path / "nowhere")
    assert remembered_recipes(store) == ()
    assert list(garbage(store, set())) == []
