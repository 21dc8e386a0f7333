"""Labels move forward and back, whatever was done before and wherever a process was killed."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from published_models import candidates, triton_config

from mlctl.errors import ArtifactDamaged, DataError, UsageError
from mlctl.serving.repository import history, labels
from mlctl.serving.repository.history import happened
from mlctl.serving.repository.promotion import promote, roll_back
from mlctl.serving.repository.publishing import publish
from mlctl.serving.repository.repository import Repository


def silent() -> None:
    pass


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Model `m` with the versions 1 to 4, none of them labelled."""
    found = Repository(tmp_path / "repository")
    for each in candidates(tmp_path / "artifacts", 4):
        publish(found, each)
    return found


def test_a_rollback_goes_back_and_a_second_one_further(repository: Repository) -> None:
    for version in (1, 2, 4):
        promote(repository, "m", version, on_wait=silent)
    assert [roll_back(repository, "m", on_wait=silent).version for _ in range(2)] == [2, 1]
    with pytest.raises(UsageError, match="production pointed nowhere before version 1"):
        roll_back(repository, "m", on_wait=silent)
    assert repository.live_version("m") == 1
    promote(repository, "m", 3, on_wait=silent)
    assert roll_back(repository, "m", on_wait=silent).version == 1


def test_a_promotion_to_the_version_before_is_no_rollback(repository: Repository) -> None:
    for version in (1, 2, 1):
        promote(repository, "m", version, on_wait=silent)
    assert roll_back(repository, "m", on_wait=silent).version == 2


def test_a_live_version_that_is_gone_keeps_nobody_from_publishing(repository: Repository, tmp_path: Path) -> None:
    promote(repository, "m", 2, on_wait=silent)
    shutil.rmtree(repository.root / "m" / "2")
    found = publish(repository, candidates(tmp_path / "more", 5)[4])
    assert (found.version, found.live, found.has_config) == (5, None, False)
    promote(repository, "m", 5, on_wait=silent)
    assert repository.live_version("m") == 5


def test_labels_that_cannot_be_read_are_refused_before_anything_is_written(
    repository: Repository, tmp_path: Path
) -> None:
    (repository.root / "m" / labels.FILE_NAME).write_text("{")
    with pytest.raises(ArtifactDamaged):
        publish(repository, candidates(tmp_path / "more", 5)[4], ["production"])
    assert repository.versions("m") == (1, 2, 3, 4)


def test_labels_go_their_own_ways(repository: Repository) -> None:
    promote(repository, "m", 1, on_wait=silent)
    promote(repository, "m", 3, "canary", on_wait=silent)
    promote(repository, "m", 4, "canary", on_wait=silent)
    assert roll_back(repository, "m", "canary", on_wait=silent).version == 3
    assert repository.labels("m") == {"production": 1, "canary": 3}
    with pytest.raises(UsageError, match="staging was never set"):
        roll_back(repository, "m", "staging", on_wait=silent)


def damage(repository: Repository, version: int) -> None:
    """Turn one bit of the version's graph."""
    graph = repository.root / "m" / str(version) / "model.onnx"
    content = bytearray(graph.read_bytes())
    content[-1] ^= 1
    graph.chmod(0o644)
    graph.write_bytes(content)


def test_what_is_damaged_names_a_version_that_is_whole_and_can_be_promoted(repository: Repository) -> None:
    for version in (1, 2, 3):
        promote(repository, "m", version, on_wait=silent)
    damage(repository, 2)
    damage(repository, 4)
    with pytest.raises(ArtifactDamaged, match="other bytes than were published") as back:
        roll_back(repository, "m", on_wait=silent)
    assert "production stays where it is; `mlctl promote m@1 --as production`" in back.value.next
    with pytest.raises(ArtifactDamaged) as forward:
        promote(repository, "m", 4, on_wait=silent)
    assert "`mlctl promote m@1 --as production`" in forward.value.next
    assert repository.live_version("m") == 3
    promote(repository, "m", 1, on_wait=silent)
    assert repository.live_version("m") == 1


