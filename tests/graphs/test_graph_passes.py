"""Passes are believed only after their graph was run."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pytest
import torch
from nets_for_graphs import METADATA, ConvNet, trained
from onnx import numpy_helper
from torch import Tensor, nn

from mlctl.errors import DataError, StepFailed
from mlctl.events import Event, Warned
from mlctl.graphs.cleaning import SCOPES
from mlctl.graphs.export import convert
from mlctl.graphs.pass_list import PASSES, passes_named
from mlctl.graphs.passes import NOTHING_TO_DO, GraphPass, Passed, apply_passes
from mlctl.graphs.properties import read_properties, write_properties
from mlctl.recipe.export import STANDARD_PASSES, PassName
from mlctl.runtime.session import OnnxSession

IMAGES = np.random.default_rng(0).integers(0, 17, (40, 1, 8, 8)).astype(np.uint8)
TOLERANCE = 1e-5


def converted_conv_net() -> onnx.ModelProto:
    """The convolutional network as the exporter gives it, with metadata."""
    model = convert(
        trained(ConvNet()),
        example=(torch.zeros(2, 1, 8, 8, dtype=torch.uint8),),
        input_names=("image",),
        output_name="probabilities",
        opset=20,
    )
    write_properties(model, METADATA)
    return model


def passed(
    model: onnx.ModelProto, scratch: Path, *passes: GraphPass, tell: Callable[[Event], None] | None = None
) -> Passed:
    return apply_passes(
        model,
        passes,
        rows=(IMAGES,),
        tolerance=TOLERANCE,
        decision="argmax",
        threads=1,
        scratch=scratch,
        tell=tell or (lambda event: None),
    )


@pytest.fixture(scope="module")
def raw() -> onnx.ModelProto:
    return converted_conv_net()


@pytest.fixture(scope="module")
def plain(raw: onnx.ModelProto, tmp_path_factory: pytest.TempPathFactory) -> Passed:
    return passed(raw, tmp_path_factory.mktemp("plain"), *passes_named(STANDARD_PASSES))


def answers(model: onnx.ModelProto, folder: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    path = folder / "answering.onnx"
    onnx.save_model(model, path)
    return np.asarray(OnnxSession(path, threads=1)((IMAGES,)), np.float32)


def test_every_name_of_the_recipe_is_a_pass() -> None:
    assert tuple(PASSES) == get_args(PassName)
    assert set(STANDARD_PASSES) == set(PASSES) - {"transformer-fusion"}


def test_the_standard_passes_make_the_graph_plain(raw: onnx.ModelProto, plain: Passed, tmp_path: Path) -> None:
    operators = [node.op_type for node in plain.model.graph.node]
    assert "BatchNormalization" not in operators
    assert {"Constant", "Identity", "Expand", "CastLike"}.isdisjoint(operators)
    assert all(outcome.kept for outcome in plain.outcomes)
    assert [outcome.name for outcome in plain.outcomes] == list(STANDARD_PASSES)
    assert plain.outcomes[0].nodes_before == len(raw.graph.node)
    assert plain.outcomes[-1].nodes_after == len(operators) < len(raw.graph.node)
    for before, after in zip(plain.outcomes, plain.outcomes[1:], strict=False):
        assert (before.nodes_after, before.bytes_after) == (after.nodes_before, after.bytes_before)
    # Probabilities of a few hundred float32 products: a few units of 6e-8.
    np.testing.assert_allclose(answers(plain.model, tmp_path), answers(raw, tmp_path), rtol=0, atol=1e-6)
    assert all(0 <= outcome.difference < 1e-6 for outcome in plain.outcomes)
    assert all(outcome.latency_before > 0 and outcome.latency_after > 0 for outcome in plain.outcomes)


def test_names_metadata_and_modules_survive(raw: onnx.ModelProto, plain: Passed) -> None:
    model = plain.model
    assert [each.name for each in (*model.graph.input, *model.graph.output)] == ["image", "probabilities"]
    assert read_properties(model) == METADATA
    assert (model.producer_name, model.producer_version) == (raw.producer_name, raw.producer_version)
    assert all(any(entry.key == SCOPES for entry in node.metadata_props) for node in model.graph.node)
    names = [node.name for node in model.graph.node]
    assert all(names)
    assert len(set(names)) == len(names)
    assert {"mean", "body.0.weight", "body.10.bias"} <= {tensor.name for tensor in model.graph.initializer}


def test_the_given_model_stays_as_it_was_and_no_file_is_left(raw: onnx.ModelProto, tmp_path: Path) -> None:
    before = raw.SerializeToString(deterministic=True)
    passed(raw, tmp_path, *passes_named(tuple(PASSES)))
    assert raw.SerializeToString(deterministic=True) == before
    assert list(tmp_path.iterdir()) == []


def test_a_second_time_there_is_nothing_to_do(plain: Passed, tmp_path: Path) -> None:
    again = passed(plain.model, tmp_path, *passes_named(STANDARD_PASSES))
    assert [(each.kept, each.reason) for each in again.outcomes] == [(True, NOTHING_TO_DO)] * 4
    assert again.model == plain.model


def test_another_process_makes_the_same_bytes(plain: Passed, tmp_path: Path) -> None:
    program = (
        "import pathlib, sys, test_graph_passes as here\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "found = here.passed(here.converted_conv_net(), folder, *here.passes_named(here.STANDARD_PASSES))\n"
        "(folder / 'bytes').write_bytes(found.model.SerializeToString(deterministic=True))"
    )
    paths = os.pathsep.join([str(Path(__file__).parent), *(each for each in sys.path if each)])
    ran = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": paths, "PYTHONHASHSEED": "77"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (ran.stdout, ran.stderr) == ("", "")
    assert [each.name for each in tmp_path.iterdir()] == ["bytes"]
    assert (tmp_path / "bytes").read_bytes() == plain.model.SerializeToString(deterministic=True)


def moving(amount: float) -> Callable[[onnx.ModelProto], onnx.ModelProto]:
    """Adds to the bias of the last layer."""

    def apply(model: onnx.ModelProto) -> onnx.ModelProto:
        (bias,) = [each for each in model.graph.initializer if each.name == "body.10.bias"]
        moved = numpy_helper.to_array(bias) + np.array([amount, 0, 0, 0, 0], np.float32)
        bias.CopyFrom(numpy_helper.from_array(moved.astype(np.float32), bias.name))
        return model

    return apply


def renaming_the_output(model: onnx.ModelProto) -> onnx.ModelProto:
    for node in model.graph.node:
        node.output[:] = ["other" if name == "probabilities" else name for name in node.output]
    model.graph.output[0].name = "other"
    return model


def raising_the_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    model.opset_import[0].version += 1
    return model


def forgetting_a_weight(model: onnx.ModelProto) -> onnx.ModelProto:
    del model.graph.initializer[0]
    return model


def inventing_an_operator(model: onnx.ModelProto) -> onnx.ModelProto:
    model.graph.node[-1].domain = "nobody"
    model.opset_import.append(onnx.helper.make_opsetid("nobody", 1))
    return model


def freezing_the_batch_at_one(model: onnx.ModelProto) -> onnx.ModelProto:
    """Answers every batch as if it were its first row."""
    (head,) = [node for node in model.graph.node if node.op_type == "Gemm"]
    first = numpy_helper.from_array(np.zeros(1, np.int64), "first_row")
    model.graph.initializer.append(first)
    model.graph.node.append(onnx.helper.make_node("Gather", [head.input[0], "first_row"], ["only"], name="only"))
    head.input[0] = "only"
    return _sorted(model)


def _sorted(model: onnx.ModelProto) -> onnx.ModelProto:
    """With the last node moved before the one that reads it."""
    last = model.graph.node[-1]
    reader = next(place for place, node in enumerate(model.graph.node) if last.output[0] in node.input)
    nodes = [*model.graph.node[:reader], last, *model.graph.node[reader:-1]]
    fresh = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(fresh)
    return model


def giving_up(model: onnx.ModelProto) -> onnx.ModelProto:
    raise KeyError("no such value")


@pytest.mark.parametrize(
    ("apply", "reason"),
    [
        (moving(0.1), "it moved an answer by 0.0"),
        (moving(float("nan")), "it moved an answer by inf"),
        (renaming_the_output, "it changed the graph's outputs"),
        (raising_the_opset, "it changed the operator set from 20 to 21"),
        (forgetting_a_weight, "the ONNX checker refuses its graph"),
        (inventing_an_operator, "ONNX Runtime cannot load this graph: "),
        (freezing_the_batch_at_one, "it moved an answer by inf"),
        (giving_up, "it failed with KeyError: 'no such value'"),
    ],
    ids=["moved", "nan", "renamed", "opset", "incomplete", "foreign", "frozen", "raised"],
)
def test_a_pass_that_does_harm_is_undone_with_a_warning(
    plain: Passed, tmp_path: Path, apply: Callable[[onnx.ModelProto], onnx.ModelProto], reason: str
) -> None:
    told: list[Event] = []
    found = passed(plain.model, tmp_path, GraphPass("harmful", apply, (KeyError,)), tell=told.append)
    (outcome,) = found.outcomes
    assert not outcome.kept
    assert outcome.reason.startswith(reason)
    assert outcome.difference > TOLERANCE
    assert (outcome.nodes_after, outcome.bytes_after) == (outcome.nodes_before, outcome.bytes_before)
    assert outcome.latency_after == outcome.latency_before
    assert found.model == plain.model
    assert told == [Warned(f"the graph pass harmful was undone: {outcome.reason}")]
    assert list(tmp_path.iterdir()) == []


def test_a_pass_after_an_undone_one_still_works(raw: onnx.ModelProto, plain: Passed, tmp_path: Path) -> None:
    harmful = GraphPass("harmful", giving_up, (KeyError,))
    found = passed(raw, tmp_path, harmful, *passes_named(STANDARD_PASSES))
    assert [outcome.kept for outcome in found.outcomes] == [False, True, True, True, True]
    assert found.model == plain.model


def test_small_moves_do_not_add_up_unseen(plain: Passed, tmp_path: Path) -> None:
    """Each step alone is within the tolerance; the comparison is always with the original."""
    step = GraphPass("step", moving(2e-5), ())
    outcomes = passed(plain.model, tmp_path, *[step] * 10).outcomes
    kept = [outcome for outcome in outcomes if outcome.kept]
    assert 0 < len(kept) < 10
    assert max(outcome.difference for outcome in kept) <= TOLERANCE
    assert not outcomes[-1].kept


def test_what_a_pass_did_not_foresee_itself_comes_out(plain: Passed, tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        passed(plain.model, tmp_path, GraphPass("broken", giving_up, (ValueError,)))
    assert list(tmp_path.iterdir()) == []


def test_dead_nodes_weights_and_doubles_go(plain: Passed, tmp_path: Path) -> None:
    model = onnx.ModelProto.FromString(plain.model.SerializeToString())
    graph = model.graph
    twin = onnx.NodeProto.FromString(graph.node[1].SerializeToString())
    twin.name, twin.output[0] = "twin", "twin"
    graph.node.insert(2, twin)
    graph.node.insert(3, onnx.helper.make_node("Relu", ["twin"], ["unread"], name="unread"))
    graph.node[4].input[0] = "twin"
    graph.initializer.append(numpy_helper.from_array(np.ones(1000, np.float32), "unused"))
    found = passed(model, tmp_path, *passes_named(["dead-code"]))
    assert len(found.model.graph.node) == len(plain.model.graph.node)
    assert "unused" not in {tensor.name for tensor in found.model.graph.initializer}
    (outcome,) = found.outcomes
    assert (outcome.kept, outcome.nodes_before - outcome.nodes_after) == (True, 2)
    assert outcome.bytes_before - outcome.bytes_after > 4000


class NormalizedTwice(nn.Module):
    """uint8 images to probabilities, through two shortcuts that are normalized."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 64), nn.Linear(64, 64)
        self.norms = nn.ModuleList(nn.LayerNorm(64) for _ in range(2))

    def forward(self, image: Tensor) -> Tensor:
        state = image.float().flatten(1)[:, None, :] / 16
        for layer, norm in zip((self.first, self.second), self.norms, strict=True):
            state = norm(state + nn.functional.gelu(layer(state)))
        answers: Tensor = state[:, 0, :5].softmax(-1)
        return answers


