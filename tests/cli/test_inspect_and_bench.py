"""`mlctl inspect` and `mlctl bench`, as processes."""

import json
import signal
from itertools import pairwise
from pathlib import Path

import onnx
import pytest
from conftest import Lab
from onnx import TensorProto, helper

STEP = ".mlctl/steps/whole"


def facts(out: str) -> dict[str, str]:
    """The first line of every fact, by what it is about."""
    lines = (line.split(maxsplit=1) for line in out.splitlines() if not line.startswith(" "))
    return {words[0]: words[1] for words in lines}


def chain(folder: Path, name: str, products: int, batch: str | int = "b") -> str:
    """Save x float [b, 256] times the same matrix, so many times over."""
    names = ["x", *(f"h{number}" for number in range(products - 1)), "y"]
    nodes = [helper.make_node("MatMul", [a, "w"], [b]) for a, b in pairwise(names)]
    value = helper.make_tensor_value_info
    ports = [value(each, TensorProto.FLOAT, [batch, 256]) for each in ("x", "y")]
    weight = helper.make_tensor("w", TensorProto.FLOAT, [256, 256], [0.001] * 65536)
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=8), folder / name)
    return name


def test_inspect_says_what_a_graph_is_and_where_it_came_from(finished_lab: Lab) -> None:
    result = finished_lab(f"inspect {STEP}/export")
    assert (result.code, result.err) == (0, "")
    told = facts(result.out)
    # A convolution of 4 maps with 3 × 3 weights at 4 × 4 places, and a matrix of 4 × 2.
    assert told["FLOPs"].startswith("1.17 k for one sample, 0% on integers")
    assert told["input"] == "image  uint8 [batch, 1, 4, 4]"
    assert told["output"] == "probabilities  float32 [batch, 2]"
    fingerprint = finished_lab.artifact("whole", "export").name
    assert told["lineage"] == f"export (export) of whole.yaml, {fingerprint[:12]}"
    assert f"from model: train {finished_lab.artifact('whole', 'train').name[:12]}" in result.out
    assert "mlctl.task  image-classification" in result.out
    assert "\x1b" not in result.out


def test_inspect_lists_nodes_and_tensors(finished_lab: Lab) -> None:
    nodes = finished_lab(f"inspect {STEP}/export/model.onnx --nodes").out
    (convolution,) = [line.split() for line in nodes.splitlines() if " Conv " in line]
    assert {"1×1×4×4,", "1×4×4×4", "1,152"} <= set(convolution)
    tensors = finished_lab(f"inspect {STEP}/train --nodes").out
    assert facts(tensors)["format"].startswith("safetensors, ")
    assert any(line.split()[1:3] == ["float32", "4×1×3×3"] for line in tensors.splitlines())


def test_inspect_prints_one_document(finished_lab: Lab) -> None:
    graph = finished_lab.json(f"inspect {STEP}/export")
    assert graph["graph"]["flops"] == sum(node["flops"] for node in graph["graph"]["nodes"]) == 2 * (576 + 8)
    assert (graph["lineage"]["step"], graph["weights"]) == ("export", None)
    weights = finished_lab.json(f"inspect {STEP}/train/model.safetensors")
    assert weights["weights"]["tensors"]
    assert weights["graph"] is None


def test_inspect_loads_no_torch(finished_lab: Lab) -> None:
    assert "torch" not in finished_lab.watched(f"inspect {STEP}/export").modules
    light = finished_lab.watched(f"inspect {STEP}/train")
    assert light.code == 0
    assert light.modules & {"torch", "onnx", "safetensors", "numpy"} == set()


