"""Files of the hub: where they lie, who may see them, and whether they are what was meant."""

import hashlib
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import (
    LARGE,
    LARGE_SHA256,
    NEW,
    OLD,
    RESOLVE_LARGE,
    RESOLVE_SMALL,
    RESOLVED_SMALL,
    SMALL,
    SMALL_SHA256,
    HubServer,
    asked,
    hub_of_one_data_set,
    reference,
)
from huggingface_hub import constants
from huggingface_hub.utils._http import default_client_factory, get_session
from web_server import Waits

from mlctl import __version__
from mlctl.data.hub import fetch_hub
from mlctl.errors import DataError, MachineError
from mlctl.events import Event, Progress, Warned, silent


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub with one data set, and an empty cache."""
    with hub_of_one_data_set(tmp_path / "hub", monkeypatch) as served:
        yield served


@pytest.fixture
def waits() -> Waits:
    return Waits()


def test_a_large_file_comes_from_the_storage_and_lies_in_the_hubs_cache(
    hub: HubServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    told: list[Event] = []
    path = fetch_hub(reference(), told.append)
    assert path == tmp_path / "hub" / "datasets--owner--name" / "snapshots" / OLD / "data" / "large.bin"
    assert path.read_bytes() == LARGE
    # Nothing but the file is asked for: no telemetry, no list of agents, no Xet.
    assert asked(hub) == [("HEAD", RESOLVE_LARGE), ("GET", RESOLVE_LARGE), ("GET", f"/storage/{LARGE_SHA256}")]
    progress = [each for each in told if isinstance(each, Progress)]
    assert progress == told
    assert (progress[-1].done, progress[-1].total, progress[-1].unit) == (len(LARGE), len(LARGE), "bytes")
    assert capfd.readouterr() == ("", "")


def test_a_small_file_comes_from_git(hub: HubServer) -> None:
    assert fetch_hub(reference("small.csv"), silent).read_bytes() == SMALL
    assert asked(hub) == [("HEAD", RESOLVE_SMALL), ("HEAD", RESOLVED_SMALL), ("GET", RESOLVED_SMALL)]


@pytest.mark.parametrize("file", ["data/large.bin", "small.csv"])
def test_what_is_in_the_cache_is_taken_without_a_word_to_the_network(hub: HubServer, file: str) -> None:
    first = fetch_hub(reference(file), silent)
    hub.asked.clear()
    hub.storage.asked.clear()
    assert fetch_hub(reference(file), silent) == first
    assert fetch_hub(reference(file, sha256=hashlib.sha256(first.read_bytes()).hexdigest()), silent) == first
    assert asked(hub) == []


def test_a_pinned_file_of_a_branch_is_taken_from_the_cache(hub: HubServer) -> None:
    pinned = reference("small.csv", "main", SMALL_SHA256)
    first = fetch_hub(pinned, silent)
    hub.asked.clear()
    assert fetch_hub(pinned, silent) == first
    assert asked(hub) == []


def test_a_branch_that_went_on_is_asked_for_the_pinned_file(hub: HubServer) -> None:
    fetch_hub(reference(revision="main", sha256=LARGE_SHA256), silent)
    hub.branches["owner/name", "main"] = NEW
    newer = reference(revision="main", sha256=hashlib.sha256(LARGE[::-1]).hexdigest())
    assert fetch_hub(newer, silent).read_bytes() == LARGE[::-1]


@pytest.mark.parametrize("revision", [OLD, "main"])
def test_another_file_than_the_pinned_one_is_refused(hub: HubServer, revision: str) -> None:
    other = "0" * 64
    for _ in range(2):
        with pytest.raises(DataError) as caught:
            fetch_hub(reference(revision=revision, sha256=other), silent)
        pinned = f"the file is not the one that is pinned: its sha256 is {LARGE_SHA256}, not {other}"
        assert (caught.value.what, caught.value.where) == (pinned, str(reference(revision=revision)))
    assert len(hub.storage.asked) == 1


@pytest.mark.parametrize(("file", "content"), [("data/large.bin", LARGE), ("small.csv", SMALL)])
def test_a_damaged_file_in_the_cache_is_told_of_and_downloaded_again(hub: HubServer, file: str, content: bytes) -> None:
    path = fetch_hub(reference(file), silent)
    path.write_bytes(content[:-1] + b"?")
    told: list[Event] = []
    assert fetch_hub(reference(file), told.append).read_bytes() == content
    damaged = f"{reference(file)}: the file in the hub's cache is damaged; it is downloaded again"
    assert Warned(damaged) in told


def test_a_hub_that_sends_other_bytes_than_it_announces_is_not_believed(hub: HubServer) -> None:
    fetch_hub(reference(), silent).resolve().unlink()
    hub.storage.files[f"/storage/{LARGE_SHA256}"].content = LARGE[::-1]
    with pytest.raises(DataError, match="the file is not the one that the hub announces"):
        fetch_hub(reference(), silent)


def test_offline_nothing_is_asked_for(hub: HubServer, waits: Waits, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = fetch_hub(reference("small.csv"), silent)
    hub.asked.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch_hub(reference("small.csv"), silent) == kept
    with pytest.raises(MachineError) as caught:
        fetch_hub(reference(), silent, waits.patience())
    assert (
        caught.value.what
        == "the cache of the hub does not hold the file whole, and HF_HUB_OFFLINE forbids to download it"
    )
    assert caught.value.exit_code == 5
    assert (asked(hub), waits.pauses) == ([], [])


def test_offline_a_damaged_file_is_not_used(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch_hub(reference("small.csv"), silent).write_bytes(b"a,b\n1,3\n")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(MachineError, match="HF_HUB_OFFLINE"):
        fetch_hub(reference("small.csv"), silent)


def test_a_cache_that_cannot_be_made_is_the_machines_fault(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file"))
    with pytest.raises(MachineError, match="downloads cannot be kept here"):
        fetch_hub(reference(), silent)


CHILD = """
import resource, sys
from mlctl import __version__
from mlctl.data.hub import fetch_hub
from mlctl.data.hub_reference import HubFile
from mlctl.errors import MlctlError
from mlctl.events import silent
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
try:
    print(fetch_hub(HubFile.parse(sys.argv[1]), silent))
