"""The files in a .zip or .tar archive, one after the other, each read once; what is damaged or forged is refused."""

import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import Literal, NoReturn, TypeAlias

from mlctl.data.compressed import INFLATED_FREELY, MAGIC, Stream, unreadable
from mlctl.errors import DataError

MOST_GROWTH = 1000
"""Bytes that one byte of an archive may become: less than deflate can make of zeros, which is 1032, and more than of
anything that could be learnt from."""

_BLOCK = 512
_MOST_HEADER_BYTES = 1 << 20
_CHUNK = 1 << 20
_ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ZIP_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError)
_UNIX = 3
_PAX_RECORD = re.compile(rb"(\d{1,7}) ([^=]+)=", re.DOTALL)
_AGAIN = "fetch the archive again; what is here is damaged"
_BOMB = "do not use this archive; ask whoever made it for another"

Kind: TypeAlias = Literal["file", "folder", "link", "device"]


@dataclass(frozen=True)
class Member:
    """One entry of an archive, as it says itself, and how its bytes are read."""

    name: str
    size: int
    kind: Kind
    read: Callable[[int], bytes]
    """The next bytes, at most as many as it is asked for, until there are none; before the next member only."""
    position: int
    """How many bytes of the archive were taken in."""


def members(path: Path, name: str) -> Iterator[Member]:
    """The archive's entries in its order; messages call the archive `name`.

    Raises DataError for what is no archive, breaks off, is damaged or encrypted, or grows more than a thousandfold.
    """
    try:
        with path.open("rb") as raw:
            start = raw.read(4)
            raw.seek(0)
            if start.startswith(_ZIP_MAGIC):
                yield from _zip_members(path, name)
                return
            codec = next((codec for magic, codec in MAGIC.items() if start.startswith(magic)), None)
            yield from _Tar(Stream(raw, codec, name), name, path.stat().st_size).members()
    except OSError as error:
        raise unreadable(error, name) from error


def _zip_members(path: Path, name: str) -> Iterator[Member]:
    position, size = 0, path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                _check_zip_entry(info, name)
                position += info.compress_size
                if position > size:
                    _refuse("the archive's files overlap", name, _BOMB)
                with archive.open(info) as stream:
                    read = _told(stream.read, f"{name}!{info.filename}")
                    yield Member(info.filename, info.file_size, _zip_kind(info), read, position)
    except _ZIP_DAMAGED as error:
        raise DataError(f"this is not an intact zip archive ({error})", where=name, next=_AGAIN) from error


def _told(read: Callable[[int], bytes], where: str) -> Callable[[int], bytes]:
    def read_intact(size: int) -> bytes:
        try:
            return read(size)
        except _ZIP_DAMAGED as error:
            raise DataError(f"the archive's file is damaged ({error})", where=where, next=_AGAIN) from error

    return read_intact


def _check_zip_entry(info: zipfile.ZipInfo, name: str) -> None:
    where = f"{name}!{info.filename}"
    if info.flag_bits & 1 or info.compress_type not in _ZIP_METHODS:
        what = "the archive's file is encrypted, or compressed in another way than by deflate"
        _refuse(what, where, "make the archive again with `zip -r`")
    if info.file_size > MOST_GROWTH * info.compress_size + INFLATED_FREELY:
        what = f"the archive's file grows more than {MOST_GROWTH:,}-fold, from {info.compress_size:,} bytes to "
        _refuse(f"{what}{info.file_size:,}", where, _BOMB)


def _zip_kind(info: zipfile.ZipInfo) -> Kind:
    mode = info.external_attr >> 16 if info.create_system == _UNIX else 0
    if info.is_dir():
        return "folder"
    is_plain = not mode >> 12 or S_ISREG(mode)
    return "file" if is_plain else "link" if mode >> 12 == 0o12 else "device"


