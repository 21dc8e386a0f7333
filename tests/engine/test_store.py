import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_world import World, step

from mlctl.engine.figures import Figure, Kind
from mlctl.engine.manifest import FILE_NAME, Manifest
from mlctl.engine.store import Artifact, Store, write_whole
from mlctl.engine.verification import verify_store
from mlctl.errors import ArtifactDamaged, MachineError


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def artifact(world: World) -> Artifact:
    life = world.life(step("one"))
    assert world.run(life).exit_code == 0
    return world.made(life, "one")


def test_an_artifact_holds_what_was_written_and_a_manifest_of_it(world: World, artifact: Artifact) -> None:
    found = world.store.find(artifact.manifest.fingerprint)
    assert found == artifact
    assert artifact.folder == world.store.root / "artifacts" / artifact.manifest.fingerprint
    assert {path.relative_to(artifact.folder).as_posix() for path in artifact.folder.rglob("*") if path.is_file()} == {
        "nested/more.txt",
        "text.txt",
        "manifest.json",
    }
    # printf one | sha256sum
    assert [(file.path, file.bytes, file.sha256[:8]) for file in artifact.manifest.files] == [
        ("nested/more.txt", 4, "187897ce"),
        ("text.txt", 3, "7692c3ad"),
    ]
    assert artifact.manifest.identity.fingerprint == artifact.manifest.fingerprint


def test_what_is_not_there_is_not_found(world: World) -> None:
    assert world.store.find("0" * 64) is None
    assert list(world.store.artifacts()) == []


def test_after_publishing_nothing_private_is_left(world: World, artifact: Artifact) -> None:
    assert list((world.store.root / "work").iterdir()) == []
    assert not world.store.can_resume(artifact.manifest.fingerprint)


def test_figures_that_are_not_finite_come_back_as_they_were(tmp_path: Path) -> None:
    figures = (
        Figure("loss", Kind.METRIC, float("nan")),
        Figure("worst", Kind.METRIC, float("inf"), low=-float("inf"), high=float("inf")),
    )
    world = World(tmp_path)
    life = world.life(step("one", figures=figures))
    assert world.run(life).exit_code == 0
    # repr, because no nan equals another
    assert repr(world.made(life, "one").manifest.figures) == repr(figures)
    text = (world.made(life, "one").folder / FILE_NAME).read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{}",
        b"null",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"format": 2, "sha256": "0"}',
    ],
)
def test_a_manifest_that_is_not_one_is_damage(world: World, artifact: Artifact, damage: bytes) -> None:
    (artifact.folder / FILE_NAME).write_bytes(damage)
    with pytest.raises(ArtifactDamaged, match="manifest") as caught:
        world.store.find(artifact.manifest.fingerprint)
    assert caught.value.where == str(artifact.folder / FILE_NAME)


def test_any_flipped_byte_of_a_manifest_is_damage(artifact: Artifact) -> None:
    place = artifact.folder / FILE_NAME
    whole = place.read_bytes()

    @settings(max_examples=200)
    @given(st.integers(0, len(whole) - 1), st.integers(1, 255))
    def flip(position: int, mask: int) -> None:
        place.write_bytes(whole[:position] + bytes([whole[position] ^ mask]) + whole[position + 1 :])
        try:
            found = Manifest.load(artifact.folder)
        except ArtifactDamaged:
            return
        # Blanks between the values carry nothing.
        assert found == artifact.manifest

    flip()


def test_a_manifest_of_another_artifact_is_damage(world: World, artifact: Artifact) -> None:
    artifact.folder.rename(artifact.folder.with_name("0" * 64))
    with pytest.raises(ArtifactDamaged, match="another artifact"):
        world.store.find("0" * 64)


def test_a_missing_file_and_a_wrong_size_are_seen_without_reading(artifact: Artifact) -> None:
    artifact.check_sizes()
    (artifact.folder / "text.txt").write_text("longer than before")
    with pytest.raises(ArtifactDamaged, match="has 18 bytes where 3 were written") as caught:
        artifact.check_sizes()
    assert caught.value.where == str(artifact.folder / "text.txt")
    assert "--force one" in caught.value.next
    (artifact.folder / "text.txt").unlink()
    with pytest.raises(ArtifactDamaged, match="is missing"):
        artifact.check_sizes()


def test_a_file_that_cannot_be_read_is_damage_and_no_crash(artifact: Artifact) -> None:
    """A link to itself has a size only for `lstat`; no permission keeps a superuser from reading."""
    (artifact.folder / "text.txt").unlink()
    (artifact.folder / "text.txt").symlink_to("text.txt")
    with pytest.raises(ArtifactDamaged, match="is missing"):
        artifact.verify()


def test_verification_names_every_damaged_artifact(world: World) -> None:
    life = world.life(step("one"), step("two"), step("three"))
    world.run(life)
    two, three = world.made(life, "two"), world.made(life, "three")
    (two.folder / "text.txt").write_text("twO")
    (three.folder / FILE_NAME).write_text("{")
    checks = {check.fingerprint: check for check in verify_store(world.store)}
    assert sorted(check.exit_code for check in checks.values()) == [0, 3, 3]
    found = checks[two.manifest.fingerprint]
    assert (found.step, found.damage) == (
        "two",
        f"{two.folder / 'text.txt'}: two: the file has other bytes than were written",
    )
    assert "manifest cannot be read" in (checks[three.manifest.fingerprint].damage or "")


def test_a_stray_file_among_the_artifacts_is_nobodys(world: World, artifact: Artifact) -> None:
    (world.store.root / "artifacts" / ".DS_Store").write_text("")
    assert [check.fingerprint for check in verify_store(world.store)] == [artifact.manifest.fingerprint]


def test_publishing_over_a_damaged_artifact_replaces_it_whole(world: World, artifact: Artifact) -> None:
    (artifact.folder / "text.txt").write_text("twisted")
    (artifact.folder / "stray.txt").write_text("")
    life = world.life(step("one"))
    assert world.run(life, "one").exit_code == 0
    assert not (artifact.folder / "stray.txt").exists()
    world.made(life, "one").verify()
    assert list((world.store.root / "work").iterdir()) == []


def test_a_link_leads_to_the_last_artifact_of_a_step(world: World, artifact: Artifact) -> None:
    link = world.store.root / "steps" / "small" / "one"
    assert link.resolve() == artifact.folder
    world.run(world.life(step("one", text="other")))
    assert (link / "text.txt").read_text() == "other"
    assert world.store.was_made("small", "one")
    assert not world.store.was_made("small", "two")


def test_a_store_that_cannot_be_made_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="cannot be made") as caught:
        Store(tmp_path / "file" / "store").prepare()
    assert "--store" in caught.value.next


def test_a_store_keeps_itself_out_of_git(world: World) -> None:
    assert (world.store.root / ".gitignore").read_text() == "*\n"


def test_a_small_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_whole(tmp_path / "note.json", "one")
    with pytest.raises(UnicodeEncodeError):
        write_whole(tmp_path / "note.json", "\ud800")
    assert [path.name for path in tmp_path.iterdir()] == ["note.json"]
    assert (tmp_path / "note.json").read_text() == "one"
