"""Downloads of several processes, of killed ones, and on disks that do not take them."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from web_server import (
    CONTENT,
    PATH,
    SHA256,
    Waits,
    WebFile,
    WebServer,
    answering,
    dropping_after,
    ranges,
    served,
    stalling_after,
    waiting_for,
    without_proxies,
)

from mlctl.data.downloads import fetch_url
from mlctl.errors import DataError, DiskFull, MachineError, UsageError
from mlctl.events import silent

CHILD = """
import sys
from mlctl.data.downloads import fetch_url
from mlctl.errors import MlctlError
def tell(event):
    print(type(event).__name__, getattr(event, "text", ""), flush=True)
try:
    print(fetch_url(sys.argv[1], sys.argv[2], tell))
except MlctlError as error:
    print(type(error).__name__, error)
    sys.exit(error.exit_code)
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of one's own; gives the folder of downloads."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    without_proxies(monkeypatch)
    return tmp_path / "cache" / "mlctl" / "downloads"


@pytest.fixture
def server() -> Iterator[WebServer]:
    with served(WebServer(files={PATH: WebFile(CONTENT)})) as world:
        yield world


def child(url: str, *, code: str = CHILD, **environment: str) -> "subprocess.Popen[str]":
    """A process that fetches the file and prints what it is told, and then the path."""
    return subprocess.Popen(
        [sys.executable, "-c", code, url, SHA256],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
    )


def lines_until(process: "subprocess.Popen[str]", start: str) -> list[str]:
    """What the process prints, to the first line that begins so."""
    assert process.stdout
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line.rstrip())
        if line.startswith(start):
            return lines
    raise AssertionError(f"the process ended without {start!r}: {lines}")


def test_what_a_killed_process_had_is_continued(server: WebServer) -> None:
    until = threading.Event()
    server.script.append(stalling_after(200_000, until))
    with child(server.url(PATH)) as process:
        lines_until(process, "Progress")
        process.kill()
    until.set()
    assert fetch_url(server.url(PATH), SHA256, silent).read_bytes() == CONTENT
    start = int((ranges(server.asked)[1] or "bytes=0-")[6:-1])
    assert 0 < start <= 200_000


def test_what_was_whole_but_not_published_is_taken(server: WebServer, cache: Path) -> None:
    (cache / ".partial").mkdir(parents=True)
    (cache / ".partial" / f"{SHA256}.part").write_bytes(CONTENT)
    assert fetch_url(server.url(PATH), SHA256, silent).read_bytes() == CONTENT
    assert server.asked == []


def test_a_damaged_half_is_not_believed(server: WebServer, cache: Path) -> None:
    server.script.append(dropping_after(1000))
    with pytest.raises(DataError, match="tried 1 time"):
        fetch_url(server.url(PATH), SHA256, silent, Waits().patience(attempts=1))
    half = cache / ".partial" / f"{SHA256}.part"
    half.write_bytes(b"?" * 1000)
    assert fetch_url(server.url(PATH), SHA256, silent).read_bytes() == CONTENT
    assert ranges(server.asked) == [None, "bytes=1000-", None]


@pytest.mark.parametrize("record", ["", "[]", "{}", '{"url": 1}', "[" * 100_000, '{"validator": "\\u001b"}'])
def test_a_record_of_a_half_that_says_nothing_is_no_record(server: WebServer, cache: Path, record: str) -> None:
    (cache / ".partial").mkdir(parents=True)
    (cache / ".partial" / f"{SHA256}.part").write_bytes(b"?" * 1000)
    (cache / ".partial" / f"{SHA256}.json").write_text(record)
    assert fetch_url(server.url(PATH), SHA256, silent).read_bytes() == CONTENT
    assert ranges(server.asked) == [None]


def test_of_two_processes_one_downloads_and_the_other_waits(server: WebServer) -> None:
    somebody_waits = threading.Event()
    server.script.append(waiting_for(somebody_waits))
    with child(server.url(PATH)) as first, child(server.url(PATH)) as second:
        outputs = []

        def read(process: "subprocess.Popen[str]") -> None:
            assert process.stdout
            lines = []
            for line in process.stdout:
                lines.append(line.rstrip())
                if "another process downloads it" in line:
                    somebody_waits.set()
            outputs.append(lines)

        readers = [threading.Thread(target=read, args=(each,)) for each in (first, second)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
    assert outputs[0][-1] == outputs[1][-1]
    assert Path(outputs[0][-1]).read_bytes() == CONTENT
    waiting = [line for lines in outputs for line in lines if line.startswith("Note")]
    assert waiting == [f"Note {server.url(PATH)}: another process downloads it; waiting"]
    assert len(server.asked) == 1


def test_whoever_waits_takes_over_from_a_process_that_died(server: WebServer) -> None:
    until = threading.Event()
    server.script.append(stalling_after(200_000, until))
    with child(server.url(PATH)) as first:
        lines_until(first, "Progress")
        with child(server.url(PATH)) as second:
            lines_until(second, "Note")
            first.kill()
            path = lines_until(second, "/")[-1]
    until.set()
    assert Path(path).read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_a_file_for_which_there_is_no_room_is_not_begun(server: WebServer, cache: Path) -> None:
    server.script.append(answering(200, {"Content-Length": str(10**18)}, b"some bytes"))
    with pytest.raises(DiskFull, match=r"the download needs 1000000.0 TB, and .* are free"):
        fetch_url(server.url(PATH), SHA256, silent)
    assert list(cache.rglob("*.part")) == []


def test_a_disk_that_fills_in_the_middle_is_not_kept_full(server: WebServer, cache: Path) -> None:
    server.files[PATH].announces_length = False
    limited = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n" + CHILD
    with child(server.url(PATH), code=limited) as process:
        output = process.communicate()[0].splitlines()
    assert process.returncode == 5
    assert "there is no room for the download" in output[-2]
    assert list(cache.rglob("*.part")) == []
    assert fetch_url(server.url(PATH), SHA256, silent).read_bytes() == CONTENT


def test_a_cache_that_cannot_be_made_is_the_machines_fault(
    server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(MachineError, match=r"downloads cannot be kept here \(Not a directory\)"):
        fetch_url(server.url(PATH), SHA256, silent)


def test_a_relative_cache_is_none(server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The XDG specification has it ignored."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    path = fetch_url(server.url(PATH), SHA256, silent)
    assert path == tmp_path / "home" / ".cache" / "mlctl" / "downloads" / SHA256 / "digits.csv.gz"


def test_a_digest_that_is_none_is_refused(server: WebServer) -> None:
    with pytest.raises(UsageError, match="a sha256 has 64 hexadecimal digits"):
        fetch_url(server.url(PATH), "abc", silent)


def test_downloading_loads_nothing_heavy(server: WebServer) -> None:
    code = dedent(
        """
        import json, sys
        from mlctl.data.downloads import fetch_url
        from mlctl.events import silent
        fetch_url(sys.argv[1], sys.argv[2], silent)
        print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
        """
    )
    with child(server.url(PATH), code=code) as process:
        loaded = set(json.loads(process.communicate()[0]))
    assert loaded.isdisjoint({"huggingface_hub", "httpx2", "numpy", "pyarrow", "pydantic", "yaml", "torch"})