class _Tar:
    """A tar archive, read once from its start (POSIX.1-2017 pax, section "pax Interchange Format", and GNU's names).

    Python's tarfile ends in silence at a damaged header, and reads names of any length into memory.
    """

    def __init__(self, stream: Stream, name: str, size: int) -> None:
        self._stream = stream
        self._name = name
        self._left_in_all = MOST_GROWTH * size + INFLATED_FREELY
        self._left = 0

    def members(self) -> Iterator[Member]:
        while header := self._header():
            info, name, size = header
            self._left = size
            yield Member(name, size, _tar_kind(info), self._read_member, self._stream.position)
            self._skip(self._left + -size % _BLOCK)
        while self._take(_CHUNK):
            pass  # up to the end, where a compressed stream is compared with its checksum

    def _header(self) -> tuple[tarfile.TarInfo, str, int] | None:
        """The next entry with its name and size; None at the end of the archive."""
        name: str | None = None
        size: int | None = None
        while info := self._block():
            if info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
                payload = self._payload(info)
                if info.type == tarfile.GNUTYPE_LONGNAME:
                    name = payload.rstrip(b"\0").decode("utf-8", "surrogateescape")
                else:
                    name, size = self._pax(payload, name, size)
            elif info.type in (tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK):
                self._payload(info)
            else:
                size = info.size if size is None else size
                if size < 0:
                    _refuse("an entry's header declares fewer than 0 bytes", self._name, _BOMB)
                return info, info.name if name is None else name, size if _tar_kind(info) == "file" else 0
        return None

    def _block(self) -> tarfile.TarInfo | None:
        block = self._take(_BLOCK)
        if len(block) == _BLOCK and not any(block):
            return None
        if len(block) < _BLOCK:
            _refuse("the archive breaks off before its end", self._name, _AGAIN)
        try:
            return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise DataError(f"this is not an intact archive ({error})", where=self._name, next=_AGAIN) from error

    def _payload(self, info: tarfile.TarInfo) -> bytes:
        if not 0 <= info.size <= _MOST_HEADER_BYTES:
            _refuse(f"an entry's header declares {info.size:,} bytes", self._name, _BOMB)
        padded = self._take(info.size + -info.size % _BLOCK)
        if len(padded) < info.size:
            _refuse("the archive breaks off before its end", self._name, _AGAIN)
        return padded[: info.size]

    def _pax(self, payload: bytes, name: str | None, size: int | None) -> tuple[str | None, int | None]:
        """The name and the size that pax records give, or those of before."""
        position = 0
        while position < len(payload):
            record = _PAX_RECORD.match(payload, position)
            end = position + int(record[1]) if record else 0
            if record is None or not record.end() < end <= len(payload):
                _refuse("this is not an intact archive (a damaged pax header)", self._name, _AGAIN)
            key, value = record[2], payload[record.end() : end - 1]
            if key == b"path":
                name = value.decode("utf-8", "surrogateescape")
            elif key == b"size" and value.isdigit():
                size = int(value[:20])
            elif key.startswith(b"GNU.sparse."):
                _refuse("the archive holds a sparse file", self._name, "make it again without `--sparse`")
            position = end
        return name, size

    def _read_member(self, size: int) -> bytes:
        chunk = self._take(min(size, self._left))
        self._left -= len(chunk)
        if not chunk and self._left and size:
            _refuse("the archive breaks off before its end", self._name, _AGAIN)
        return chunk

    def _skip(self, size: int) -> None:
        while size:
            chunk = self._take(min(size, _CHUNK))
            if not chunk:
                _refuse("the archive breaks off before its end", self._name, _AGAIN)
            size -= len(chunk)

    def _take(self, size: int) -> bytes:
        chunk = self._stream.read(size)
        self._left_in_all -= len(chunk)
        if self._left_in_all < 0:
            _refuse(f"the archive grows more than {MOST_GROWTH:,}-fold", self._name, _BOMB)
        return chunk


def _tar_kind(info: tarfile.TarInfo) -> Kind:
    if info.isdir():
        return "folder"
    if info.type in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE):
        return "file"
    return "link" if info.issym() or info.islnk() else "device"


def _refuse(what: str, where: str, next_step: str) -> NoReturn:
    raise DataError(what, where=where, next=next_step)
