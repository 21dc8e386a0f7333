"""Files that may be compressed, as streams of what is in them: gzip (RFC 1952) and Zstandard (RFC 8878)."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal, Protocol, TypeAlias, cast

import pyarrow as pa

from mlctl.errors import DataError

Codec: TypeAlias = Literal["gzip", "zstd"]

MAGIC: dict[bytes, Codec] = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
"""How compressed files begin."""

MOST_INFLATED = 1032
"""Bytes that one byte of a deflate stream can become (zlib's documented limit); more is told by a forged file."""
INFLATED_FREELY = 1 << 20
"""Bytes that a file may become whatever its size: small files are mostly headers."""

_SUFFIXES: dict[str, Codec] = {".gz": "gzip", ".zst": "zstd"}
_AGAIN = "fetch the file again; what is here is damaged"


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Stream:
    """The bytes in a file, decompressed; several compressed streams in a row count as one."""

    def __init__(self, raw: BinaryIO, codec: Codec | None, name: str) -> None:
        self._raw = raw
        self._name = name
        self._inner: _Readable = raw
        if codec == "gzip":
            self._inner = cast("_Readable", gzip.GzipFile(fileobj=raw))
        elif codec == "zstd":
            self._inner = cast("_Readable", pa.CompressedInputStream(raw, codec))

    def read(self, size: int) -> bytes:
        """The next `size` bytes, fewer only at the end. Raises DataError for damage and for what cannot be read."""
        parts = []
        while size and (part := self._read(size)):
            parts.append(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    @property
    def position(self) -> int:
        """How many bytes of the file, compressed where it is, were taken in."""
        return self._raw.tell()

    def _read(self, size: int) -> bytes:
        try:
            return self._inner.read(size)
        except EOFError as error:
            raise DataError("the gzip stream breaks off before its end", where=self._name, next=_AGAIN) from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"this is not intact gzip ({error})", where=self._name, next=_AGAIN) from error
        except OSError as error:
            if error.errno is not None:
                raise unreadable(error, self._name) from error
            is_cut = "Truncated" in str(error)
            what = "the zstd stream breaks off before its end" if is_cut else f"this is not intact zstd ({error})"
            raise DataError(what, where=self._name, next=_AGAIN) from error


def codec_of(name: str) -> Codec | None:
    """How a file is compressed, by the end of its name."""
    return next((codec for suffix, codec in _SUFFIXES.items() if name.lower().endswith(suffix)), None)


def without_codec(name: str) -> str:
    """A file's name in lower case, without a final .gz or .zst."""
    return next((name[: -len(each)].lower() for each in _SUFFIXES if name.lower().endswith(each)), name.lower())


@contextmanager
def opened(path: Path, name: str) -> Iterator[Stream]:
    """The file as a stream, decompressed where the end of `path` says that it is; messages call it `name`."""
    try:
        raw = path.open("rb")
    except OSError as error:
        raise unreadable(error, name) from error
    with raw:
        yield Stream(raw, codec_of(path.name), name)


def unreadable(error: OSError, name: str) -> DataError:
    """The refusal of a file that the operating system does not give."""
    return DataError(f"the file cannot be read: {error.strerror}", where=name, next="mend the path or its permissions")
