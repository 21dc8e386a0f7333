"""Graphs whose names are no text: refused as damage by every server, and no reason to stop serving others."""

from pathlib import Path

import pytest
from conftest import Lab
from published_models import graph_bytes
from served_processes import served
from test_serving_swaps import ROW, eventually

TOLD = "ONNX Runtime cannot load this graph: "
BROKEN = {
    # ONNX Runtime's own message names the node, in the file's own bytes.
    "operator": (b"Softmax", b"Softm\xf1x"),
    "port": (b"batch", b"b\xf1tch"),
}


def broken(how: str) -> bytes:
    """A graph in which one byte of a name is turned."""
    old, new = BROKEN[how]
    content = graph_bytes()
    assert old in content
    return content.replace(old, new)


def put(root: Path, name: str, content: bytes) -> None:
    """Version 1 of a model, put there by hand, whole from the first moment."""
    folder = root / name / "1"
    folder.mkdir(parents=True)
    (folder / "aside").write_bytes(content)
    (folder / "aside").rename(folder / "model.onnx")


@pytest.mark.parametrize("how", BROKEN)
def test_a_file_that_is_broken_is_no_bug(lab: Lab, how: str) -> None:
    (lab.folder / "net.onnx").write_bytes(broken(how))
    for line in ("serve net.onnx --port 0", "serve net.onnx --selftest", "inspect net.onnx", "bench net.onnx"):
        result = lab(line)
        assert (result.code, result.out) == (3, ""), result.err
        assert "net.onnx: " in result.err
        assert "bug" not in result.err


@pytest.mark.parametrize("content", [broken("operator"), broken("port"), graph_bytes()[:100]], ids=["a", "b", "cut"])
def test_a_repository_with_a_broken_model_is_refused_at_the_start_and_not_later(lab: Lab, content: bytes) -> None:
    models = lab.folder / "models"
    put(models, "good", graph_bytes())
    with served(lab, "--repository models") as server:
        put(models, "bad", content)
        eventually(lambda: "bad: last refused" in lab("models models").out)
        assert server.infer("good", ROW).status == 200
        assert server.infer("bad", ROW).status == 503
        metrics = server.ask("GET", "/metrics").body.decode()
        assert f'mlctl_version_refused{{model="bad",version="1",reason="{TOLD}' in metrics
        ended = server.end()
    assert ended.code == 0
    assert f"bad version 1 is refused: {TOLD}" in ended.err
    assert TOLD in lab("models models").out
    result = lab("serve --repository models --port 0")
    assert result.code == 3
    assert TOLD in result.err
