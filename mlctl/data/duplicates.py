"""Rows that were there before."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from mlctl.data.batches import Batch

DIGEST_BYTES = 16


class SeenRows:
    """Every row so far, as a 128-bit BLAKE2b digest of its inputs and its target."""

    def __init__(self) -> None:
        self._digests: set[bytes] = set()

    def first_of(self, batch: Batch) -> NDArray[np.bool_]:
        """Whether each row, bool [rows], is the first of its kind; equal means equal numbers, 0 and -0 alike."""
        parts = [_row_bytes(values, len(batch)) for values in (*batch.inputs, batch.targets)]
        is_first = np.empty(len(batch), dtype=np.bool_)
        for index, row in enumerate(np.concatenate(parts, axis=1)):
            digest = hashlib.blake2b(row.data, digest_size=DIGEST_BYTES).digest()
            is_first[index] = digest not in self._digests
            self._digests.add(digest)
        return is_first


def _row_bytes(values: NDArray[np.float32] | NDArray[np.uint8] | NDArray[np.int64], rows: int) -> NDArray[np.uint8]:
    if values.dtype == np.float32:
        values = values + np.float32(0)  # turns -0 into 0
    return np.ascontiguousarray(values).reshape(rows, -1).view(np.uint8)
