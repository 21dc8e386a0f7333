"""What runs the models of an evaluation, and how they are compared with those that they were made from."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from conftest import COMMAND, Lab, finished

from mlctl.cli.github import markdown
from mlctl.cli.report import model_tables
from mlctl.engine.figures import Figure, Kind
from mlctl.engine.manifest import Manifest
from mlctl.engine.stage import Work
from mlctl.engine.verdict import Outcome, StepResult, Verdict
from mlctl.events import Event, Warned
from mlctl.metrics.evaluation_files import EvaluationFiles
from mlctl.recipe.evaluate import EvalSettings, LatencySettings
from mlctl.stages import measuring
from mlctl.stages.artifacts import Data, OnnxModel, TrainedModel
from mlctl.stages.measuring import Asked, Measuring

NO_CUDA = "CUDAExecutionProvider" not in onnxruntime.get_available_providers()
NO_OPENVINO = "import sys; sys.modules['openvino'] = None\n"


def choices(lab: Lab) -> dict[str, str]:
    """What the evaluation's manifest says that was chosen."""
    return dict(Manifest.load(lab.artifact("whole", "eval")).made.choices)


def rows_of(lab: Lab, line: str) -> dict[str, str]:
    """The table's last column by model."""
    result = lab(line)
    assert result.code == 0, result.err
    table = result.out.split("\npassed")[0].splitlines()
    assert table[1].split()[-1] == "runtime"
    return {line.split()[0]: line.split()[-1] for line in table[3:]}


def test_onnx_runtime_runs_graphs_unless_the_recipe_says_otherwise(finished_lab: Lab) -> None:
    assert rows_of(finished_lab, "run whole.yaml --quiet") == {"train": "torch", "export": "onnxruntime"}
    found = choices(finished_lab)
    assert (found["runtime[train]"], found["runtime[export]"]) == (
        "torch on cpu",
        "onnxruntime on CPUExecutionProvider",
    )


def test_openvino_runs_graphs_where_the_recipe_says_so(finished_lab: Lab) -> None:
    line = "run whole.yaml --quiet eval.runtime=openvino --threads 1"
    assert rows_of(finished_lab, line) == {"train": "torch", "export": "openvino"}
    assert choices(finished_lab)["runtime[export]"] in ("openvino on CPU in bf16", "openvino on CPU in f32")
    folder = finished_lab.artifact("whole", "eval")
    by_torch, by_openvino = (np.load(folder / model / "answers.npy") for model in ("train", "export"))
    # Probabilities: the logits' errors, at most 2^-7 of a few units, bend them by less than a tenth.
    assert np.abs(by_torch - by_openvino).max() < 0.1
    assert {path.name for path in finished_lab.folder.iterdir()} == {
        *(".mlctl", "rows.csv", "images.csv", "tiny.yaml", "long.yaml", "whole.yaml")
    }


def test_a_choice_between_runtimes_says_why(finished_lab: Lab) -> None:
    table = rows_of(finished_lab, "run whole.yaml --quiet eval.runtime=auto --threads 1")
    found = choices(finished_lab)
    assert "OpenVINO" in found["runtime[export].why"]
    assert found["runtime[export]"].startswith(f"{table['export']} on ")
    assert "runtime[train].why" not in found
    steps = finished_lab.json("run whole.yaml --quiet eval.runtime=auto --threads 1")["steps"]
    assert steps[-1]["outcome"] == "reused"
    assert steps[-1]["choices"] == found


@pytest.mark.parametrize(("runtime", "code"), [("openvino", 5), ("auto", 0), ("onnxruntime", 0)])
def test_only_openvino_by_name_needs_the_extra(finished_lab: Lab, runtime: str, code: int) -> None:
    line = f"run whole.yaml --force eval eval.runtime={runtime} --threads 1"
    with finished_lab.start(line, code=NO_OPENVINO + COMMAND) as process:
        result = finished(process)
    assert result.code == code, result.err
    assert ("pip install 'mlctl-toolchain[openvino]'" in result.err) == (code == 5)


@pytest.mark.skipif(not NO_CUDA, reason="this ONNX Runtime has CUDA")
@pytest.mark.parametrize("device", ["cuda", "tensorrt:1"])
def test_a_device_that_is_asked_for_by_name_must_run_the_graphs_too(finished_lab: Lab, device: str) -> None:
    result = finished_lab(f"run whole.yaml --force eval --device {device}")
    assert result.code == 5, result.err
    assert "is not here" in result.err
    assert "Traceback" not in result.err


def test_tensorrt_trains_nothing(lab: Lab) -> None:
    result = lab("train tiny.yaml --device tensorrt")
    assert result.code == 2, result.err
    assert "TensorRT runs exported graphs" in result.err


def test_a_graph_is_compared_with_the_model_that_it_was_made_from(finished_lab: Lab) -> None:
    files = EvaluationFiles.open(finished_lab.artifact("whole", "eval"))
    assert files.index.parents == {"export": "train"}
    figures = finished_lab.json("run whole.yaml")["steps"][-1]["figures"]
    (found,) = (each for each in figures if each["figure"] == "faster_than_parent")
    assert (found["model"], found["kind"], found["better"]) == ("export", "latency", "higher")
    expected = np.median(files.seconds("train", 1)) / np.median(files.seconds("export", 1))
    assert found["value"] == pytest.approx(expected)
    assert found["low"] <= found["value"] <= found["high"]


