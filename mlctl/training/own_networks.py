"""Whether a user's own network can be trained, and be the same again after it was saved."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch

from mlctl.errors import StepFailed
from mlctl.models.complete import CompleteModel
from mlctl.models.custom import named_code
from mlctl.models.files import ModelConfig
from mlctl.recipe.networks import CustomSettings
from mlctl.training.trained import Arrays, example_of, stored_model


def require_answers(model: CompleteModel, config: ModelConfig, rows: Arrays) -> None:
    """Raise StepFailed unless a user's own network has weights and answers raw inputs [B, ...] with [B, outputs], or
    tokens [B, T] with [B, T, outputs].

    Networks of the recipe language pass untried. Leaves torch's random state and the model's mode alone.
    """
    if not isinstance(config.network, CustomSettings):
        return
    if not any(parameter.requires_grad for parameter in model.network.parameters()):
        raise StepFailed("the network has no weights to learn", next="let its class make layers in `__init__`")
    example = example_of(rows, config)
    outputs = _tried(model, lambda: model.raw_outputs(*example))
    first = config.inputs[0]
    wanted = [len(example[0]), *(first.shape if first.holds_tokens else ()), config.outputs]
    found = list(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
    if found != wanted:
        raise StepFailed(
            f"the network answers {wanted[0]} rows with {found}, where {wanted} is wanted",
            next="let its `forward` return one number for every row and output, or every token's place and output",
        )


def require_restorable(
    model: CompleteModel, config: ModelConfig, folder: Path, rows: Arrays, code: Path | None
) -> None:
    """Raise StepFailed unless a user's own network that was saved in `folder` answers as `model` does.

    Networks of the recipe language pass untried. The model ends on the CPU; torch's random state is left alone.
    """
    if not isinstance(config.network, CustomSettings):
        return
    with torch.random.fork_rng(devices=()):
        torch.seed()  # another process would draw other numbers, too
        _, restored = stored_model(folder, code)
    example = example_of(rows, config)
    after = _tried(restored, lambda: restored(*example))
    before = _tried(model.to("cpu"), lambda: model(*example))
    # The same weights on the same processor: there is nothing to differ but the order of sums.
    if not torch.allclose(before, after, rtol=1e-4, atol=1e-5, equal_nan=True):
        raise StepFailed(
            "the network answers otherwise after it was saved and loaded: its state_dict does not hold all of it",
            next="register what it learns, or draws at random, as a parameter or a persistent buffer",
        )


def named_mistakes(config: ModelConfig) -> AbstractContextManager[None]:
    """A context in which a mistake in a user's own network raises StepFailed with its line."""
    if isinstance(config.network, CustomSettings):
        return named_code("the network cannot be trained", "mend its `forward`")
    return nullcontext()


def _tried(model: CompleteModel, answers: Callable[[], torch.Tensor]) -> torch.Tensor:
    was_training = model.training
    try:
        with (
            named_code("the network cannot answer", "mend its `forward`"),
            torch.random.fork_rng(devices=()),
            torch.inference_mode(),
        ):
            model.eval()
            return answers()
    finally:
        model.train(was_training)
