"""A user's own network: refused without leave, run with it, reused without it again."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, Lab, new_lab
from safetensors.numpy import load_file

from mlctl.errors import StepFailed, UsageError
from mlctl.models.code_file import code_files
from mlctl.models.complete import InputScaling
from mlctl.models.custom import imported_network
from mlctl.models.files import ModelConfig, ModelInput, save_model
from mlctl.recipe.networks import CustomSettings
from mlctl.training.own_networks import require_answers, require_restorable
from mlctl.training.trained import fresh_model

NETS = """\
from pathlib import Path

import torch
from torch import nn

Path(__file__).with_name("imported").touch()


class Net(nn.Module):
    def __init__(self, input_shapes, outputs, width=3):
        super().__init__()
        self.body = nn.Linear(input_shapes[0][0], width)
        self.head = nn.Linear(width, outputs)
        self.register_buffer("weight", torch.tensor([0.5, 2.0]), persistent=False)

    def forward(self, rows):
        return self.head(torch.tanh(self.body(rows * self.weight)))
"""
OWN = TINY.replace("name: tiny", "name: own").replace(
    "{arch: mlp, hidden: [4]}", '{arch: "nets:Net", arguments: {width: 5}}'
)
REST = "export: {}\neval: {latency: null}\n"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A lab in which `own.yaml` was run with leave, through export and eval, after it was refused without."""
    lab = new_lab(tmp_path_factory.mktemp("own"))
    (lab.folder / "nets.py").write_text(NETS)
    (lab.folder / "own.yaml").write_text(OWN + REST)
    refused = lab("run own.yaml")
    assert refused.code == 2
    assert "train, export, eval would import code that the recipe names" in refused.err
    assert "--allow-code" in refused.err
    assert not lab.store.exists()
    assert not (lab.folder / "imported").exists()
    allowed = lab("run own.yaml --allow-code --threads 1")
    assert allowed.code == 0, allowed.err
    return lab


def test_planning_never_imports_it(own: Lab) -> None:
    (own.folder / "imported").unlink(missing_ok=True)
    assert own("plan own.yaml train.epochs=3").code == 0
    assert not (own.folder / "imported").exists()


def test_what_is_there_is_reused_without_leave(own: Lab) -> None:
    again = own("run own.yaml")
    assert again.code == 0, again.err
    assert [line.split() for line in again.err.splitlines()] == [
        [step, "reuse"] for step in ("prepare", "train", "export", "eval")
    ]


def test_what_is_to_be_made_needs_leave_again(own: Lab) -> None:
    refused = own("run own.yaml train.epochs=3")
    assert refused.code == 2
    assert "train, export, eval would import code" in refused.err


def test_nothing_is_left_beside_the_recipe(own: Lab) -> None:
    assert not list(own.folder.glob("__pycache__"))


def test_a_buffer_that_is_not_saved_keeps_its_values(own: Lab) -> None:
    """The answers of the loaded network and of its graph, against the network's formula in float64."""
    weights = {
        name: each.astype(np.float64)
        for name, each in load_file(own.artifact("own", "train") / "model.safetensors").items()
    }
    assert "weight" not in weights
    config = json.loads((own.artifact("own", "train") / "config.json").read_text())
    (scaling,), target = config["input_scaling"], config["target_scaling"]
    rows = np.load(own.artifact("own", "prepare") / "test" / "features.npy").astype(np.float64)
    seen = (rows / scaling["scale"] - scaling["mean"]) / scaling["deviation"] * [0.5, 2.0]
    hidden = np.tanh(seen @ weights["body.weight"].T + weights["body.bias"])
    raw = (hidden @ weights["head.weight"].T + weights["head.bias"])[:, 0]
    expected = (raw * target["deviation"][0] + target["mean"][0]) * target["scale"]
    for model in ("train", "export"):
        answers = np.load(own.artifact("own", "eval") / model / "answers.npy")
        # Numbers near 1 through two layers in float32, which keeps 6e-8 of each.
        np.testing.assert_allclose(answers, expected, rtol=1e-5, atol=1e-5)


def changed(lab: Lab, old: str, new: str, folder: Path) -> Lab:
    """A lab of its own with that change to the network."""
    fresh = new_lab(folder)
    (fresh.folder / "nets.py").write_text(NETS.replace(old, new))
    (fresh.folder / "own.yaml").write_text(OWN)
    (fresh.folder / ".mlctl").symlink_to(lab.store)
    return fresh


def test_another_source_is_another_model(own: Lab, tmp_path: Path) -> None:
    lab = changed(own, "tanh", "relu", tmp_path)
    assert "nets.py has other content" in lab("plan own.yaml").out
    assert lab("train own.yaml").code == 2
    result = lab("train own.yaml --allow-code --threads 1")
    assert result.code == 0, result.err
    assert "prepare  reuse" in result.err


def test_a_mistake_in_it_fails_the_step_and_names_the_line(own: Lab, tmp_path: Path) -> None:
    result = changed(own, "rows * self.weight", "rows.flatten()", tmp_path)("train own.yaml --allow-code")
    assert result.code == 4, result.err
    assert "mlctl: train: the network cannot answer: RuntimeError: mat1 and mat2 shapes" in result.err
    assert "(nets.py, line 17)" in result.err
    assert "next: mend its `forward`" in result.err
    assert "Traceback" not in result.err


