"""Files from the web, pinned by their digest: downloaded once, kept in a cache, checked whenever they are used."""

import re
from http.client import HTTPResponse
from pathlib import Path

from mlctl.data.download_cache import Partial, cache_folder, check_room, disk_refusals, held, is_whole
from mlctl.data.remote_address import Address
from mlctl.data.remote_http import answer, body, status_text
from mlctl.data.remote_progress import DownloadProgress
from mlctl.data.remote_retrying import PATIENT, Attempts, Patience, Transient
from mlctl.digests import file_digest
from mlctl.errors import DataError, UsageError
from mlctl.events import Note, Tell, Warned


def fetch_url(url: str, sha256: str, tell: Tell, patience: Patience = PATIENT) -> Path:
    """The file at `url`, whose bytes have the digest `sha256` (64 hexadecimal digits).

    It lies at `$XDG_CACHE_HOME/mlctl/downloads/SHA256/FILE NAME`, and is downloaded only when it is not there or
    damaged. A download that was cut off is continued where the server can do that. Of two processes that want one
    file, one downloads it. What may go away by itself is tried again, until five attempts in a row bring nothing.

    Raises UsageError for an address that is not https (or http on this machine) or holds a password, DataError where
    the server refuses, cannot be reached or gives other bytes, MachineError where this machine has no network or no
    place to keep the file, DiskFull where there is no room.
    """
    address = Address.parse(url)
    wanted = sha256.lower()
    if not re.fullmatch("[0-9a-f]{64}", wanted):
        raise UsageError("a sha256 has 64 hexadecimal digits", where=address.shown, next="`sha256sum FILE` prints it")
    folder = cache_folder()
    place = folder / wanted / address.file_name
    with disk_refusals(place):
        if is_whole(place, wanted):
            return place
        halves = folder / ".partial"
        halves.mkdir(parents=True, exist_ok=True)
        waiting = Note(f"{address.shown}: another process downloads it; waiting")
        with held(halves / f"{wanted}.lock", on_wait=lambda: tell(waiting)):
            if not is_whole(place, wanted):
                _replace(place, address, wanted, Download(address, Partial.of(halves, wanted), tell, patience))
    return place


class Download:
    """One file on its way from one address into its partial file."""

    def __init__(self, address: Address, partial: Partial, tell: Tell, patience: Patience) -> None:
        self.address = address
        self.partial = partial
        self.tell = tell
        self._silence = patience.silence
        self._attempts = Attempts(address.shown, patience, tell)
        self._furthest = partial.size()

    def finish(self) -> None:
        """Bring the partial file to its end, as often as it takes. Raises what `fetch_url` raises."""
        while True:
            try:
                return self._attempt()
            except Transient as failure:
                # Whoever comes a little further each time will arrive.
                if self.partial.size() > self._furthest:
                    self._furthest = self.partial.size()
                    self._attempts.succeeded()
                self._attempts.failed(failure)

    def _attempt(self) -> None:
        offset, validator = self.partial.size(), self.partial.validator(self.address.url)
        wants_rest = offset > 0 and validator is not None
        headers = {"Range": f"bytes={offset}-", "If-Range": validator} if wants_rest and validator else {}
        with answer(self.address, headers, self._silence) as response:
            if response.status != 200 and not (wants_rest and _continues(response, offset)):
                self.partial.remove()
                raise Transient(f"the server does not send what was asked for ({status_text(response.status)})")
            if response.status == 200:
                offset = 0
                self.partial.begin(self.address.url, _validator(response))
            self._write(response, offset)

    def _write(self, response: HTTPResponse, offset: int) -> None:
        check_room(self.partial.bytes_path.parent, response.length or 0)
        total = None if response.length is None else offset + response.length
        progress = DownloadProgress(self.tell, self.address.file_name, total, offset)
        try:
            with self.partial.bytes_path.open("ab") as stream:
                for chunk in body(response):
                    stream.write(chunk)
                    stream.flush()  # what has been told of outlives this process
                    progress.advance(len(chunk))
        except OSError:
            # A disk that is full is not kept full.
            self.partial.remove()
            raise


def _replace(place: Path, address: Address, wanted: str, download: Download) -> None:
    """Put the whole file at `place`, whatever lies there."""
    if place.exists():
        download.tell(Warned(f"{place}: the file in the cache is damaged; it is downloaded again"))
        place.unlink()
    was_begun = download.partial.size() > 0
    if was_begun and file_digest(download.partial.bytes_path) == wanted:
        return download.partial.publish(place)
    download.finish()
    found = file_digest(download.partial.bytes_path)
    if found != wanted and was_begun:
        # What an earlier process left may be at fault.
        download.partial.remove()
        download.finish()
        found = file_digest(download.partial.bytes_path)
    if found != wanted:
        download.partial.remove()
        raise DataError(
            f"the file is not the one that is pinned: its sha256 is {found}, not {wanted}",
            where=address.shown,
            next="check the address; if the new file is wanted, pin its digest",
        )
    return download.partial.publish(place)


def _continues(response: HTTPResponse, offset: int) -> bool:
    """Whether the answer is the rest of the file from `offset` on."""
    start = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return response.status == 206 and start is not None and int(start[1]) == offset


def _validator(response: HTTPResponse) -> str | None:
    """What names this version of the file to the byte: a strong ETag, else the date of its last change."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified")
