"""Streams of tokens as files."""

from pathlib import Path

import numpy as np
import pytest

from mlctl.data.token_files import StreamWriter, narrowest, window_count


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32"])
@pytest.mark.parametrize("counts", [(), (1,), (3, 0, 70_000)])
def test_a_stream_that_grew_is_read_as_one_array(tmp_path: Path, dtype: str, counts: tuple[int, ...]) -> None:
    tokens = np.random.default_rng(0).integers(0, 200, sum(counts)).astype(dtype)
    with StreamWriter(tmp_path / "tokens.npy", dtype) as stream:
        for part in np.split(tokens, np.cumsum(counts)):
            stream.append(part)
    assert stream.count == len(tokens)
    found = np.load(tmp_path / "tokens.npy", mmap_mode="r", allow_pickle=False)
    assert found.dtype == dtype
    assert np.array_equal(found, tokens)


def test_the_dtype_is_the_narrowest_that_holds_the_last_token() -> None:
    found = {size: narrowest(size) for size in (1, 2, 256, 257, 65_536, 65_537, 1_000_000)}
    assert found == {
        1: "uint8",
        2: "uint8",
        256: "uint8",
        257: "uint16",
        65_536: "uint16",
        65_537: "uint32",
        1_000_000: "uint32",
    }


def test_every_window_needs_the_token_after_it() -> None:
    assert [window_count(tokens, 4) for tokens in (0, 1, 4, 5, 8, 9)] == [0, 0, 0, 1, 1, 2]
