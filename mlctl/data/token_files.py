"""Streams of tokens as files, and what stands beside them."""

from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self

import numpy as np
from numpy.typing import NDArray

STREAM_FILE: Final = "tokens.npy"
"""In every split's folder: all of its tokens in order, [tokens]."""
TOKENIZER_FILE: Final = "tokenizer.json"
"""What text is cut into, in the form of the `tokenizers` library."""
CHARACTERS_FILE: Final = "token_characters.npy"
"""How many characters each token stands for, int32 [vocabulary]."""


def narrowest(vocabulary: int) -> str:
    """The dtype that tokens 0 to `vocabulary` - 1 are stored in: uint8, uint16 or uint32."""
    return np.min_scalar_type(max(vocabulary - 1, 0)).name


def window_count(tokens: int, context: int) -> int:
    """How many windows of `context` tokens a stream gives, each with the token after its last one."""
    return max(0, tokens - 1) // context


class StreamWriter:
    """An .npy file of one axis whose length is known only at its end; memory holds what is being written."""

    def __init__(self, path: Path, dtype: str) -> None:
        self._stream: BinaryIO = path.open("wb")
        self._dtype = np.dtype(dtype)
        self.count = 0
        self._write_header()

    def append(self, tokens: NDArray[Any]) -> None:
        """Write the next tokens [n], of the file's dtype."""
        self._stream.write(np.ascontiguousarray(tokens, dtype=self._dtype).data)
        self.count += len(tokens)

    def _write_header(self) -> None:
        # NumPy pads a header so that a longer first axis fits into the same bytes.
        header = {"descr": self._dtype.str, "fortran_order": False, "shape": (self.count,)}
        np.lib.format.write_array_header_1_0(self._stream, header)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stream:
            if kind is None:
                self._stream.seek(0)
                self._write_header()
