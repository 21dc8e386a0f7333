"""What a machine says about itself, real and described."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from mlctl.runtime.machine import control_groups, machine, processor, processor_quota

CORE = """processor\t: {number}
model name\t: Example 9000 @ 3.0 GHz: Turbo
physical id\t: 0
core id\t\t: {core}
flags\t\t: fpu avx2 avx512f {more}
"""


def cpuinfo(*cores: tuple[int, int, str]) -> str:
    return "\n".join(CORE.format(number=number, core=core, more=more) for number, core, more in cores)


def test_this_machine_says_what_the_system_says() -> None:
    found = machine()
    assert found.processor.logical_cores == len(os.sched_getaffinity(0))
    assert 1 <= found.processor.physical_cores <= found.processor.logical_cores
    assert 0 < found.memory_bytes <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert found.python == platform.python_version()
    assert found.processor.model


def test_asking_loads_no_heavy_library() -> None:
    program = "import sys; from mlctl.runtime.machine import machine; machine(); print('numpy' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"


def test_cores_are_counted_once_each_and_only_where_allowed() -> None:
    text = cpuinfo((0, 0, ""), (1, 0, ""), (2, 1, ""), (3, 1, ""))
    assert processor(text, frozenset({0, 1, 2, 3})).physical_cores == 2
    found = processor(text, frozenset({0, 1}))
    assert (found.logical_cores, found.physical_cores) == (2, 1)
    assert found.model == "Example 9000 @ 3.0 GHz: Turbo"


def test_an_instruction_set_counts_when_every_allowed_core_has_it() -> None:
    text = cpuinfo((0, 0, "avx_vnni amx_int8"), (1, 1, "avx_vnni"))
    assert processor(text, frozenset({0, 1})).instruction_sets == ("avx2", "avx512f", "avx_vnni")
    assert processor(text, frozenset({0})).instruction_sets == ("avx2", "avx512f", "avx_vnni", "amx_int8")


@pytest.mark.parametrize("text", ["", "processor\t: 0\nFeatures\t: fp asimd\n\nprocessor\t: 1\nFeatures\t: fp asimd\n"])
def test_a_processor_without_description_has_cores_and_no_sets(text: str) -> None:
    found = processor(text, frozenset({0, 1}))
    assert (found.logical_cores, found.physical_cores, found.instruction_sets) == (2, 2, ())
    assert found.model == platform.machine()


def test_the_tightest_quota_of_nested_groups_holds(tmp_path: Path) -> None:
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    (inner / "cpu.max").write_text("max 100000\n")
    (tmp_path / "outer" / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "cpu.max").write_text("800000 100000\n")
    assert processor_quota(control_groups("0::/outer/inner\n", tmp_path)) == 1.5


def test_a_quota_of_version_1_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "cpu,cpuacct" / "job"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text("50000\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / "cpu,cpuacct" / "cpu.cfs_quota_us").write_text("-1\n")
    (tmp_path / "cpu,cpuacct" / "cpu.cfs_period_us").write_text("100000\n")
    assert processor_quota(control_groups("3:cpuset:/job\n2:cpu,cpuacct:/job\n", tmp_path)) == 0.5


def test_no_group_means_no_quota(tmp_path: Path) -> None:
    assert processor_quota(control_groups("", tmp_path)) is None
    assert processor_quota(control_groups("0::/\n", tmp_path)) is None


@pytest.mark.parametrize(
    ("script", "names"),
    [
        ("echo 'GPU 0: Example A100-80GB (UUID: GPU-1-2)'; echo 'GPU 1: Example T4 (UUID: GPU-3)'", 2),
        ("echo 'no driver' >&2; exit 9", 0),
    ],
)
def test_graphics_processors_are_listed_by_the_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, names: int
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert machine().gpus == ("Example A100-80GB", "Example T4")[:names]
