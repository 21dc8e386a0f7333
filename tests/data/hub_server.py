"""A hub on this machine: it speaks the wire of huggingface.co as far as downloading goes, with storage beside it."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import pytest
from huggingface_hub import constants
from web_server import Handler, WebFile, WebServer, served, without_proxies

from mlctl.data.hub_reference import HubFile

LARGE_FROM = 1000
"""Bytes from which on a file lies in the storage, and not in git."""


@dataclass
class HubServer(WebServer):
    """Data sets by owner and name; small files are in git, large ones behind a redirect to another origin."""

    commits: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    """Files by data set and commit."""
    branches: dict[tuple[str, str], str] = field(default_factory=dict)
    """Commits by data set and branch."""
    gated: set[str] = field(default_factory=set)
    token: str | None = None
    """The one that opens what is private; without one everything is public."""
    storage: WebServer = field(default_factory=WebServer)

    def usual(self, handler: Handler, most: int | None = None) -> None:
        """What huggingface.co answers."""
        asked = re.fullmatch(r"/(?:api/resolve-cache/)?datasets/([^/]+/[^/]+)/(?:resolve/)?([^/]+)/(.+)", handler.path)
        if asked is None:
            handler.say(404, {"X-Error-Message": "Sorry, we can't find the page you are looking for."})
            return
        dataset, revision, name = (unquote(each) for each in asked.groups())
        refused = self._refused(handler, dataset)
        if refused is not None:
            handler.say(refused[0], {"X-Error-Code": refused[1], "X-Error-Message": "Repository not found"})
            return
        commit = self.branches.get((dataset, revision), revision)
        files = self.commits[dataset].get(commit)
        if files is None:
            handler.say(404, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": f"Invalid rev id: {revision}"})
        elif name not in files:
            headers = {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found", "X-Repo-Commit": commit}
            handler.say(404, headers)
        elif len(files[name]) >= LARGE_FROM:
            self._redirect_to_storage(handler, commit, files[name])
        elif "resolve-cache" not in handler.path:
            handler.say(307, {"Location": f"/api/resolve-cache/datasets/{dataset}/{commit}/{name}"})
        else:
            self._serve_small(handler, commit, files[name], most)

    def _refused(self, handler: Handler, dataset: str) -> tuple[int, str] | None:
        is_known = self.token is None or handler.headers.get("Authorization") == f"Bearer {self.token}"
        if dataset in self.gated and not is_known:
            return 403 if "Authorization" in handler.headers else 401, "GatedRepo"
        if dataset in self.commits and is_known:
            return None
        return (404 if "Authorization" in handler.headers else 401), "RepoNotFound"

    def _redirect_to_storage(self, handler: Handler, commit: str, content: bytes) -> None:
        sha256 = hashlib.sha256(content).hexdigest()
        self.storage.files.setdefault(f"/storage/{sha256}", WebFile(content))
        headers = {
            "Location": self.storage.url(f"/storage/{sha256}?Signature=s3cret"),
            "X-Repo-Commit": commit,
            "X-Linked-Size": str(len(content)),
            "X-Linked-Etag": f'"{sha256}"',
            # Who can do Xet is told of it; mlctl asks for the plain file all the same.
            "X-Xet-Hash": sha256,
            "Link": f'<{self.root}/api/datasets/xet-read-token/{commit}>; rel="xet-auth"',
        }
        handler.say(302, headers)

    def _serve_small(self, handler: Handler, commit: str, content: bytes, most: int | None) -> None:
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        handler.serve(WebFile(content, names_version=False), most, {"X-Repo-Commit": commit, "ETag": f'"{blob}"'})


@contextmanager
def hub_served() -> Iterator[HubServer]:
    """Run an empty hub and its storage until the block ends."""
    with ExitStack() as servers:
        hub = HubServer()
        servers.enter_context(served(hub))
        servers.enter_context(served(hub.storage))
        yield hub


OLD, NEW = "a" * 40, "b" * 40
LARGE = bytes(range(256)) * 1200
SMALL = b"a,b\n1,2\n"
LARGE_SHA256 = hashlib.sha256(LARGE).hexdigest()
SMALL_SHA256 = hashlib.sha256(SMALL).hexdigest()
RESOLVE_LARGE = f"/datasets/owner/name/resolve/{OLD}/data/large.bin"
RESOLVE_SMALL = f"/datasets/owner/name/resolve/{OLD}/small.csv"
RESOLVED_SMALL = f"/api/resolve-cache/datasets/owner/name/{OLD}/small.csv"


def reference(file: str = "data/large.bin", revision: str = OLD, sha256: str | None = None) -> HubFile:
    """A file of the one data set."""
    return HubFile("datasets", "owner", "name", revision, file, sha256)


@contextmanager
def hub_of_one_data_set(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub that the library in this process uses, with a cache of its own."""
    without_proxies(monkeypatch)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with hub_served() as served:
        use(monkeypatch, served.root)
        served.commits["owner/name"] = {
            OLD: {"data/large.bin": LARGE, "small.csv": SMALL},
            NEW: {"data/large.bin": LARGE[::-1], "small.csv": SMALL},
        }
        served.branches["owner/name", "main"] = OLD
        yield served


def use(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Let the library, which reads its environment when it is imported, know this hub."""
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")


def asked(hub: HubServer) -> list[tuple[str, str]]:
    """Methods and paths of all that was asked for, of the hub and of its storage."""
    return [(each.method, each.path.partition("?")[0]) for each in [*hub.asked, *hub.storage.asked]]
