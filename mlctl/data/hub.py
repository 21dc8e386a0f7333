"""Files of data sets on the Hugging Face hub, in the cache that all of its tools share."""

import hashlib
from pathlib import Path
from typing import Any, Final, cast

import httpx2
from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import DeviceCodeError, OIDCError

from mlctl import __version__
from mlctl.data.download_cache import disk_refusal, is_whole
from mlctl.data.hub_client import transport_failure
from mlctl.data.hub_failures import hub_refusal
from mlctl.data.hub_library import patient_library, progress_bars
from mlctl.data.hub_reference import HubFile
from mlctl.data.remote_retrying import PATIENT, Attempts, Patience, Transient
from mlctl.digests import CHUNK_BYTES, file_digest
from mlctl.errors import DataError
from mlctl.events import Tell, Warned

REPOSITORY_TYPES: Final = {"datasets": "dataset"}
FOREIGN: Final = (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError, OIDCError, DeviceCodeError)
"""What the library raises."""


def fetch_hub(reference: HubFile, tell: Tell, patience: Patience = PATIENT) -> Path:
    """The file in the hub's cache (`HF_HUB_CACHE`, `HF_HOME`); it is downloaded when it is not there, or damaged.

    A file of a commit that is in the cache is taken without asking the network. `HF_TOKEN`, `HF_ENDPOINT` and
    `HF_HUB_OFFLINE` are honoured, and a silent hub is waited for as long as `HF_HUB_DOWNLOAD_TIMEOUT` says. Every file
    is checked against the digest that pins it, or else the one that the cache calls it by. What may go away by itself
    is tried again, until five attempts in a row bring nothing.

    Raises DataError where the hub refuses, does not have the file, cannot be reached or gives other bytes, MachineError
    where this machine has no network, is told to stay offline or cannot keep the file, DiskFull where there is no room.
    """
    kept = _kept(reference)
    if kept is not None and _fits(kept, reference):
        return kept
    is_damaged = kept is not None and not _is_as_named(kept)
    if is_damaged:
        tell(Warned(f"{reference}: the file in the hub's cache is damaged; it is downloaded again"))
    path = _downloaded(reference, tell, patience, anew=is_damaged)
    if _fits(path, reference):
        return path
    if reference.sha256 is None:
        what, next_step = "the file is not the one that the hub announces", "run the same command again later"
    else:
        what = f"the file is not the one that is pinned: its sha256 is {file_digest(path)}, not {reference.sha256}"
        next_step = "check the revision; if the new file is wanted, pin its digest"
    raise DataError(what, where=reference, next=next_step)


def _kept(reference: HubFile) -> Path | None:
    """The file in the cache, if it is there; of a branch or a tag, the one that was seen last."""
    found = try_to_load_from_cache(
        reference.repository,
        reference.file,
        revision=reference.revision,
        repo_type=REPOSITORY_TYPES[reference.kind],
    )
    return Path(found) if isinstance(found, str) else None


def _downloaded(reference: HubFile, tell: Tell, patience: Patience, *, anew: bool) -> Path:
    attempts, restarts = (Attempts(str(reference), patience, tell) for _ in range(2))
    bars = cast("Any", progress_bars(tell, Path(reference.file).name))  # called like a class, and needs to be none
    with patient_library(attempts):
        while True:
            try:
                path = hf_hub_download(
                    reference.repository,
                    reference.file,
                    revision=reference.revision,
                    repo_type=REPOSITORY_TYPES[reference.kind],
                    force_download=anew,
                    library_name="mlctl",
                    library_version=__version__,
                    tqdm_class=bars,
                )
                return Path(path)
            except Transient as failure:
                restarts.failed(failure)
            except FOREIGN as error:
                restarts.failed(_judged(error, reference))


def _judged(error: Exception, reference: HubFile) -> Transient:
    """The failure that may be tried again; raises what may not."""
    if isinstance(error, httpx2.TransportError):
        return transport_failure(error, str(reference))
    refusal = hub_refusal(error, reference)
    if refusal is not None:
        raise refusal from error
    if isinstance(error, OSError) and error.errno is not None:
        raise disk_refusal(error, Path(constants.HF_HUB_CACHE)) from error
    # The library counts the bytes, and says without an error number that some are missing.
    return Transient("the file came with another size than the hub announced")


def _fits(path: Path, reference: HubFile) -> bool:
    return is_whole(path, reference.sha256) if reference.sha256 else _is_as_named(path)


def _is_as_named(path: Path) -> bool:
    """Whether the bytes are those by whose digest the cache names them; true where the name is no digest.

    That is the SHA-256 of a large file; of a small one git's SHA-1, or the plain one from some mirrors of the hub.
    """
    name = path.resolve().name
    if len(name) == 64:
        return is_whole(path, name)
    return len(name) != 40 or name in _sha1s(path)


def _sha1s(path: Path) -> tuple[str, str]:
    """Git's SHA-1 of the file, and the plain one."""
    git_blob = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    plain = hashlib.sha1(usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            git_blob.update(chunk)
            plain.update(chunk)
    return git_blob.hexdigest(), plain.hexdigest()
