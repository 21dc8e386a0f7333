"""Language models as graphs: texts of any length as a whole, and token by token with a state."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import Lab
from nets_over_tokens import CONTEXT, NETWORKS, export_decoder, export_whole, lively, tokens
from torch import Tensor, nn

from mlctl.errors import Unsupported
from mlctl.events import Event, Warned
from mlctl.graphs.decoder_export import convert_decoder
from mlctl.graphs.decoding import decoder_difference
from mlctl.graphs.export import write_graph
from mlctl.graphs.inspection import GraphPort, inspect
from mlctl.graphs.passes import GraphPass, rewritten
from mlctl.graphs.saving import DATA_NAME, FILE_NAME, load_graph
from mlctl.models.network_reader import NetworkReader
from mlctl.models.stateful import Stateful
from mlctl.runtime.generation import DECODER_NAME, GraphReader, Reader, WindowReader, empty_state
from mlctl.runtime.session import OnnxSession
from mlctl.training.trained import as_callable

# Logits near 1 to 10 out of two layers of sums of 16 to 64 products, float32 on both sides: some tens of 6e-8.
TOLERANCE = 2e-5
STATES = {
    "transformer": (2, "batch", 4, "past", 8),
    "lstm": (2, 2, "batch", 16),
    "gru": (1, 2, "batch", 16),
}
SHAPES = [(1, 1), (1, 33), (2, CONTEXT), (5, 3)]

every_network = pytest.mark.parametrize("name", NETWORKS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For every network a folder with both of its graphs."""
    root = tmp_path_factory.mktemp("graphs")
    for name in NETWORKS:
        (root / name).mkdir()
        export_whole(name, root / name)
        export_decoder(name, root / name)
    return root


@every_network
def test_batch_and_sequence_are_open_by_name(folder: Path, name: str) -> None:
    whole, steps = inspect(folder / name / FILE_NAME), inspect(folder / name / DECODER_NAME)
    assert whole.inputs == (GraphPort("tokens", "int64", ("batch", "sequence")),)
    assert whole.outputs == (GraphPort("logits", "float32", ("batch", "sequence", 11)),)
    assert steps.inputs == (*whole.inputs, GraphPort("state", "float32", STATES[name]))
    logits, state = steps.outputs
    assert logits == whole.outputs[0]
    assert (state.name, len(state.shape)) == ("next_state", len(STATES[name]))
    fixed = [size for size in STATES[name] if size != "past"]
    assert [size for size, given in zip(state.shape, STATES[name], strict=True) if given != "past"] == fixed


@every_network
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_texts_of_any_length_are_answered_as_torch_does(folder: Path, name: str, shape: tuple[int, int]) -> None:
    rows = tokens(*shape)
    with torch.inference_mode():
        expected = lively(name)(rows).numpy()
    assert expected.std() > 0.5
    given = OnnxSession(folder / name / FILE_NAME, threads=1)((rows.numpy(),))
    np.testing.assert_allclose(given, expected, rtol=TOLERANCE, atol=TOLERANCE)


@every_network
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_token_by_token_is_the_whole(folder: Path, name: str, shape: tuple[int, int]) -> None:
    session = OnnxSession(folder / name / DECODER_NAME, threads=1)
    whole = as_callable(lively(name), torch.device("cpu"))
    assert decoder_difference(whole, session, tokens(*shape).numpy()) <= TOLERANCE


@every_network
def test_a_difference_is_seen(folder: Path, name: str) -> None:
    session = OnnxSession(folder / name / DECODER_NAME, threads=1)
    network = lively(name)
    with torch.no_grad():
        # Fewer wrong numbers would be fewer than rounding errors can be told from.
        network.get_parameter("embedding.weight")[:] += 0.01
    whole = as_callable(network, torch.device("cpu"))
    assert decoder_difference(whole, session, tokens(2, CONTEXT).numpy()) > 1e-3


@every_network
def test_the_oldest_operator_set(name: str, tmp_path: Path) -> None:
    export_whole(name, tmp_path, opset=18)
    export_decoder(name, tmp_path, opset=18)
    steps, whole = (OnnxSession(tmp_path / file, threads=1) for file in (DECODER_NAME, FILE_NAME))
    assert inspect(tmp_path / DECODER_NAME).opset == 18
    assert decoder_difference(whole, steps, tokens(3, CONTEXT).numpy()) <= TOLERANCE


