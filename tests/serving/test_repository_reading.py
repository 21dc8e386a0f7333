"""A repository as a server reads it: what is live, what has changed, what is damaged, and nothing outside of it."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data
from published_models import CLASS_NAMES, candidate, candidates, graph_bytes, rows

from mlctl.engine.manifest import stored_files
from mlctl.errors import ArtifactDamaged, DataError, UsageError
from mlctl.runtime.session import OnnxSession
from mlctl.serving.repository import history, labels
from mlctl.serving.repository.golden_recording import record_golden
from mlctl.serving.repository.names import is_model_name, model_and_version, require_label
from mlctl.serving.repository.promotion import promote
from mlctl.serving.repository.publishing import publish
from mlctl.serving.repository.record import GOLDEN, VersionRecord
from mlctl.serving.repository.repository import Repository


def silent() -> None:
    pass


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Model `m` with the versions 1 and 2, production on 1."""
    found = Repository(tmp_path / "repository")
    first, second = candidates(tmp_path / "artifacts", 2)
    publish(found, first, ["production"])
    publish(found, second)
    return found


def by_hand(root: Path, name: str, version: str) -> Path:
    """A version as users of Triton put it there."""
    folder = root / name / version
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(graph_bytes())
    return folder


def test_a_published_version_opens_with_all_that_is_known_of_it(repository: Repository) -> None:
    assert (repository.names(), repository.versions("m")) == (("m",), (1, 2))
    opened = repository.open_version("m", 1)
    assert opened.record is not None
    assert (opened.record.labels, opened.record.step, opened.record.max_batch) == (CLASS_NAMES, "export", 64)
    assert opened.record.figures[0].value == 0.97
    assert opened.golden is not None
    assert len(opened.golden.requests) == opened.record.golden.requests == 2
    assert OnnxSession(opened.graph, threads=1)(rows(3)).shape == (3, 3)
    assert opened.tokenizer is None


def test_production_is_live_and_without_it_the_newest_is(repository: Repository) -> None:
    assert repository.live_version("m") == 1
    (repository.root / "m" / labels.FILE_NAME).unlink()
    assert repository.live_version("m") == 2
    assert repository.live_version("nowhere") is None


def test_every_file_of_a_version_is_read_only(repository: Repository) -> None:
    modes = {path.name: path.stat().st_mode & 0o222 for path in repository.folder("m", 1).iterdir()}
    assert set(modes) == {"model.onnx", "mlctl.json", "golden.safetensors", "labels.txt"}
    assert set(modes.values()) == {0}


def test_the_stamp_changes_with_labels_and_versions_and_with_nothing_else(
    repository: Repository, tmp_path: Path
) -> None:
    before = repository.stamp("m")
    repository.open_version("m", 1)
    repository.record_refusal("m", 2, "wrong answers")
    assert repository.stamp("m") == before
    promote(repository, "m", 2, on_wait=silent)
    promoted = repository.stamp("m")
    assert promoted != before
    publish(repository, replace(candidate(tmp_path / "more", factor=9.0), fingerprint="9" * 64))
    assert repository.stamp("m") not in (before, promoted)
    assert repository.stamp("nowhere").versions == ()


def test_a_version_that_was_swapped_by_hand_has_another_stamp(repository: Repository) -> None:
    by_hand(repository.root, "t", "1")
    before = repository.stamp("t")
    (repository.root / "t" / "1").rename(repository.root / "aside")
    by_hand(repository.root, "t", "1")
    assert repository.stamp("t") != before


def test_a_plain_repository_of_triton_is_served_as_it_is(tmp_path: Path) -> None:
    for version in ("1", "12", "007", "0", "x", "2.5", "-1"):
        by_hand(tmp_path, "plain", version)
    (tmp_path / "plain" / "config.pbtxt").write_text('name: "plain"\n')
    (tmp_path / "plain" / "99").mkdir()
    (tmp_path / "ensemble" / "1").mkdir(parents=True)
    (tmp_path / "a file").write_text("")
    repository = Repository(tmp_path)
    assert repository.names() == ("plain",)
    assert repository.versions("plain") == (1, 12)
    assert repository.live_version("plain") == 12
    opened = repository.open_version("plain", 12)
    assert (opened.record, opened.golden) == (None, None)
    assert repository.history("plain") == ()


