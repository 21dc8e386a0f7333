"""Graphs answer as their networks."""

import weakref
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from nets_for_graphs import ConvNet, Perceptron, export_conv_net, export_perceptron, trained
from torch import nn

from mlctl.errors import DataError
from mlctl.graphs.export import export
from mlctl.graphs.parity import MOST_SAMPLES, differences, parity
from mlctl.runtime.answers import Arrays
from mlctl.runtime.session import OnnxSession

Answer = Callable[[Arrays], npt.NDArray[np.float32]]

IMAGES = np.random.default_rng(0).integers(0, 17, (40, 1, 8, 8)).astype(np.uint8)
ROWS = np.random.default_rng(1).normal(size=(30, 6)).astype(np.float32)


def answering(net: nn.Module) -> Answer:
    ready = trained(net)

    def reference(inputs: Arrays) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(ready(*(torch.from_numpy(each) for each in inputs)).numpy())

    return reference


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Networks this small lose most of their time when threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def conv_session(tmp_path_factory: pytest.TempPathFactory) -> OnnxSession:
    return OnnxSession(export_conv_net(tmp_path_factory.mktemp("conv")).path, threads=1)


@pytest.fixture(scope="module")
def perceptron_session(tmp_path_factory: pytest.TempPathFactory) -> OnnxSession:
    return OnnxSession(export_perceptron(tmp_path_factory.mktemp("perceptron")).path, threads=1)


def test_a_convolutional_network_and_its_graph_agree_at_every_batch_size(conv_session: OnnxSession) -> None:
    found = parity(answering(ConvNet()), conv_session, (IMAGES,), decision="argmax")
    assert [(each.batch, each.samples, each.agreement) for each in found.batches] == [
        (1, 40, 1),
        (2, 40, 1),
        (17, 40, 1),
    ]
    assert found.worst == max(each.max_difference for each in found.batches)
    # Probabilities of a few hundred float32 products: a few units of 6e-8, never above 1e-5.
    assert 0 < found.worst < 1e-5
    assert found.batches[0].max_absolute < 1e-5


def test_a_perceptron_and_its_graph_agree(perceptron_session: OnnxSession) -> None:
    found = parity(answering(Perceptron()), perceptron_session, (ROWS,), decision="none")
    assert found.worst < 1e-5
    assert all(each.agreement == 1 for each in found.batches)


def test_another_network_is_found_out(conv_session: OnnxSession) -> None:
    reference = answering(ConvNet())

    def moved(inputs: Arrays) -> npt.NDArray[np.float32]:
        return np.roll(reference(inputs), 1, axis=-1)

    found = parity(moved, conv_session, (IMAGES,), decision="argmax")
    assert found.worst > 0.01
    assert found.batches[0].agreement < 0.5


def test_a_graph_that_is_wrong_only_in_batches_is_found_out(conv_session: OnnxSession) -> None:
    reference = answering(ConvNet())

    def mixed(inputs: Arrays) -> npt.NDArray[np.float32]:
        return reference(inputs) + (0.5 if len(inputs[0]) == 17 else 0)

    found = parity(mixed, conv_session, (IMAGES,), decision="none")
    assert [each.max_difference > 0.1 for each in found.batches] == [False, False, True]


def test_a_number_that_is_not_finite_differs_infinitely(conv_session: OnnxSession) -> None:
    def broken(inputs: Arrays) -> npt.NDArray[np.float32]:
        answers = answering(ConvNet())(inputs)
        answers[0, 0] = np.nan
        return answers

    found = parity(broken, conv_session, (IMAGES,), decision="none", batches=(40,))
    assert found.worst == np.inf
    assert found.batches[0].agreement == 39 / 40


def test_answers_of_another_shape_differ_infinitely(conv_session: OnnxSession) -> None:
    found = parity(lambda inputs: answering(ConvNet())(inputs)[:, :4], conv_session, (IMAGES,), decision="argmax")
    assert found.worst == np.inf
    assert found.batches[0].agreement == 0


def test_few_rows_fill_a_batch_and_many_are_cut(perceptron_session: OnnxSession) -> None:
    few = parity(answering(Perceptron()), perceptron_session, (ROWS[:3],), decision="none")
    assert [each.samples for each in few.batches] == [3, 3, 17]
    many = np.tile(ROWS, (20, 1))
    cut = parity(answering(Perceptron()), perceptron_session, (many,), decision="none", batches=(64,))
    assert [each.samples for each in cut.batches] == [MOST_SAMPLES]


