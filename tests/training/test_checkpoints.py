import errno
import os
import threading
import time
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file

from mlctl.errors import DiskFull, MachineError
from mlctl.events import Event, Warned, silent
from mlctl.training.checkpoints import FILE_NAME, Checkpoint, CheckpointFile
from mlctl.training.history import EpochRecord
from mlctl.training.tensor_file import TYPES, write_tensors

RECORDS = (EpochRecord(1, 4, 0.1 + 0.2, 1 / 3, (2.5, None)), EpochRecord(2, 8, 1e-9, 1e300, (2.25, 0.1)))
PATIENCE = 30.0


def example() -> Checkpoint:
    tensors = {
        "network/weight": torch.randn(3, 2, 4, 4).to(memory_format=torch.channels_last),
        "network/count": torch.tensor(7),
        "losses/values": torch.tensor([1.0, float("nan")]),
        "network/half": torch.randn(3).bfloat16(),
        "network/none": torch.zeros(0, 3),
    }
    best = {"best/weight": torch.randn(2, 3)}
    return Checkpoint(total_steps=12, epoch=2, step=1, micro_batch=8, history=RECORDS, tensors=tensors, settled=best)


def write(folder: Path, checkpoint: Checkpoint | None = None) -> None:
    with CheckpointFile(folder, 30, silent) as file:
        file.write(checkpoint or example())


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path: Path) -> None:
    written = example()
    write(tmp_path / "resume", written)
    read = CheckpointFile(tmp_path / "resume", 30, silent).read(total_steps=12)
    assert read is not None
    assert (read.epoch, read.step, read.micro_batch, read.history) == (2, 1, 8, RECORDS)
    everything = {**written.tensors, **written.settled}
    assert read.tensors.keys() == everything.keys()
    for name, tensor in read.tensors.items():
        torch.testing.assert_close(tensor, everything[name], rtol=0, atol=0, equal_nan=True)
    assert [each.name for each in (tmp_path / "resume").iterdir()] == [FILE_NAME]


def test_there_is_one_file_and_one_key_with_all_that_is_not_a_tensor(tmp_path: Path) -> None:
    write(tmp_path)
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


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.data())
def test_any_damage_is_told_of_and_the_file_left_out(tmp_path: Path, data: st.DataObject) -> None:
    torch.manual_seed(0)
    write(tmp_path)
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
    write(tmp_path)
    assert CheckpointFile(tmp_path, 30, told.append).read(total_steps=13) is None
    assert "total_steps is 12, not 13" in str(told)


class Gate:
    """Holds every `os.fsync` of a checkpoint's thread until it is opened."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()
        self.under_way = 0
        patch.setattr(os, "fsync", self._hold)

    def _hold(self, descriptor: int) -> None:
        self.under_way += 1
        assert self.under_way == 1
        self.reached.set()
        assert self.open.wait(PATIENCE)
        self.under_way -= 1


def test_training_goes_on_while_the_file_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens to the tensors after `write` came back is no part of the checkpoint."""
    gate = Gate(monkeypatch)
    moving = torch.arange(5.0)
    with CheckpointFile(tmp_path, 1e-9, silent) as file:
        file.write(Checkpoint(12, 0, 1, 4, (), {"network/weight": moving}))
        assert gate.reached.wait(PATIENCE)
        moving.fill_(-1)
        assert not (tmp_path / FILE_NAME).exists()
        assert not file.is_due()  # never two at once
        gate.open.set()
    assert load_file(tmp_path / FILE_NAME)["network/weight"].tolist() == [0, 1, 2, 3, 4]


def test_a_second_write_waits_for_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    with CheckpointFile(tmp_path, 1e9, silent) as file:
        file.write(Checkpoint(12, 0, 1, 4, (), {"network/weight": torch.zeros(3)}))
        assert gate.reached.wait(PATIENCE)
        threading.Timer(0.1, gate.open.set).start()
        file.write(Checkpoint(12, 0, 2, 4, (), {"network/weight": torch.ones(3)}))
        assert gate.open.is_set()
    read = CheckpointFile(tmp_path, 30, silent).read(12)
    assert read is not None
    assert (read.step, read.tensors["network/weight"].tolist()) == (2, [1, 1, 1])


def test_tensors_that_change_their_shape_are_copied_anew(tmp_path: Path) -> None:
    with CheckpointFile(tmp_path, 30, silent) as file:
        for size in (3, 5, 2):
            file.write(Checkpoint(12, 0, 1, 4, (), {"network/weight": torch.ones(size)}))
    assert load_file(tmp_path / FILE_NAME)["network/weight"].shape == (2,)


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, DiskFull), (errno.EFBIG, DiskFull), (errno.EIO, MachineError)]
)
def test_what_the_thread_could_not_write_comes_out_at_the_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[MachineError]
) -> None:
    write(tmp_path)
    before = (tmp_path / FILE_NAME).read_bytes()

    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    file = CheckpointFile(tmp_path, 1e9, silent)
    file.write(example())
    with pytest.raises(kind) as refusal:
        look_for_a_while(file)
    assert refusal.value.exit_code == 5
    assert refusal.value.where == str(tmp_path / FILE_NAME)
    assert (tmp_path / FILE_NAME).read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == [FILE_NAME]


def look_for_a_while(file: CheckpointFile) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        file.is_due()


def test_at_its_end_a_training_hears_of_what_could_not_be_written(tmp_path: Path) -> None:
    file = CheckpointFile(tmp_path / "file" / "resume", 30, silent)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(MachineError, match="a checkpoint cannot be written"), file:
        file.write(example())


def test_an_error_on_its_way_is_not_hidden_by_that_of_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    def leave() -> None:
        with CheckpointFile(tmp_path / "file" / "resume", 30, silent) as file:
            file.write(example())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        leave()


def test_a_write_that_fails_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    write(tmp_path)
    before = (tmp_path / FILE_NAME).read_bytes()
    (tmp_path / FILE_NAME).with_suffix(".writing").mkdir()  # the new one cannot be written
    with pytest.raises(MachineError, match="directory"):
        write(tmp_path)
    assert (tmp_path / FILE_NAME).read_bytes() == before


def test_a_checkpoint_is_due_when_the_last_one_is_old(tmp_path: Path) -> None:
    assert CheckpointFile(tmp_path, 1e-9, silent).is_due()
    assert not CheckpointFile(tmp_path, 1e9, silent).is_due()


def test_what_a_killed_process_left_half_written_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).with_suffix(".writing").write_bytes(os.urandom(100))
    assert CheckpointFile(tmp_path, 30, silent).read(12) is None
    write(tmp_path)
    assert CheckpointFile(tmp_path, 30, silent).read(12) is not None


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_the_library_reads_what_is_written_here(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {
        "turned": torch.arange(12).reshape(3, 4).t().to(dtype),
        "single": torch.tensor(1).to(dtype),
        "ünï": torch.zeros(2, 0).to(dtype),
    }
    with (tmp_path / "tensors").open("wb") as stream:
        write_tensors(stream, tensors, 'a "text"')
    with safe_open(tmp_path / "tensors", framework="pt") as file:
        assert file.metadata() == {"mlctl": 'a "text"'}
    read = load_file(tmp_path / "tensors")
    assert read.keys() == tensors.keys()
    for name, tensor in read.items():
        assert (tensor.dtype, tensor.shape) == (dtype, tensors[name].shape)
        assert bytes_of(tensor) == bytes_of(tensors[name])


def bytes_of(tensor: torch.Tensor) -> list[int]:
    numbers: list[int] = tensor.contiguous().flatten().view(torch.uint8).tolist()
    return numbers