def test_a_manifest_that_speaks_of_other_files_is_no_lineage(lab: Lab, finished_labs: Lab) -> None:
    manifest = finished_labs.artifact("whole", "train") / "manifest.json"
    chain(lab.folder, "foreign.onnx", 1)
    (lab.folder / "manifest.json").write_bytes(manifest.read_bytes())
    assert facts(lab("inspect foreign.onnx").out)["lineage"].endswith("it does not speak of foreign.onnx")
    (lab.folder / "manifest.json").write_text("{}")
    assert facts(lab("inspect foreign.onnx").out)["lineage"].startswith("not known: ")


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("inspect nowhere", 2, "there is no such file or folder"),
        ("inspect .", 2, "the folder holds neither model.onnx nor model.safetensors"),
        ("inspect rows.csv", 2, "the name ends neither in .onnx nor in .safetensors"),
        ("inspect broken.onnx", 3, "no ONNX model"),
        ("inspect broken.safetensors", 3, "not a safetensors file"),
        ("bench broken.onnx", 3, "no ONNX model"),
        ("bench fixed.onnx", 3, "it takes batches of 4 alone, not of 1"),
        ("bench small.onnx --device cuda", 5, "cuda"),
        ("bench small.onnx --rounds 3", 2, "Invalid value for '--rounds'"),
        ("bench small.onnx --gate bench[small].p50", 2, "it ends where a comparison"),
        ("bench small.onnx --data nowhere.yaml", 2, "no such recipe"),
    ],
)
def test_what_cannot_be_is_refused(lab: Lab, line: str, code: int, message: str) -> None:
    chain(lab.folder, "small.onnx", 1)
    chain(lab.folder, "fixed.onnx", 1, batch=4)
    for name in ("broken.onnx", "broken.safetensors"):
        (lab.folder / name).write_bytes(b"\0nonsense" * 20)
    before = {path.name for path in lab.folder.iterdir()}
    result = lab(line)
    assert (result.code, result.out) == (code, "")
    assert message in result.err
    assert "  next: " in result.err
    assert {path.name for path in lab.folder.iterdir()} == before


def test_bench_tells_a_fast_model_from_a_slow_one(lab: Lab) -> None:
    chain(lab.folder, "long.onnx", 60)
    chain(lab.folder, "short.onnx", 2)
    gates = "--gate 'bench[short].speedup_batch_8 >= 2' --gate 'bench[long].p50_batch_8 <= 60000'"
    result = lab(f"bench long.onnx short.onnx --batch 8 --rounds 30 --open-size 3 {gates}")
    assert result.code == 0, result.err
    rows = [line.split() for line in result.out.splitlines()[1:3]]
    assert [row[:3] for row in rows] == [["long", "8", "1"], ["short", "8", "1"]]
    assert "inputs[long]: made up: only their speed is meant" in result.out
    assert "runtime[short]: onnxruntime (CPUExecutionProvider)" in result.out
    assert result.out.count("passed ") == 2
    assert "bench  done" in result.err


def test_bench_ends_in_a_verdict_and_exit_22_for_a_gate_that_fails(lab: Lab) -> None:
    name = chain(lab.folder, "one.onnx", 1)
    result = lab(
        f"bench {name} --batch 1 --threads 1 --threads 2 --gate 'bench[one].p50_batch_1_threads_2 <= 0' --json"
    )
    verdict = json.loads(result.out)
    assert (result.code, verdict["exit_code"], verdict["command"]) == (22, 22, "bench")
    names = [figure["figure"] for figure in verdict["steps"][0]["figures"]]
    assert names[:2] == ["p50_batch_1_threads_1", "p95_batch_1_threads_1"]
    assert len(names) == 2 * 4


def test_bench_says_when_it_cannot_tell(lab: Lab) -> None:
    name = chain(lab.folder, "one.onnx", 1)
    gate = "bench[one].p50_batch_1 - bench[one].p50_batch_1 < 0"
    result = lab(f"bench {name} --batch 1 --rounds 20 --gate '{gate}'")
    # A difference of a figure with itself is 0 in every draw.
    assert result.code == 22
    undecided = lab(
        f"bench {name} {name} --batch 1 --rounds 20 --gate 'bench[one-2].p50_batch_1 < bench[one].p50_batch_1'"
    )
    # Two sessions of one file are equals; by chance one of them may still lie ahead in twenty rounds.
    doubt = "against one at batch 1 with 1 thread: no difference can be told (the ratio's interval holds 1)"
    assert (undecided.code == 25) == (doubt in undecided.out)
    assert undecided.code in (0, 22, 25)


def test_bench_takes_rows_of_a_recipe_where_they_fit(finished_lab: Lab) -> None:
    name = chain(finished_lab.folder, "foreign.onnx", 1)
    result = finished_lab(f"bench {STEP}/export {name} --data whole.yaml --batch 2 --rounds 20")
    assert result.code == 0, result.err
    assert "inputs[export]: the test split" in result.out
    assert "inputs[foreign]: x is float32 [256], the data's rows are uint8 [1, 4, 4]; made up" in result.out


def test_bench_stops_at_a_signal(lab: Lab) -> None:
    chain(lab.folder, "long.onnx", 200)
    with lab.start("bench long.onnx --batch 512 --rounds 100000") as process:
        assert process.stderr
        assert process.stderr.readline().startswith("bench")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