@every_network
def test_the_runtime_warns_of_nothing(folder: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 2
    for file in (FILE_NAME, DECODER_NAME):
        session = onnxruntime.InferenceSession(folder / name / file, options)
        for shape in SHAPES:
            rows = {"tokens": tokens(*shape).numpy()}
            if file == DECODER_NAME:
                rows["state"] = empty_state(OnnxSession(folder / name / file, threads=1), shape[0])
            session.run(None, rows)
    assert capfd.readouterr() == ("", "")


def test_another_process_writes_the_same_bytes(folder: Path, tmp_path: Path, lab: Lab) -> None:
    names = ["transformer", "lstm"]
    script = Path(__file__).parent / "nets_over_tokens.py"
    environment = {**lab.environment(), "PYTHONHASHSEED": "77"}
    ran = subprocess.run(
        [sys.executable, str(script), str(tmp_path), *names],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (ran.stdout, ran.stderr) == ("", "")
    for name in names:
        for file in (FILE_NAME, DECODER_NAME):
            assert (tmp_path / name / file).read_bytes() == (folder / name / file).read_bytes()


@every_network
def test_every_reader_expects_the_same(folder: Path, name: str) -> None:
    network, text = lively(name), tokens(1, 14)[0].tolist()
    assert isinstance(network, Stateful)
    readers: list[Reader] = [
        NetworkReader(network, CONTEXT),
        GraphReader(OnnxSession(folder / name / DECODER_NAME, threads=1), CONTEXT),
        WindowReader(OnnxSession(folder / name / FILE_NAME, threads=1), CONTEXT),
    ]
    for reader in readers[:2]:
        assert reader.capacity == (CONTEXT if name == "transformer" else None)
    for repeat in range(2):
        for part in (text[:5], text[5:6], text[6:9]):
            first, *others = (reader.read(part) for reader in readers)
            for other in others:
                np.testing.assert_allclose(other, first, rtol=TOLERANCE, atol=TOLERANCE, err_msg=f"repeat {repeat}")
        assert [reader.known for reader in readers] == [9, 9, 9]
        for each in readers:
            each.forget()


@every_network
def test_weights_beside_the_graph_are_stored_once(folder: Path, name: str, tmp_path: Path) -> None:
    write_graph(load_graph(folder / name / FILE_NAME), tmp_path, external_above=0)
    took = export_decoder(name, tmp_path, external_above=10**9)
    assert sorted(each.name for each in tmp_path.iterdir()) == [DECODER_NAME, FILE_NAME, DATA_NAME]
    assert took == (tmp_path / DECODER_NAME).stat().st_size < (folder / name / DECODER_NAME).stat().st_size
    rows = tokens(2, CONTEXT)
    sessions = [OnnxSession(each / DECODER_NAME, threads=1) for each in (tmp_path, folder / name)]
    one, two = (session.all((rows.numpy(), empty_state(session, 2))) for session in sessions)
    assert [each.tobytes() for each in one] == [each.tobytes() for each in two]


class Pairs(nn.Module):
    """Goes on with two texts at a time, and with no other number of them."""

    def forward(self, rows: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros(*rows.shape, 3), state.reshape(2, 1, -1) + rows.sum()


def test_a_state_that_freezes_the_batch_is_refused() -> None:
    with pytest.raises(Unsupported, match="dimension 1 of 'next_state' became 1 where every batch should fit"):
        convert_decoder(Pairs().eval(), torch.zeros(1, 2, 4), {1: "batch"}, 20)


def test_passes_that_fail_or_change_the_face_are_left_out(folder: Path) -> None:
    model = load_graph(folder / "gru" / DECODER_NAME)

    def breaks(given: onnx.ModelProto) -> onnx.ModelProto:
        raise ValueError("no such thing")

    def renames(given: onnx.ModelProto) -> onnx.ModelProto:
        given.graph.output[0].name = "other"
        return given

    def notes(given: onnx.ModelProto) -> onnx.ModelProto:
        given.graph.node[0].name = "renamed"
        return given

    told: list[Event] = []
    passes = [GraphPass(each.__name__, each, (ValueError,)) for each in (breaks, renames, notes)]
    found = rewritten(model, passes, told.append)
    assert told == [
        Warned("the graph pass breaks was left out: it failed with ValueError: no such thing"),
        Warned("the graph pass renames was left out: it changed the graph's outputs"),
    ]
    assert found.graph.node[0].name == "renamed"
    assert model.graph.node[0].name != "renamed"