def test_no_rows_are_refused(perceptron_session: OnnxSession) -> None:
    with pytest.raises(DataError, match="no rows to compare"):
        parity(answering(Perceptron()), perceptron_session, (ROWS[:0],), decision="none")


def test_differences_by_hand() -> None:
    expected = np.array([0.0, 0.0, 2.0, -4.0, np.nan, np.inf, np.inf, 1.0])
    given_ = np.array([0.0, 0.1, 2.5, -4.0, np.nan, np.inf, 1.0, np.nan])
    absolute, relative = differences(expected, given_)
    assert absolute.tolist() == [0, 0.1, 0.5, 0, 0, 0, np.inf, np.inf]
    assert relative.tolist() == [0, np.inf, 0.25, 0, 0, 0, np.inf, np.inf]


@given(pair=arrays(np.float64, st.tuples(st.just(2), st.integers(1, 8)), elements=st.floats(width=32, allow_nan=True)))
def test_differences_are_never_negative_and_vanish_only_for_equals(pair: npt.NDArray[np.float64]) -> None:
    expected, other = pair
    absolute, relative = differences(expected, other)
    same = (expected == other) | (np.isnan(expected) & np.isnan(other))
    assert ((absolute == 0) == same).all()
    assert (absolute >= 0).all()
    assert (relative >= 0).all()


class Places(nn.Module):
    """Three numbers at every place of a row: [B, T] → [B, T, 3]."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(1, 3)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        numbers: torch.Tensor = self.head(rows[..., None])
        return numbers


@pytest.fixture(scope="module")
def places_session(tmp_path_factory: pytest.TempPathFactory) -> OnnxSession:
    path = export(
        trained(Places()),
        example=(torch.zeros(2, 6),),
        input_names=("rows",),
        output_name="numbers",
        opset=20,
        metadata={},
        into=tmp_path_factory.mktemp("places"),
    ).path
    return OnnxSession(path, threads=1)


def test_every_place_of_a_row_is_a_decision(places_session: OnnxSession) -> None:
    reference = answering(Places())

    def one_place_moved(inputs: Arrays) -> npt.NDArray[np.float32]:
        answers = reference(inputs)
        answers[:, 2] = -answers[:, 2]
        return answers

    found = parity(one_place_moved, places_session, (ROWS,), decision="argmax")
    assert [each.agreement for each in found.batches] == [5 / 6] * 3
    assert found.worst > 0.01


def test_rows_with_many_numbers_are_compared_on_as_many_as_fill_a_batch(
    places_session: OnnxSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlctl.graphs.parity.MOST_NUMBERS", 18 * 20)
    rows = np.tile(ROWS, (2, 1))
    found = parity(answering(Places()), places_session, (rows,), decision="argmax")
    assert [each.samples for each in found.batches] == [20, 20, 20]
    monkeypatch.setattr("mlctl.graphs.parity.MOST_NUMBERS", 18)
    found = parity(answering(Places()), places_session, (rows,), decision="argmax")
    assert [each.samples for each in found.batches] == [17, 17, 17]


def test_differences_are_the_same_in_chunks_of_any_size(
    perceptron_session: OnnxSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = parity(answering(Perceptron()), perceptron_session, (ROWS,), decision="none")
    monkeypatch.setattr("mlctl.graphs.parity._CHUNK_NUMBERS", 1)
    assert parity(answering(Perceptron()), perceptron_session, (ROWS,), decision="none") == whole


def test_memory_holds_one_batch_of_answers(places_session: OnnxSession) -> None:
    """Every answer is gone when the one after the next is asked for."""
    reference = answering(Places())
    given_out: list[weakref.ref[npt.NDArray[np.float32]]] = []
    alive: list[int] = []

    def watched(inputs: Arrays) -> npt.NDArray[np.float32]:
        alive.append(sum(each() is not None for each in given_out))
        found = reference(inputs).copy()
        given_out.append(weakref.ref(found))
        return found

    parity(watched, places_session, (ROWS,), decision="argmax", batches=(1,))
    assert len(alive) == len(ROWS) + 1
    assert max(alive) <= 1
