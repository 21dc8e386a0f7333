import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mlctl.errors import DataError
from mlctl.models.complete import InputScaling
from mlctl.models.files import ModelConfig, ModelInput, load_model, save_model
from mlctl.models.table import build
from mlctl.recipe.networks import CnnSettings, LinearSettings, MlpSettings, NetworkSettings

CONFIG = ModelConfig(
    task="image-classification",
    network=CnnSettings(channels=(3, 4), dropout=0.1),
    inputs=(ModelInput("image", "uint8", (1, 8, 8), ("pixel_0",)),),
    outputs=10,
    input_scaling=(InputScaling(16.0, (0.3,), (0.37,)),),
    target_scaling=InputScaling(),
    labels=("zéro", "one"),
)


def saved(folder: Path, config: ModelConfig = CONFIG) -> Path:
    torch.manual_seed(5)
    save_model(folder, config, build(config.network, config.input_shapes, config.outputs), "f" * 64)
    return folder


@pytest.mark.parametrize(
    "network", [CnnSettings(), MlpSettings(hidden=(5, 4)), LinearSettings(bias=False)], ids=lambda each: each.arch
)
def test_a_model_comes_back_as_it_was_saved(tmp_path: Path, network: NetworkSettings) -> None:
    config = replace(CONFIG, network=network)
    original = build(network, config.input_shapes, 10)
    with torch.no_grad():
        original(torch.randn(4, 1, 8, 8))  # moves the buffers of batch normalization
    save_model(tmp_path, config, original, "f" * 64)
    found, restored = load_model(tmp_path)
    image = torch.randn(3, 1, 8, 8)
    assert found == config
    assert not restored.training
    assert torch.equal(restored(image), original.eval()(image))


def test_the_config_says_it_all_in_plain_json(tmp_path: Path) -> None:
    assert json.loads((saved(tmp_path) / "config.json").read_text(encoding="utf-8")) == {
        "task": "image-classification",
        "network": {"arch": "cnn", "channels": [3, 4], "kernel": 3, "dropout": 0.1},
        "inputs": [{"name": "image", "dtype": "uint8", "shape": [1, 8, 8], "columns": ["pixel_0"]}],
        "outputs": 10,
        "input_scaling": [{"scale": 16.0, "mean": [0.3], "deviation": [0.37]}],
        "target_scaling": {"scale": 1.0, "mean": [], "deviation": []},
        "labels": ["zéro", "one"],
        "format": 1,
    }


def test_the_weights_name_what_made_them(tmp_path: Path) -> None:
    with safe_open(saved(tmp_path) / "model.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert metadata == {"mlctl": '{"fingerprint":"' + "f" * 64 + '","format":1,"task":"image-classification"}'}


def test_two_processes_write_the_same_bytes(tmp_path: Path) -> None:
    script = (
        f"import sys; from pathlib import Path; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_model_files import saved\nsaved(Path(sys.argv[1]))"
    )
    folders = [tmp_path / "here", tmp_path / "there"]
    for folder in folders:
        folder.mkdir()
    saved(folders[0])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "123"}
    subprocess.run([sys.executable, "-c", script, str(folders[1])], env=environment, check=True)
    for name in ("model.safetensors", "config.json"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def test_loading_leaves_chance_alone(tmp_path: Path) -> None:
    saved(tmp_path)
    before = torch.get_rng_state()
    load_model(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def edited_weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return damage


def edited_config(**changes: object) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return damage


def cut(name: str, length: int) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:length])

    return damage


HUGE = {"arch": "mlp", "hidden": [2**52, 2**52], "activation": "relu", "dropout": 0.0}


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors: there is no such file"),
        (lambda folder: (folder / "config.json").unlink(), "config.json: there is no such file"),
        (cut("model.safetensors", 300), "not a safetensors file"),
        (cut("model.safetensors", 0), "not a safetensors file"),
        (cut("config.json", 100), "not a model's config: the text: Invalid JSON"),
        (edited_weights(lambda tensors: tensors.pop("head.bias")), "head.bias is missing"),
        (edited_weights(lambda tensors: tensors.update(more=torch.zeros(1))), "more is unknown"),
        (
            edited_weights(lambda tensors: tensors.update({"head.bias": torch.zeros(9)})),
            "head.bias is float32 [9], not float32 [10]",
        ),
        (
            edited_weights(lambda tensors: tensors.update({"head.bias": torch.zeros(10).double()})),
            "head.bias is float64 [10], not float32 [10]",
        ),
        (edited_config(format=2), "format: Input should be 1"),
        (edited_config(color="red"), "color: Unexpected keyword argument"),
        (edited_config(inputs=[{"name": "x", "dtype": "int8", "shape": [3], "unit": 1}]), "inputs.0.unit: Unexpected"),
        (edited_config(target_scaling={"scale": "1"}), "target_scaling.scale: Input should be a valid number"),
        (edited_config(target_scaling={"mean": [float("inf")]}), "target_scaling.mean.0: "),
        (edited_config(outputs="ten"), "outputs: Input should be a valid integer"),
        (edited_config(network={"arch": "capsules"}), "network: "),
        (edited_config(input_scaling=[]), "inputs and input_scaling differ in number"),
        (edited_config(inputs=[{"name": "x", "dtype": "float32", "shape": [3]}]), "no network can be built: cnn takes"),
        (edited_config(network=HUGE), "no network can be built"),
    ],
)
def test_a_damaged_model_is_refused_by_name(tmp_path: Path, damage: Callable[[Path], None], what: str) -> None:
    damage(saved(tmp_path))
    with pytest.raises(DataError) as refusal:
        load_model(tmp_path)
    assert what in str(refusal.value)
    assert str(tmp_path) in str(refusal.value)


def test_a_network_larger_than_its_file_is_refused_before_it_takes_memory(tmp_path: Path) -> None:
    edited_config(network={**HUGE, "hidden": [2**20, 2**20]})(saved(tmp_path))  # 4 TiB of weights
    with pytest.raises(DataError, match="the weights do not fit"):
        load_model(tmp_path)