ROWS = (np.random.default_rng(0).normal(0, 1, (6, 2)).astype(np.float32),)


def kept(folder: Path, module: str, source: str) -> None:
    """Make the network of the module, see whether it answers, save it, and see whether it answers still."""
    (folder / f"{module}.py").write_text(source)
    config = ModelConfig(
        task="regression",
        network=CustomSettings(arch=f"{module}:Net", arguments={"width": 5}),
        inputs=(ModelInput("features", "float32", (2,), ("a", "b")),),
        outputs=1,
        input_scaling=(InputScaling(),),
        target_scaling=InputScaling(),
        labels=(),
    )
    model = fresh_model(config, 3, folder)
    require_answers(model, config, ROWS)
    save_model(folder, config, model.network, "f" * 64)
    require_restorable(model, config, folder, ROWS, folder)


MISTAKES = {
    "of_class": ("class Net", "class Other", "imported: AttributeError: module 'of_class' has no attribute 'Net'"),
    "of_import": ("torch\n", "torch, no\n", "ModuleNotFoundError: No module named 'no' (of_import.py, line 3)"),
    "of_name": ("torch\n", "torch\nwhat\n", "NameError: name 'what' is not defined (of_name.py, line 4)"),
    "of_syntax": ("import torch\n", "import\n", "SyntaxError: invalid syntax (of_syntax.py, line 3)"),
    "of_argument": ("width=3", "depth=3", "made: TypeError: Net.__init__() got an unexpected keyword argument 'width'"),
    "of_init": ("super()", "nn.Linear(2)", "required positional argument: 'out_features' (of_init.py, line 11)"),
    "of_shape": ("(width, outputs)", "(width, 4)", "the network answers 2 rows with [2, 4], where [2, 1] is wanted"),
    "of_tuple": ("return self", "return 1, self", "the network answers 2 rows with tuple, where [2, 1] is wanted"),
    "of_buffer": ("torch.tensor([0.5, 2.0])", "torch.randn(2)", "answers otherwise after it was saved and loaded"),
    "of_weights": ("=False)\n", "=False)\n        self.requires_grad_(False)\n", "the network has no weights to learn"),
}


@pytest.mark.parametrize("module", MISTAKES)
def test_what_is_wrong_with_it_is_said_before_or_after_its_training(tmp_path: Path, module: str) -> None:
    old, new, what = MISTAKES[module]
    with pytest.raises(StepFailed) as refusal:
        kept(tmp_path, module, NETS.replace(old, new, 1))
    assert what in refusal.value.what


def test_looking_at_it_changes_neither_chance_nor_the_network(tmp_path: Path) -> None:
    kept(tmp_path, "of_nothing", NETS)
    torch.manual_seed(3)
    Net = imported_network("of_nothing:Net", tmp_path)
    Net(((2,),), 1, width=5)
    expected = torch.rand(1)
    kept(tmp_path, "of_nothing", NETS)
    assert torch.rand(1) == expected


def test_an_operator_that_onnx_lacks_is_named(own: Lab, tmp_path: Path) -> None:
    lab = changed(
        own,
        "torch.tanh(self.body(rows * self.weight))",
        "torch.tanh(self.body(torch.special.bessel_j0(rows)))",
        tmp_path,
    )
    with (lab.folder / "own.yaml").open("a") as stream:
        stream.write("export: {}\n")
    result = lab("run own.yaml --allow-code")
    assert result.code == 4, result.err
    assert "export: ONNX has no " in result.err
    assert "bessel_j0" in result.err


def test_a_module_that_is_nowhere_is_a_mistake_in_the_recipe(own: Lab, tmp_path: Path) -> None:
    lab = changed(own, "", "", tmp_path)
    result = lab("plan own.yaml train.model.arch=nest:Net")
    assert result.code == 2
    assert "there is no module nest" in result.err


def test_the_code_of_a_module_is_where_python_takes_it_from(tmp_path: Path) -> None:
    (tmp_path / "nets_of_ours").mkdir()
    (tmp_path / "nets_of_ours.py").write_text("Net = dict\n")
    (tmp_path / "layers_of_ours.py").write_text("")
    modules = (tmp_path / "layers_of_ours.py", tmp_path / "nets_of_ours.py")
    assert code_files("nets_of_ours:Net", tmp_path) == modules
    package = tmp_path / "nets_of_ours" / "__init__.py"
    package.write_text("Net = list\n")
    assert code_files("nets_of_ours:Net", tmp_path) == (package,)
    assert imported_network("nets_of_ours:Net", tmp_path)("ab") == ["a", "b"]
    deep = package.with_name("deep.py")
    deep.write_text("Net = str\n")
    assert code_files("nets_of_ours.deep:Net", tmp_path) == (package, deep)
    with pytest.raises(UsageError, match=r"there is no module nets_of_ours\.deeper"):
        code_files("nets_of_ours.deeper:Net", tmp_path)