def test_a_gate_can_ask_for_a_certain_gain(finished_lab: Lab) -> None:
    gate = '[{that: "eval[export].faster_than_parent >= 0.001", confidence: 0.9}]'
    settings = "eval.latency.rounds=20 --threads 1"
    verdict = finished_lab.json(f"run whole.yaml {settings} --set 'gates={gate}'")
    found = verdict["gates"][-1]
    assert (found["outcome"], found["difference"]["method"], found["difference"]["samples"]) == (
        "passed",
        "bootstrap",
        20,
    )
    result = finished_lab(f"run whole.yaml {settings} --set 'gates=[\"eval[export].faster_than_parent >= 1000\"]'")
    assert result.code == 22


def test_without_latency_nothing_is_said_of_speed(finished_lab: Lab) -> None:
    result = finished_lab("""run whole.yaml eval.latency=null --set 'gates=["eval[export].faster_than_parent > 1"]'""")
    assert result.code == 2
    assert "faster_than_parent" in result.err


def work_in(lab: Lab, folder: Path, heard: list[Event]) -> Work:
    """An evaluation's work over the lab's artifacts, told to `heard`."""
    folder.mkdir()
    return Work(
        folder=folder,
        resume=folder,
        fingerprint="f",
        device="auto",
        threads=1,
        choices={},
        code=None,
        tell=heard.append,
        folders={name: lab.artifact("whole", name) for name in ("prepare", "train", "export")},
        fingerprints={},
        figures={},
    )


@pytest.mark.parametrize(
    ("seconds", "warning"),
    [
        ([[1.0, 6.0], [2.0, 4.0]], "export is slower than train: x 0.50 at batch 1"),
        ([[2.0, 6.0], [1.0, 8.0]], "export is slower than train: x 0.75 at batch 4"),
        ([[2.0, 6.0], [1.0, 4.0]], None),
        ([[2.0, 6.0], [2.0, 6.0]], None),
    ],
)
def test_a_model_that_is_slower_than_its_parent_carries_a_warning(
    finished_labs: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: list[list[float]], warning: str | None
) -> None:
    def timed(*_: object, **__: object) -> npt.NDArray[np.float64]:
        return np.repeat(np.array(seconds)[:, :, None], 10, axis=2)

    monkeypatch.setattr(measuring, "measure_latency", timed)
    settings = EvalSettings(latency=LatencySettings(batch=(1, 4), rounds=10))
    asked = Asked(settings, ("accuracy",), "accuracy", {"export": "train"})
    heard: list[Event] = []
    work = work_in(finished_labs, tmp_path / "eval", heard)
    models = {"train": TrainedModel(work.folders["train"]), "export": OnnxModel(work.folders["export"])}
    figures = Measuring(asked, work, Data(work.folders["prepare"]), models).figures()
    (faster,) = (each for each in figures if each.figure == "faster_than_parent")
    assert faster.value == min(a / b for a, b in zip(*seconds, strict=True))
    assert work.choices.get("slower[export]") == warning
    assert [event.text for event in heard if isinstance(event, Warned)] == ([warning] if warning else [])


def verdict_with(choices: dict[str, str]) -> Verdict:
    """The verdict of one evaluation that chose so."""
    figures = (
        Figure("test_rows", Kind.SIZE, 6, "rows"),
        Figure("accuracy", Kind.METRIC, 0.5, model="train", main=True),
        Figure("accuracy", Kind.METRIC, 0.5, model="quantize", main=True),
    )
    step = StepResult("eval", "eval", Outcome.RAN, "f", None, 1.0, (), figures, choices)
    return Verdict("1", "run", "small.yaml", (step,))


def test_a_warning_stands_below_the_table_and_in_the_summary() -> None:
    slow = "quantize is slower than export: x 0.87 at batch 1"
    verdict = verdict_with({"runtime[quantize]": "openvino on CPU in bf16", "slower[quantize]": slow})
    (table,) = model_tables(verdict)
    assert table.notes == (slow,)
    assert [(row[0], row[-1]) for row in table.rows] == [("train", "–"), ("quantize", "openvino")]
    assert f"\n\n- warning: {slow}\n" in markdown(verdict)
    assert json.loads(json.dumps(verdict.to_json()))["steps"][0]["choices"]["slower[quantize]"] == slow


def test_where_nothing_is_slower_nothing_is_said() -> None:
    verdict = verdict_with({})
    assert model_tables(verdict)[0].notes == ()
    assert "warning" not in markdown(verdict)


def test_a_reused_evaluation_still_warns(finished_lab: Lab) -> None:
    """The warning is kept in the manifest, so that who looks later is told too."""
    folder = finished_lab.artifact("whole", "eval")
    slow = "export is slower than train: x 0.87 at batch 1"
    manifest = Manifest.load(folder)
    told = {**manifest.made.choices, "slower[export]": slow}
    replace(manifest, made=replace(manifest.made, choices=told)).save(folder)
    result = finished_lab("run whole.yaml --quiet")
    assert result.code == 0, result.err
    assert f"\nwarning: {slow}\npassed" in result.out
