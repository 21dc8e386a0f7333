"""A group of three real processes over gloo, and a group of one."""

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mlctl.errors import UsageError
from mlctl.training.places import Place
from mlctl.training.processes import Group, device_at

COUNT = 3
"""With two, a sum has no order."""


@pytest.fixture(scope="module")
def reports() -> list[dict[str, Any]]:
    """What each process found, by rank."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    script = str(Path(__file__).with_name("group_of_processes.py"))
    commands = [[sys.executable, script, str(rank), str(COUNT), port] for rank in range(COUNT)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    try:
        found = [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [json.loads(text) for text in found]


def test_all_hear_the_leader_and_sum_what_all_have(reports: list[dict[str, Any]]) -> None:
    for report in reports:
        assert report["backend"] == "gloo"
        assert (report["word"], report["nothing"]) == ({"said": [1, None, "ü"]}, None)
        assert report["sum"] == pytest.approx([3, 0.3])


def test_tensors_of_any_type_and_shape_are_handed_out(reports: list[dict[str, Any]]) -> None:
    assert reports[0]["tensors"] == reports[1]["tensors"] == reports[2]["tensors"]
    assert reports[1]["tensors"] == {
        "halves": ["torch.bfloat16", [1, 2], [[1.5, -2.0]]],
        "flags": ["torch.bool", [2], [True, False]],
        "count": ["torch.int64", [], 2**40],
        "none": ["torch.float32", [0, 3], []],
        "strided": ["torch.float32", [3, 2], [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]],
    }


def test_gradients_are_the_mean_over_all_processes(reports: list[dict[str, Any]]) -> None:
    found = [report["wrapping"] for report in reports]
    assert len({each["first"] for each in found}) == 1
    assert len({each["own"] for each in found}) == COUNT
    for each in found:
        # Gradients reach 80 here, where float32 rounds each of four operations by up to 4e-6.
        assert each["furthest_from_mean"] < 2e-5


def test_the_first_pass_sums_in_the_same_order_as_all_that_follow(reports: list[dict[str, Any]]) -> None:
    """Or else a training that is resumed would not be the same to the bit."""
    assert [report["wrapping"]["is_same_every_time"] for report in reports] == [True] * COUNT


def test_wrapping_a_network_leaves_no_trace(reports: list[dict[str, Any]]) -> None:
    for report in reports:
        assert report["wrapping"]["is_untouched"] == {"random": True, "buffers": True, "gradients": True}


def test_a_parameter_without_a_part_in_the_outputs_is_named(reports: list[dict[str, Any]]) -> None:
    for report in reports:
        assert report["unused"].startswith("idle.weight, idle.bias has no part in the network's outputs")


def test_the_leader_obeys_its_signal_and_the_others_go_on(reports: list[dict[str, Any]]) -> None:
    assert [report["obeyed"] for report in reports] == [15, None, None]


def test_alone_everything_is_left_as_it_is() -> None:
    group = Group.alone()
    network, values = nn.Linear(2, 1), torch.tensor([2.0])
    assert group.wrap(network, (torch.ones(1, 2),)) is network
    assert group.sum(values) is values
    assert group.word([1]) == [1]
    assert group.tensors({"a": values})["a"] is values
    assert (group.obeyed(2), group.obeyed(None)) == (2, None)
    assert (group.is_leader, group.count, group.backend) == (True, 1, None)
    with group.unsynced(network):
        network(torch.ones(1, 2)).sum().backward()
    assert network.weight.grad is not None
    group.leave()


def test_on_a_cpu_every_process_has_the_same_device() -> None:
    place = Place(1, 2, 1, 2, "127.0.0.1", 1)
    assert device_at("cpu", place) == device_at("cpu", None) == torch.device("cpu")
    with pytest.raises(UsageError):
        device_at("tpu", place)
