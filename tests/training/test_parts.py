"""A device without room: the micro-batch is halved, the step done again, and nothing else changes."""

import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_fits import CPU, Classification, Outcome, assert_same, small_fit
from torch import Tensor, nn

from mlctl.errors import OutOfMemory
from mlctl.events import Event, Warned, silent
from mlctl.models.complete import CompleteModel, InputScaling
from mlctl.recipe.networks import MlpSettings
from mlctl.recipe.optimization import AdamWSettings, SgdSettings
from mlctl.training.checkpoints import CheckpointFile
from mlctl.training.parts import Parts

NO_ROOM = "CUDA out of memory. Tried to allocate 20.00 MiB."


@given(count=st.integers(1, 500), size=st.integers(1, 600))
def test_parts_are_as_few_as_can_be_and_cover_every_sample_once(count: int, size: int) -> None:
    slices = Parts(size, CPU, silent).slices(count)
    assert [place for part in slices for place in range(part.start, part.stop)] == list(range(count))
    lengths = [part.stop - part.start for part in slices]
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1
    assert len(slices) == -(-count // size)


@given(count=st.integers(1, 300), size=st.integers(1, 300), room=st.integers(1, 300))
def test_the_size_is_halved_until_there_is_room(count: int, size: int, room: int) -> None:
    told: list[Event] = []
    undone: list[int] = []
    parts = Parts(size, CPU, told.append)

    def compute(slices: tuple[slice, ...]) -> int:
        if max(part.stop - part.start for part in slices) > room:
            raise torch.OutOfMemoryError(NO_ROOM)
        return len(slices)

    parts.fitting(count, compute, lambda: undone.append(parts.size))
    assert len(told) == len(undone)
    assert -(-count // len(parts.slices(count))) <= room
    if told:
        # Never smaller than half of what had no room.
        assert 2 * parts.size >= min(undone[-1], count) > room
        assert all(isinstance(event, Warned) for event in told)
    else:
        assert parts.size == size


@pytest.mark.parametrize(
    "error",
    [MemoryError(), torch.OutOfMemoryError(NO_ROOM), RuntimeError("DefaultCPUAllocator: can't allocate memory")],
)
def test_every_way_of_having_no_room_is_known(error: Exception) -> None:
    parts = Parts(4, CPU, silent)
    errors = [error]

    def compute(slices: tuple[slice, ...]) -> int:
        if errors:
            raise errors.pop()
        return len(slices)

    assert parts.fitting(4, compute, lambda: None) == 2


def test_other_errors_are_not_a_lack_of_memory() -> None:
    def compute(slices: tuple[slice, ...]) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        Parts(4, CPU, silent).fitting(4, compute, lambda: None)


@pytest.mark.parametrize("has_normalization", [True, False])
def test_no_room_for_the_fewest_samples_ends_the_training(tmp_path: Path, has_normalization: bool) -> None:
    model = cramped(0)
    if not has_normalization:
        model.network.norm = nn.Identity()
    fewest = "two samples, and batch normalization needs as many" if has_normalization else "a single sample"
    with pytest.raises(OutOfMemory, match=f"cpu has no room for {fewest}: CUDA out of memory") as refusal:
        small_fit(tmp_path, model=model)
    assert refusal.value.exit_code == 4
    assert refusal.value.next == "choose a smaller network, or another `--device`"


@dataclass
class Room:
    """How many rows fit from which call on, and how many rows every call was given."""

    rows: int
    since: int = 0
    seen: list[int] = field(default_factory=list)

    def take(self, rows: int) -> None:
        self.seen.append(rows)
        if len(self.seen) > self.since and rows > self.rows:
            raise torch.OutOfMemoryError(NO_ROOM)


class Cramped(nn.Module):
    """A network with batch normalization and chance, in a device with little room behind its first layer."""

    def __init__(self, room: Room) -> None:
        super().__init__()
        self.body = nn.Linear(16, 8)
        self.norm = nn.BatchNorm1d(8)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(8, 3)
        self.room = room

    def forward(self, image: Tensor) -> Tensor:
        hidden = self.norm(self.body(image.flatten(1)))
        if self.training:
            self.room.take(len(image))
        outputs: Tensor = self.head(self.dropout(hidden))
        return outputs


def cramped(rows: int, since: int = 0) -> CompleteModel:
    torch.manual_seed(0)
    return CompleteModel(Cramped(Room(rows, since)), (InputScaling(255.0),), nn.Identity())


CHANGES: dict[str, Any] = {"epochs": 3, "samples": 64, "optimizer": AdamWSettings(lr=1e-2)}


def test_what_had_no_room_is_done_again_from_its_own_seed(tmp_path: Path) -> None:
    """16 rows do not fit, nor 8: from the first step on it is the training with a micro-batch of 4, bit for bit.

    Running statistics that the failed attempts had moved are put back.
    """
    told: list[Event] = []
    found = small_fit(tmp_path / "found", model=cramped(5), tell=told.append, **CHANGES)
    asked = small_fit(tmp_path / "asked", model=cramped(5), micro_batch=4, **CHANGES)
    assert_same(found, asked)
    warnings = [event.text for event in told if isinstance(event, Warned)]
    assert [text[: text.index(";")] for text in warnings] == [
        "cpu has no room for 16 samples at once",
        "cpu has no room for 8 samples at once",
    ]
    choices = {each.about: each.text for each in found.fitted.choices}
    assert choices["micro_batch"] == "4: cpu has no room for more"


def interrupted_then_resumed(folder: Path, since: int, at: int) -> Outcome:
    """Room ends with call `since`; the process is stopped in step `at`, and another one goes on."""
    with pytest.raises(KeyboardInterrupt):
        small_fit(folder, model=cramped(5, since), objective=Stopping(at), **CHANGES)
    return small_fit(folder, model=cramped(16), **CHANGES)


class Stopping(Classification):
    def __init__(self, at: int) -> None:
        self.left = at

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGINT)
        return super().loss(outputs, targets)


def test_a_resumed_training_keeps_the_size_that_was_found(tmp_path: Path) -> None:
    """Four steps an epoch. Room ends in step 6; a process that has room for all goes on with the small parts."""
    expected = small_fit(tmp_path / "whole", model=cramped(5, since=5), **CHANGES)
    resumed = interrupted_then_resumed(tmp_path / "parts", since=5, at=16)
    assert_same(resumed, expected)
    checkpoint = CheckpointFile(tmp_path / "parts", 30, silent).read(total_steps=12)
    assert checkpoint is not None
    assert checkpoint.micro_batch == 4


def test_a_last_batch_with_one_sample_more_is_no_reason_to_cut(tmp_path: Path) -> None:
    model = cramped(100)
    small_fit(tmp_path, model=model, samples=33, epochs=1)
    assert isinstance(model.network, Cramped)
    assert model.network.room.seen == [16, 17]


def test_validation_runs_in_parts_that_fit_too(tmp_path: Path) -> None:
    room = Room(5)

    class CrampedAnswers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(16, 3)

        def forward(self, image: Tensor) -> Tensor:
            if not self.training:
                room.take(len(image))
            outputs: Tensor = self.head(image.flatten(1))
            return outputs

    def model() -> CompleteModel:
        torch.manual_seed(0)
        return CompleteModel(CrampedAnswers(), (InputScaling(255.0),), nn.Identity())

    changes: dict[str, Any] = {"epochs": 1, "optimizer": SgdSettings(lr=0.01)}
    found = small_fit(tmp_path / "1", model=model(), **changes).fitted.history[0]
    room.rows = 100
    expected = small_fit(tmp_path / "2", model=model(), **changes).fitted.history[0]
    assert max(room.seen[3:]) == 16
    # The same losses of 40 rows, added in another order in float32.
    assert found.validation == pytest.approx(expected.validation, rel=1e-6)
    assert found.train_loss == expected.train_loss


@pytest.mark.parametrize("micro_batch", [1, 3, 7, 15, 16, 99])
def test_parts_add_up_to_the_batch(tmp_path: Path, micro_batch: int) -> None:
    """Without batch normalization and dropout the parts' gradients, each by its share, are those of the batch."""
    plain: dict[str, Any] = {"epochs": 3, "optimizer": SgdSettings(lr=0.05), "l1": 1e-3, "clip_norm": 0.5}
    network = MlpSettings(hidden=(8,))
    whole = small_fit(tmp_path / "whole", network, **plain)
    parts = small_fit(tmp_path / "parts", network, micro_batch=micro_batch, **plain)
    for name, weights in parts.weights.items():
        # 15 steps of float32 sums in another order, on weights near 1.
        torch.testing.assert_close(weights, whole.weights[name], rtol=1e-4, atol=1e-6)
    losses = [[record.train_loss for record in each.fitted.history] for each in (parts, whole)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_blended_partners_may_be_in_another_part(tmp_path: Path) -> None:
    """Augmentation sees the whole batch, so that the size of its parts changes no draw."""
    changes: dict[str, Any] = {"augment": {"shift": 1, "flip": True, "mixup": 0.4}, "epochs": 3}
    network = MlpSettings(hidden=(8,))
    whole = small_fit(tmp_path / "whole", network, **changes)
    parts = small_fit(tmp_path / "parts", network, micro_batch=5, **changes)
    for name, weights in parts.weights.items():
        torch.testing.assert_close(weights, whole.weights[name], rtol=1e-3, atol=1e-5)
