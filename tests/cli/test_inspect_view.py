"""What `mlctl inspect` draws on a terminal."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mlctl.cli import inspect_view
from mlctl.stages.inspecting import describe_model
from mlctl.stages.inspection_text import count_text


@pytest.mark.parametrize("terminal", [True, False])
def test_every_fact_and_tensor_is_drawn(
    tmp_path: Path, terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file({"body.weight": torch.ones(3, 4)}, tmp_path / "model.safetensors", {"made": "here"})
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(inspect_view, "is_terminal", lambda stream: terminal)
    inspect_view.show_model(describe_model(tmp_path, open_size=64), with_nodes=True)
    words = capsys.readouterr().out.split()
    assert {"safetensors,", "parameters", "12", "made", "here", "body.weight", "float32", "3×4"} <= set(words)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"), (999, "999"), (1000, "1 k"), (999_499, "999 k"), (999_500, "1 M"), (1_234_567, "1.23 M"),
        (4_100_000_000, "4.1 G"), (7 * 10**12, "7 T"), (12_345 * 10**15, "1.23e+04 P"),
    ],
)  # fmt: skip
def test_large_numbers_keep_three_digits(count: int, text: str) -> None:
    assert count_text(count) == text
