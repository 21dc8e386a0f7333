"""Recipes whose sources lie on a server, through the real command."""

import gzip
import hashlib
from collections.abc import Iterator

import pytest
from conftest import HEAVY, TINY, Finished, Lab
from hub_server import OLD, HubServer, asked, hub_served
from web_server import WebFile, WebServer, answering, free_port, served

HUB_MODULES = {"huggingface_hub", "httpx2", "mlctl.data.hub", "mlctl.data.downloads"}
PREPARE = "prepare remote.yaml"


@pytest.fixture
def rows(lab: Lab) -> bytes:
    """The lab's rows, compressed; the file itself is gone."""
    plain = lab.folder / "rows.csv"
    packed = gzip.compress(plain.read_bytes(), mtime=0)
    plain.unlink()
    return packed


@pytest.fixture
def server(rows: bytes) -> Iterator[WebServer]:
    with served(WebServer(files={"/rows.csv.gz": WebFile(rows)})) as world:
        yield world


@pytest.fixture
def hub(rows: bytes) -> Iterator[HubServer]:
    with hub_served() as world:
        world.commits["owner/name"] = {OLD: {"data/rows.csv.gz": rows}}
        yield world


def write_recipe(lab: Lab, source: str) -> None:
    (lab.folder / "remote.yaml").write_text(
        TINY.replace("rows.csv", f'"{source}"').replace("name: tiny", "name: remote")
    )


def pinned(url: str, content: bytes) -> str:
    return f"{url}#sha256={hashlib.sha256(content).hexdigest()}"


def run(lab: Lab, line: str, **environment: str) -> Finished:
    """The command, with caches in the lab and without proxies."""
    caches = {"XDG_CACHE_HOME": str(lab.folder / "cache"), "HF_HOME": str(lab.folder / "hf")}
    return lab(line, **{"no_proxy": "127.0.0.1", **caches, **environment})


def test_a_file_of_a_server_is_prepared_once_and_needs_no_server_again(
    lab: Lab, server: WebServer, rows: bytes
) -> None:
    write_recipe(lab, pinned(server.url("/rows.csv.gz"), rows))
    planned = run(lab, "plan remote.yaml")
    assert (planned.code, server.asked) == (0, [])
    prepared = run(lab, PREPARE)
    assert prepared.code == 0, prepared.err
    assert len(server.asked) == 1
    server.script.append(answering(500))
    again = run(lab, PREPARE)
    assert (again.code, again.err) == (0, "prepare  reuse\n")
    # Made again, the step takes the file from the cache.
    forced = run(lab, f"{PREPARE} --force prepare")
    assert forced.code == 0, forced.err
    assert len(server.asked) == 1
    assert arrays(lab, "remote") == arrays_of_the_plain_file(lab, rows)


def arrays(lab: Lab, recipe: str) -> dict[str, bytes]:
    folder = lab.artifact(recipe, "prepare")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.npy")}


def arrays_of_the_plain_file(lab: Lab, rows: bytes) -> dict[str, bytes]:
    """What a recipe makes of the same rows beside it."""
    (lab.folder / "rows.csv").write_bytes(gzip.decompress(rows))
    assert run(lab, "prepare tiny.yaml").code == 0
    found = arrays(lab, "tiny")
    assert len(found) > 3
    return found


def test_a_file_of_the_hub_is_prepared_once_and_needs_no_hub_again(lab: Lab, hub: HubServer) -> None:
    write_recipe(lab, f"hf://datasets/owner/name@{OLD}/data/rows.csv.gz")
    online = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": hub.root}
    planned = run(lab, "plan remote.yaml", **online)
    assert (planned.code, asked(hub)) == (0, [])
    prepared = run(lab, PREPARE, **online)
    assert prepared.code == 0, prepared.err
    assert "huggingface" not in prepared.err.lower()
    assert (lab.folder / "hf" / "hub" / "datasets--owner--name" / "snapshots" / OLD / "data" / "rows.csv.gz").exists()
    before = asked(hub)
    gone = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
    again = run(lab, PREPARE, **gone)
    assert (again.code, again.err) == (0, "prepare  reuse\n")
    assert run(lab, f"{PREPARE} --force prepare", **gone).code == 0
    assert run(lab, f"{PREPARE} --force prepare").code == 0
    assert asked(hub) == before


def test_planning_loads_neither_the_hubs_library_nor_ours(lab: Lab, rows: bytes) -> None:
    web = pinned("https://nowhere.invalid/rows.csv.gz", rows)
    for source in (web, f"hf://datasets/owner/name@{OLD}/rows.csv.gz"):
        write_recipe(lab, source)
        watched = lab.watched("plan remote.yaml")
        assert watched.code == 0, watched.err
        assert not watched.modules & (HUB_MODULES | HEAVY | {"urllib.request"})


def test_a_refusal_of_a_server_is_code_3_and_names_the_address(lab: Lab, server: WebServer, rows: bytes) -> None:
    source = pinned(server.url("/rows.csv.gz"), rows)
    write_recipe(lab, source)
    server.script.append(answering(404))
    found = run(lab, PREPARE)
    assert found.code == 3
    assert f"{server.url('/rows.csv.gz')}: prepare: the server answers 404 Not Found" in found.err
    assert "Traceback" not in found.err
    server.files["/rows.csv.gz"] = WebFile(b"something else")
    other = run(lab, PREPARE)
    assert other.code == 3
    assert "the file is not the one that is pinned" in other.err


def test_a_hub_that_refuses_is_code_3_and_an_offline_machine_code_5(lab: Lab, hub: HubServer) -> None:
    write_recipe(lab, f"hf://datasets/owner/other@{OLD}/rows.csv.gz")
    refused = run(lab, PREPARE, HF_HUB_OFFLINE="0", HF_ENDPOINT=hub.root, HF_TOKEN="")
    assert refused.code == 3
    assert "the hub has no data set owner/other that may be seen without HF_TOKEN" in refused.err
    offline = run(lab, PREPARE, HF_ENDPOINT=hub.root)
    assert offline.code == 5
    assert "HF_HUB_OFFLINE forbids to download it" in offline.err
    assert "Traceback" not in refused.err + offline.err


@pytest.mark.parametrize(
    "source",
    [
        "https://example.org/rows.csv",
        "http://example.org/rows.csv#sha256=" + "0" * 64,
        "https://me:hunter2@example.org/rows.csv#sha256=" + "0" * 64,
        "hf://datasets/owner/name@main/rows.csv",
    ],
)
def test_a_source_that_cannot_be_is_found_before_anything_runs(lab: Lab, source: str) -> None:
    write_recipe(lab, source)
    planned = lab("plan remote.yaml")
    assert planned.code == 2, planned.err
    assert "hunter2" not in planned.err
    assert not (lab.folder / ".mlctl" / "artifacts").exists() or not list(
        (lab.folder / ".mlctl" / "artifacts").iterdir()
    )