def test_transformer_fusion_writes_operators_of_onnx_runtime_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "temporary").mkdir()
    (tmp_path / "scratch").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    torch.manual_seed(0)
    model = convert(
        NormalizedTwice().eval(),
        example=(torch.zeros(2, 1, 8, 8, dtype=torch.uint8),),
        input_names=("image",),
        output_name="probabilities",
        opset=20,
    )
    names = ("constant-folding", "fusion", "transformer-fusion")
    found = passed(model, tmp_path / "scratch", *passes_named(names))
    assert [outcome.kept for outcome in found.outcomes] == [True] * 3
    assert "com.microsoft" in {node.domain for node in found.model.graph.node}
    assert ("com.microsoft", 1) in {(each.domain, each.version) for each in found.model.opset_import}
    assert found.model.producer_name == model.producer_name
    assert [list((tmp_path / name).iterdir()) for name in ("here", "temporary", "scratch")] == [[], [], []]


def test_without_passes_nothing_is_run(raw: onnx.ModelProto, tmp_path: Path) -> None:
    assert passed(raw, tmp_path / "is not even there") == Passed(raw, ())


def test_no_rows_and_a_graph_that_cannot_be_run_are_refused(raw: onnx.ModelProto, tmp_path: Path) -> None:
    passes = passes_named(["dead-code"])
    with pytest.raises(DataError, match="no rows to compare"):
        apply_passes(raw, passes, rows=(IMAGES[:0],), tolerance=1e-5, decision="none", threads=1, scratch=tmp_path)
    foreign = inventing_an_operator(onnx.ModelProto.FromString(raw.SerializeToString()))
    with pytest.raises(StepFailed, match="no pass over this graph can be judged") as refusal:
        passed(foreign, tmp_path, *passes)
    assert str(tmp_path) not in str(refusal.value)
    assert list(tmp_path.iterdir()) == []
