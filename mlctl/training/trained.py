"""A model of a task: what it is, with fresh or stored weights, and as something that answers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy.typing as npt
import torch
from torch import nn

from mlctl.data.description import DataDescription, Scaling
from mlctl.models.complete import CompleteModel, InputScaling
from mlctl.models.files import ModelConfig, ModelInput, built, load_model
from mlctl.recipe.networks import NetworkSettings
from mlctl.tasks.table import TASKS
from mlctl.tasks.task import Task

Arrays: TypeAlias = tuple[npt.NDArray[Any], ...]


def use_threads(count: int) -> None:
    """Let torch use `count` cores."""
    torch.set_num_threads(count)


def model_config(task: Task[Any], network: NetworkSettings, data: DataDescription) -> ModelConfig:
    """What a model is that learns this task from this data."""
    return ModelConfig(
        task=task.name,
        network=network,
        inputs=model_inputs(task, data),
        outputs=task.outputs(data),
        input_scaling=tuple(_model_scaling(scaling) for scaling in data.input_scaling),
        target_scaling=_model_scaling(data.target_scaling),
        labels=data.labels,
    )


def model_inputs(task: Task[Any], data: DataDescription) -> tuple[ModelInput, ...]:
    """What a model of the task takes for each input of this data."""
    return tuple(ModelInput(field.name, task.input_dtype(field), field.shape, field.columns) for field in data.inputs)


def fresh_model(config: ModelConfig, seed: int, code: Path | None) -> CompleteModel:
    """The model with weights drawn from `seed`, cut where the config has a structure.

    `code` is where a user's own network may come from, if it may. Raises what `built` does.
    """
    torch.manual_seed(seed)
    return complete(config, built(config, code))


def stored_model(folder: Path, code: Path | None) -> tuple[ModelConfig, CompleteModel]:
    """A trained model from its artifact, ready to answer; `code` as in `fresh_model`."""
    config, network = load_model(folder, code)
    return config, complete(config, network).eval()


def complete(config: ModelConfig, network: nn.Module) -> CompleteModel:
    """The network with what stands before and after it; inputs of int64 are tokens, which are not scaled."""
    target = config.target_scaling
    finish = TASKS[config.task].finish(Scaling(target.scale, target.mean, target.deviation))
    pairs = zip(config.inputs, config.input_scaling, strict=True)
    return CompleteModel(network, tuple(None if each.holds_tokens else scaling for each, scaling in pairs), finish)


def as_callable(model: nn.Module, device: torch.device) -> Callable[[Arrays], npt.NDArray[Any]]:
    """The model from arrays to arrays: raw inputs [B, ...] in, answers [B, ...] out, both on the host."""
    model.to(device)

    def answers(inputs: Arrays) -> npt.NDArray[Any]:
        with torch.inference_mode():
            # Memory-mapped rows are read-only, which torch does not know.
            found: torch.Tensor = model(*(torch.from_numpy(rows.copy()).to(device) for rows in inputs))
            return found.cpu().numpy()

    return answers


def example_of(inputs: Arrays, config: ModelConfig) -> tuple[torch.Tensor, ...]:
    """The first two rows of every input as tensors, in the dtypes that the model takes."""
    pairs = zip(inputs, config.inputs, strict=True)
    # Twice the same where there is but one: a batch of one could be taken for a size that is fixed.
    return tuple(torch.from_numpy(rows[[0, 1 % len(rows)]].astype(each.dtype)) for rows, each in pairs)


def parameter_count(network: nn.Module) -> int:
    """How many numbers the network has learnt."""
    return sum(parameter.numel() for parameter in network.parameters())


def _model_scaling(scaling: Scaling) -> InputScaling:
    return InputScaling(scaling.scale, scaling.mean, scaling.deviation)
