"""A trained model as files: `model.safetensors`, `config.json`, and `structure.json` where it was pruned. No pickle."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor, nn

from mlctl.digests import Json, canonical
from mlctl.errors import DataError, StepFailed
from mlctl.models.complete import InputScaling
from mlctl.models.structure import Structure, restructured, structure_from_json, structure_to_json
from mlctl.models.table import build
from mlctl.recipe.networks import CustomSettings, NetworkSettings

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
STRUCTURE_FILE = "structure.json"
NEXT = "make the model again; `mlctl run --force STEP` does"


@dataclass(frozen=True)
class ModelInput:
    """One input: its name, NumPy dtype and shape, the batch dimension left out.

    `columns` names the columns that make it, in order; empty for files of images.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    columns: tuple[str, ...] = ()

    @property
    def holds_tokens(self) -> bool:
        """Whether the input is a row of tokens [T] to be looked up, and not numbers to be scaled."""
        return self.dtype == "int64"


@dataclass(frozen=True)
class ModelConfig:
    """Everything about a model but its weights: enough to build it again and to say what its answers mean."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    task: str
    network: NetworkSettings
    inputs: tuple[ModelInput, ...]
    outputs: int
    input_scaling: tuple[InputScaling, ...]
    target_scaling: InputScaling
    """How the target was scaled for learning; a number as it is where the task learns classes."""
    labels: tuple[str, ...]
    """Names of the classes in the order of the outputs; empty where there are none."""
    format: Literal[1] = 1
    structure: Structure | None = None
    """What was kept of the network, where it was pruned; it stands in a file of its own."""

    @property
    def input_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The inputs' shapes, the batch dimension left out."""
        return tuple(each.shape for each in self.inputs)


_CONFIG = TypeAdapter(ModelConfig)


def save_model(folder: Path, config: ModelConfig, network: nn.Module, fingerprint: str) -> None:
    """Write `model.safetensors` (weights and buffers) and `config.json` into `folder`; the same bytes every time.

    `structure.json` stands beside them where the config has a structure.
    """
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.state_dict().items()}
    lineage: dict[str, Json] = {"fingerprint": fingerprint, "format": config.format, "task": config.task}
    # One key only: safetensors writes two or more in an order that changes from process to process.
    metadata = {"mlctl": canonical(lineage).decode()}
    (folder / WEIGHTS_FILE).write_bytes(tensors_to_bytes(tensors, metadata=metadata))
    text = json.dumps(
        _CONFIG.dump_python(config, mode="json", exclude={"structure"}), indent=2, ensure_ascii=False, allow_nan=False
    )
    (folder / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")
    if config.structure is not None:
        (folder / STRUCTURE_FILE).write_text(structure_to_json(config.structure), encoding="utf-8")


def load_model(folder: Path, code: Path | None = None) -> tuple[ModelConfig, nn.Module]:
    """The config and its network on the CPU, in evaluation mode, from what `save_model` wrote.

    A pruned network is built from the config and cut to its structure.

    `code` is the folder that a user's own network may be imported from; None where no code may run. Leaves torch's
    random state alone. Raises DataError where a file is missing, is not what its name says, or does not fit the
    other, and UsageError for code that is not allowed.
    """
    config = replace(_read_config(folder / CONFIG_FILE), structure=_read_structure(folder / STRUCTURE_FILE))
    outline = _outline(config, folder, code)
    tensors = _read_tensors(folder / WEIGHTS_FILE)
    _check_fit(tensors, outline.state_dict(), folder / WEIGHTS_FILE)
    # Built anew and not filled in: the outline's constants, which no file holds, have no values.
    with torch.random.fork_rng(devices=()):
        network = built(config, code)
    network.load_state_dict(tensors)
    return config, network.eval()


def built(config: ModelConfig, code: Path | None) -> nn.Module:
    """The network with fresh weights from torch's global generator, cut where the config has a structure.

    Raises what `build` raises, and ValueError for a structure that does not fit the network.
    """
    network = build(config.network, config.input_shapes, config.outputs, code)
    return network if config.structure is None else restructured(network, config.structure)


def _read_structure(path: Path) -> Structure | None:
    try:
        return structure_from_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise DataError(f"not a model's structure: {_listed(error)}", where=path, next=NEXT) from error


def _listed(error: ValidationError) -> str:
    places = (".".join(map(str, each["loc"])) or "the text" for each in error.errors())
    return "; ".join(f"{place}: {each['msg']}" for place, each in zip(places, error.errors(), strict=True))


def _read_config(path: Path) -> ModelConfig:
    try:
        config = _CONFIG.validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError("there is no such file", where=path, next=NEXT) from error
    except ValidationError as error:
        raise DataError(f"not a model's config: {_listed(error)}", where=path, next=NEXT) from error
    if config.structure is not None:
        raise DataError(f"not a model's config: structure: it stands in {STRUCTURE_FILE}", where=path, next=NEXT)
    if len(config.inputs) != len(config.input_scaling):
        raise DataError("inputs and input_scaling differ in number", where=path, next=NEXT)
    return config


def _outline(config: ModelConfig, folder: Path, code: Path | None) -> nn.Module:
    """The network without memory for its weights, so that a nonsensical size is found before it is allocated."""
    # A user's own code may need values where ours needs only shapes.
    device = "cpu" if isinstance(config.network, CustomSettings) else "meta"
    try:
        with torch.random.fork_rng(devices=()), torch.device(device):
            network = build(config.network, config.input_shapes, config.outputs, code)
    except (StepFailed, RuntimeError) as error:
        raise DataError(f"no network can be built: {error}", where=folder / CONFIG_FILE, next=NEXT) from error
    if config.structure is None:
        return network
    try:
        return restructured(network, config.structure)
    except ValueError as error:
        raise DataError(f"it does not fit the network: {error}", where=folder / STRUCTURE_FILE, next=NEXT) from error


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return tensors_from_bytes(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError("there is no such file", where=path, next=NEXT) from error
    except SafetensorError as error:
        raise DataError(f"not a safetensors file: {error}", where=path, next=NEXT) from error


def _check_fit(tensors: dict[str, Tensor], expected: dict[str, Tensor], path: Path) -> None:
    problems = [f"{name} is missing" for name in sorted(expected.keys() - tensors.keys())]
    problems += [f"{name} is unknown" for name in sorted(tensors.keys() - expected.keys())]
    for name in sorted(expected.keys() & tensors.keys()):
        found, wanted = _kind(tensors[name]), _kind(expected[name])
        if found != wanted:
            problems.append(f"{name} is {found}, not {wanted}")
    if problems:
        raise DataError(f"the weights do not fit {CONFIG_FILE}: {'; '.join(problems)}", where=path, next=NEXT)


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