@pytest.mark.parametrize("name", ["model.onnx", GOLDEN, "mlctl.json", "labels.txt"])
@pytest.mark.parametrize("change", ["flip", "cut", "remove"])
def test_damage_is_found_and_named(repository: Repository, name: str, change: str) -> None:
    path = repository.folder("m", 1) / name
    content = bytearray(path.read_bytes())
    path.unlink()
    if change != "remove":
        content[len(content) // 2] ^= 1
        path.write_bytes(content if change == "flip" else content[: len(content) // 2])
    if (name, change) == ("mlctl.json", "remove"):
        # Without its record it is a version that was put there by hand.
        assert repository.open_version("m", 1).record is None
        return
    with pytest.raises(ArtifactDamaged) as refusal:
        repository.open_version("m", 1)
    assert refusal.value.where == str(path)
    repository.open_version("m", 2)


def test_a_damaged_version_is_not_promoted_and_the_label_stays(repository: Repository) -> None:
    path = repository.folder("m", 2) / "model.onnx"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(ArtifactDamaged, match="other bytes"):
        promote(repository, "m", 2, on_wait=silent)
    assert repository.labels("m") == {"production": 1}


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"production": "1"}', '{"production": true}', '{"production": -1}', "\xff"]
)
def test_labels_that_are_none_are_damage(repository: Repository, text: str) -> None:
    (repository.root / "m" / labels.FILE_NAME).write_bytes(text.encode("latin-1"))
    with pytest.raises(ArtifactDamaged, match="labels"):
        repository.live_version("m")


def test_a_label_on_a_version_that_is_gone_is_no_silent_change_of_version(repository: Repository) -> None:
    shutil.rmtree(repository.root / "m" / "1")
    with pytest.raises(DataError, match="production points to version 1, which is not there"):
        repository.live_version("m")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../m", "/etc", "m/1", "m\\1", "a\nb", "m\0", ".hidden", "a@1", "x" * 256]
)
def test_names_that_lead_elsewhere_are_no_models(repository: Repository, name: str) -> None:
    assert not is_model_name(name)
    assert repository.versions(name) == ()
    assert repository.stamp(name).versions == ()
    with pytest.raises(DataError):
        repository.open_version(name, 1)


@given(st.text(max_size=300))
def test_a_name_that_is_taken_is_one_entry_of_its_folder(name: str) -> None:
    if is_model_name(name):
        assert Path("/models", name).name == name
        assert os.path.normpath(f"/models/{name}") == f"/models/{name}"
        assert len(os.fsencode(name)) <= 255


@pytest.mark.parametrize("text", ["m", "m@", "m@0", "m@01", "m@-1", "m@1.5", "@1", "m@٣", "a@b@1"])
def test_what_names_no_version_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        model_and_version(text)


@pytest.mark.parametrize("label", ["", "3", "a b", "-x", "a/b", "é", "x" * 65])
def test_what_cannot_be_a_label_is_refused(label: str) -> None:
    with pytest.raises(UsageError):
        require_label(label)


def test_links_within_the_repository_are_followed_and_those_that_lead_out_are_not(tmp_path: Path) -> None:
    outside = by_hand(tmp_path / "outside", "m", "1")
    root = tmp_path / "repository"
    by_hand(root, "kept", "1")
    (root / "within").symlink_to("kept")
    (root / "out").symlink_to(outside.parent)
    (root / "kept" / "2").symlink_to(outside)
    (root / "kept" / "3").mkdir()
    (root / "kept" / "3" / "model.onnx").symlink_to(outside / "model.onnx")
    repository = Repository(root)
    assert repository.names() == ("kept", "within")
    assert repository.versions("kept") == (1, 3)
    assert repository.open_version("within", 1).graph.is_file()
    with pytest.raises(ArtifactDamaged, match="leads out of the repository"):
        repository.open_version("kept", 3)