except MlctlError as error:
    print(error.what)
    sys.exit(error.exit_code)
"""


def test_a_process_finds_the_hub_its_cache_and_its_token_in_its_environment(hub: HubServer, tmp_path: Path) -> None:
    """Which the library reads when it is imported; and a disk that fills in the middle ends it with code 5."""
    hub.token = "hf_0123456789"
    environment = {"HF_ENDPOINT": hub.root, "HF_TOKEN": hub.token, "HF_HOME": str(tmp_path / "home")}

    def child(largest_file: int) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-c", CHILD, str(reference()), str(largest_file)],
            env={**os.environ, **environment, "HF_HUB_OFFLINE": "0", "no_proxy": "127.0.0.1"},
            check=False,
            capture_output=True,
            text=True,
        )

    full = child(100_000)
    assert (full.returncode, full.stdout, full.stderr) == (5, "there is no room for the download\n", "")
    blobs = tmp_path / "home" / "hub" / "datasets--owner--name" / "blobs"
    assert list(blobs.iterdir()) == []
    whole = child(1_000_000)
    assert (whole.returncode, whole.stderr) == (0, "")
    assert Path(whole.stdout.rstrip()).read_bytes() == LARGE
    assert (blobs / LARGE_SHA256).exists()
    assert {each.headers["user-agent"].partition(";")[0] for each in hub.asked} == {f"mlctl/{__version__}"}


def test_the_library_is_left_as_it_was(hub: HubServer) -> None:
    logger = logging.getLogger("huggingface_hub")
    before = logger.level, constants.HF_HUB_DISABLE_TELEMETRY, constants.HF_HUB_DISABLE_XET
    fetch_hub(reference(), silent)
    assert (logger.level, constants.HF_HUB_DISABLE_TELEMETRY, constants.HF_HUB_DISABLE_XET) == before
    with default_client_factory() as ordinary:
        assert type(get_session()) is type(ordinary)
