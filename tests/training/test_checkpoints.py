import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from mlctl.events import Event, Warned, silent
from mlctl.training.checkpoints import FILE_NAME, Checkpoint, CheckpointFile
from mlctl.training.history import EpochRecord

RECORDS = (EpochRecord(1, 4, 0.1 + 0.2, 1 / 3, (2.5, None)), EpochRecord(2, 8, 1e-9, 1e300, (2.25, 0.1)))


def example() -> Checkpoint:
    tensors = {
        "network/weight": torch.randn(3, 2, 4, 4).to(memory_format=torch.channels_last),
        "network/count": torch.tensor(7),
        "random/cpu": torch.get_rng_state(),
        "losses/values": torch.tensor([1.0, float("nan")]),
        "network/half": torch.randn(3).bfloat16(),
        "network/none": torch.zeros(0, 3),
    }
    return Checkpoint(total_steps=12, epoch=2, step=1, history=RECORDS, tensors=tensors)


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path: Path) -> None:
    written = example()
    file = CheckpointFile(tmp_path / "resume", 30, silent)
    file.write(written)
    read = file.read(total_steps=12)
    assert read is not None
    assert (read.epoch, read.step, read.history) == (2, 1, RECORDS)
    assert read.tensors.keys() == written.tensors.keys()
    for name, tensor in read.tensors.items():
        torch.testing.assert_close(tensor, written.tensors[name], rtol=0, atol=0, equal_nan=True)
    assert [each.name for each in (tmp_path / "resume").iterdir()] == [FILE_NAME]


def test_there_is_one_file_and_one_key_with_all_that_is_not_a_tensor(tmp_path: Path) -> None:
    CheckpointFile(tmp_path, 30, silent).write(example())
    with safe_open(tmp_path / FILE_NAME, framework="pt") as file:
        assert list(file.metadata()) == ["mlctl"]


def test_without_a_file_there_is_nothing_to_go_on_from(tmp_path: Path) -> None:
    told: list[Event] = []
    assert CheckpointFile(tmp_path, 30, told.append).read(12) is None
    assert told == []


def read_after(tmp_path: Path, damaged: bytes) -> tuple[Checkpoint | None, list[Event]]:
    (tmp_path / FILE_NAME).write_bytes(damaged)
    told: list[Event] = []
    return CheckpointFile(tmp_path, 30, told.append).read(12), told


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(data=st.data())
def test_any_damage_is_told_of_and_the_file_left_out(tmp_path: Path, data: st.DataObject) -> None:
    torch.manual_seed(0)
    CheckpointFile(tmp_path, 30, silent).write(example())
    whole = (tmp_path / FILE_NAME).read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        damaged = whole[:place]
    else:
        flipped = whole[place] ^ data.draw(st.integers(1, 255))
        damaged = whole[:place] + bytes([flipped]) + whole[place + 1 :]
    found, told = read_after(tmp_path, damaged)
    assert found is None
    assert [type(event) for event in told] == [Warned]
    assert "training starts from the beginning" in str(told[0])


def test_a_checkpoint_of_a_training_of_another_length_is_left_out(tmp_path: Path) -> None:
    told: list[Event] = []
    file = CheckpointFile(tmp_path, 30, told.append)
    file.write(example())
    assert file.read(total_steps=13) is None
    assert "total_steps is 12, not 13" in str(told)


def test_a_write_that_fails_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    file = CheckpointFile(tmp_path, 30, silent)
    file.write(example())
    before = (tmp_path / FILE_NAME).read_bytes()
    file.path.with_suffix(".writing").mkdir()  # the new one cannot be written
    with pytest.raises(OSError, match="directory"):
        file.write(example())
    assert (tmp_path / FILE_NAME).read_bytes() == before


def test_a_checkpoint_is_due_when_the_last_one_is_old(tmp_path: Path) -> None:
    assert CheckpointFile(tmp_path, 1e-9, silent).is_due()
    assert not CheckpointFile(tmp_path, 1e9, silent).is_due()


def test_what_a_killed_process_left_half_written_is_in_nobodys_way(tmp_path: Path) -> None:
    file = CheckpointFile(tmp_path, 30, silent)
    file.path.with_suffix(".writing").write_bytes(os.urandom(100))
    assert file.read(12) is None
    file.write(example())
    assert file.read(12) is not None