def test_a_history_that_leads_out_is_neither_read_nor_written(repository: Repository, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("")
    path = repository.root / "m" / history.FILE_NAME
    path.unlink()
    path.symlink_to(elsewhere)
    repository.record_refusal("m", 1, "no")
    assert elsewhere.read_text() == ""
    with pytest.raises(ArtifactDamaged):
        repository.history("m")


@pytest.mark.parametrize("place", ["../secret.bin", "link.bin", "/dev/zero"])
def test_external_data_of_a_version_put_there_by_hand_lie_beside_it_or_it_does_not_load(
    tmp_path: Path, place: str
) -> None:
    folder = tmp_path / "m" / "1"
    folder.mkdir(parents=True)
    (tmp_path / "m" / "secret.bin").write_bytes(np.ones(4, np.float32).tobytes())
    (folder / "link.bin").symlink_to("../secret.bin")
    weight = numpy_helper.from_array(np.ones(4, np.float32), "w")
    set_external_data(weight, place, offset=0, length=16)
    weight.ClearField("raw_data")
    ports = [helper.make_tensor_value_info(each, TensorProto.FLOAT, ["b", 4]) for each in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", ports[:1], ports[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    opened = Repository(tmp_path).open_version("m", 1)
    with pytest.raises(DataError):
        OnnxSession(opened.graph, threads=1)


def test_external_data_are_published_and_verified_with_the_graph(tmp_path: Path) -> None:
    source = tmp_path / "artifact"
    wanted = candidate(source)
    model = onnx.load(source / "model.onnx")
    onnx.save_model(
        model, source / "model.onnx", save_as_external_data=True, location="model.onnx.data", size_threshold=0
    )
    (source / "tokenizer.json").write_text("{}")
    files = tuple(source / name for name in ("model.onnx", "model.onnx.data", "tokenizer.json"))
    repository = Repository(tmp_path / "repository")
    publish(repository, replace(wanted, files=files, digests=stored_files(source)))
    opened = repository.open_version("m", 1)
    assert opened.tokenizer == opened.folder / "tokenizer.json"
    assert OnnxSession(opened.graph, threads=1)(rows(2)).shape == (2, 3)
    (opened.folder / "model.onnx.data").chmod(0o644)
    (opened.folder / "model.onnx.data").write_bytes(b"\1" * 48)
    with pytest.raises(ArtifactDamaged, match="other bytes"):
        repository.open_version("m", 1)


def test_a_record_that_names_files_elsewhere_is_damage(repository: Repository) -> None:
    folder = repository.folder("m", 1)
    record = VersionRecord.load(folder)
    bad = replace(record, files=(replace(record.files[0], path="../2/model.onnx"), *record.files))
    (folder / "mlctl.json").unlink()
    bad.save(folder)
    with pytest.raises(ArtifactDamaged, match="do not lie beside it"):
        repository.open_version("m", 1)


def test_a_refusal_is_noted_and_a_repository_that_cannot_be_written_is_no_error(repository: Repository) -> None:
    repository.record_refusal("m", 2, "golden request 3 of 16: off by 0.3", who="server@host")
    last = repository.history("m")[-1]
    assert (last.what, last.version, last.who) == ("refused", 2, "server@host")
    assert last.why.startswith("golden request 3")
    path = repository.root / "m" / history.FILE_NAME
    path.unlink()
    path.mkdir()
    repository.record_refusal("m", 2, "again")


def test_a_line_of_history_that_was_never_finished_costs_nothing_but_itself(repository: Repository) -> None:
    path = repository.root / "m" / history.FILE_NAME
    before = repository.history("m")
    with path.open("ab") as stream:
        stream.write(b'{"when": "2026-01-01T00:00')
    repository.record_refusal("m", 1, "later")
    events = repository.history("m")
    assert events[:-1] == before
    assert events[-1].why == "later"


@given(st.binary(max_size=300))
def test_no_history_is_a_crash(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / history.FILE_NAME).write_bytes(content)
    assert all(isinstance(each.when, str) for each in history.read(folder))


def test_a_repository_is_read_without_heavy_libraries() -> None:
    code = (
        "import sys, mlctl.serving.repository.repository, mlctl.stages.versions;"
        "print([each for each in ('numpy', 'onnx', 'onnxruntime', 'pydantic', 'safetensors') if each in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_real_model_answers_its_own_golden_requests_after_publishing(tmp_path: Path) -> None:
    wanted = candidate(tmp_path / "artifact")
    repository = Repository(tmp_path / "repository")
    publish(
        repository, replace(wanted, golden=lambda: record_golden(wanted.files[0], rows(), decision="argmax", threads=1))
    )
    opened = repository.open_version("m", 1)
    assert opened.golden is not None
    assert len(opened.golden.requests) == 16
    assert opened.golden.check(OnnxSession(opened.graph, threads=2).all) is None
    other = tmp_path / "other.onnx"
    other.write_bytes(graph_bytes(1.1))
    why = opened.golden.check(OnnxSession(other, threads=1).all)
    assert why is not None
    assert why.startswith("golden request 1 of 16: output 'p' is off by ")
