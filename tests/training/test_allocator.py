import ctypes
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from small_fits import CPU, assert_same, small_fit

from mlctl.training import loop
from mlctl.training.allocator import kept_memory

IS_GLIBC = hasattr(ctypes.CDLL(None), "gnu_get_libc_version")
MEBIBYTE = 1 << 20

pytestmark = pytest.mark.skipif(not IS_GLIBC, reason="only glibc can be told what to do with freed memory")


def page_faults_of_large_tensors() -> int:
    """Pages that 20 tensors, one after the other, are given.

    Each is larger than what glibc ever keeps of itself, so that what this process freed before has no part in it.
    """
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.empty(40 * MEBIBYTE, dtype=torch.uint8).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident_mebibytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / MEBIBYTE


def test_freed_memory_is_used_again_while_training_and_only_then() -> None:
    with kept_memory(CPU) as is_kept:
        assert is_kept
        page_faults_of_large_tensors()
        within = page_faults_of_large_tensors()
    after = page_faults_of_large_tensors()
    # Large pages, where the system gives them, make these few; then it is still none against 20 for every tensor.
    assert 4 * within < after
    assert after >= 20 * 20


def test_what_was_kept_goes_back_at_the_end() -> None:
    with kept_memory(CPU):
        started = resident_mebibytes()
        tensors = [torch.ones(MEBIBYTE, dtype=torch.uint8) for _ in range(200)]
        tensors.clear()
        assert resident_mebibytes() - started > 150
    assert resident_mebibytes() - started < 50


def test_a_gpu_is_no_business_of_the_c_library() -> None:
    with kept_memory(torch.device("cuda", 0)) as is_kept:
        assert not is_kept


def test_it_changes_no_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = small_fit(tmp_path / "1")

    @contextmanager
    def nothing(device: torch.device) -> Iterator[bool]:
        yield False

    monkeypatch.setattr(loop, "kept_memory", nothing)
    without = small_fit(tmp_path / "2")
    assert_same(found, without)
    assert "C library's" in {each.about: each.text for each in without.fitted.choices}["allocator"]