def test_where_all_others_are_damaged_nothing_but_a_new_version_is_named(repository: Repository) -> None:
    for version in (1, 2):
        promote(repository, "m", version, on_wait=silent)
    for version in (1, 3, 4):
        damage(repository, version)
    with pytest.raises(ArtifactDamaged) as back:
        roll_back(repository, "m", on_wait=silent)
    assert "mlctl promote" not in back.value.next
    assert "mlctl rollback" not in back.value.next
    assert "`mlctl publish RECIPE --to REPOSITORY --again` writes it anew" in back.value.next


def test_a_rollback_passes_over_versions_that_are_gone(repository: Repository) -> None:
    for version in (1, 2, 3):
        promote(repository, "m", version, on_wait=silent)
    shutil.rmtree(repository.root / "m" / "2")
    assert roll_back(repository, "m", on_wait=silent).version == 1


def test_what_is_not_there_is_not_promoted(repository: Repository) -> None:
    with pytest.raises(DataError, match="no version 9"):
        promote(repository, "m", 9, on_wait=silent)
    with pytest.raises(DataError, match="no version 1 of 'nowhere'"):
        promote(repository, "nowhere", 1, on_wait=silent)
    assert not (repository.root / "nowhere").exists()
    assert repository.labels("m") == {}


def test_history_says_who_moved_what_and_when(repository: Repository) -> None:
    promote(repository, "m", 1, on_wait=silent)
    promote(repository, "m", 1, on_wait=silent)
    promote(repository, "m", 2, on_wait=silent)
    roll_back(repository, "m", on_wait=silent)
    events = [each for each in repository.history("m") if each.label]
    assert [(each.what, each.before, each.version) for each in events] == [
        ("promoted", None, 1),
        ("promoted", 1, 2),
        ("rolled back", 2, 1),
    ]
    assert all("@" in each.who and each.when.endswith("+00:00") for each in events)


def test_triton_is_told_of_the_live_version_at_every_move(repository: Repository) -> None:
    def told() -> list[int]:
        return list(triton_config(repository.root).version_policy.specific.versions)

    assert told() == [4]
    promote(repository, "m", 2, on_wait=silent)
    assert told() == [2]
    promote(repository, "m", 3, "canary", on_wait=silent)
    assert told() == [2]
    promote(repository, "m", 1, on_wait=silent)
    roll_back(repository, "m", on_wait=silent)
    assert told() == [2]


STEPS = st.lists(st.one_of(st.integers(1, 5), st.just("back")), max_size=20)


@given(STEPS)
def test_the_way_back_is_that_of_a_pile_of_versions(steps: "list[int | str]") -> None:
    """Against the simplest model: a promotion is put on a pile, a rollback takes the topmost off."""
    pile: list[int] = []
    events: list[history.Event] = []
    for step in steps:
        before = pile[-1] if pile else None
        if isinstance(step, int):
            if before != step:
                pile.append(step)
                events.append(happened("promoted", version=step, label="production", before=before))
        elif len(pile) > 1:
            pile.pop()
            events.append(happened("rolled back", version=pile[-1], label="production", before=before))
        assert labels.pointed("production", events, pile[-1] if pile else None) == pile


@given(STEPS, st.data())
def test_a_move_that_history_does_not_tell_is_found_all_the_same(steps: "list[int | str]", data: st.DataObject) -> None:
    """Lost lines, as those of killed processes: where two lost lines never stand side by side, nothing is forgotten."""
    pile: list[int] = []
    events: list[history.Event] = []
    was_lost = False
    for step in steps:
        before = pile[-1] if pile else None
        if isinstance(step, int):
            # A promotion to the version before cannot be told from a rollback once its line is lost.
            if before == step or step in pile[-2:-1]:
                continue
            pile.append(step)
            event = happened("promoted", version=step, label="production", before=before)
        elif len(pile) > 1:
            pile.pop()
            event = happened("rolled back", version=pile[-1], label="production", before=before)
        else:
            continue
        was_lost = not was_lost and data.draw(st.booleans())
        if not was_lost:
            events.append(event)
        assert labels.pointed("production", events, pile[-1]) == pile


def test_two_readers_see_the_old_labels_or_the_new_ones() -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        for version in range(1, 20):
            labels.write(folder, {"production": version})
            assert labels.read(folder) == {"production": version}
        assert [path.name for path in folder.iterdir()] == [labels.FILE_NAME]
