"""What layers within a network give while it answers."""

# B batch, C channels, H height, W width, T tokens, D width of a token's vector

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mlctl.models.complete import CompleteModel
from mlctl.training.evaluation_mode import evaluation_mode


class Watch:
    """Keeps what the named layers of a network gave the last time that it answered; `close` lets go of it."""

    def __init__(self, network: nn.Module, names: Iterable[str], *, copies: bool = True) -> None:
        """`copies` keeps what the layers gave, with its gradients, whatever becomes of it in the network; otherwise
        the layers' own tensors are kept, which an activation behind them may have changed in place."""
        self._copies = copies
        modules = dict(network.named_modules())
        self.outputs: dict[str, Tensor] = {}
        self._hooks: list[RemovableHandle] = [
            modules[name].register_forward_hook(self._keeping(name)) for name in names
        ]

    def close(self) -> None:
        """Take the hooks away, and forget."""
        for hook in self._hooks:
            hook.remove()
        self.outputs.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _keeping(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def keep(module: nn.Module, inputs: Any, outputs: Any) -> None:
            found = tensor_of(outputs)
            if found is not None:
                self.outputs[name] = found.clone() if self._copies else found

        return keep


@dataclass(frozen=True)
class LayerShape:
    """A layer by name and the shape of what it gives for one sample: [C, H, W], [T, D] or [D]."""

    name: str
    shape: tuple[int, ...]
    is_repeated: bool
    """Whether it stands in a list of layers, as blocks do."""

    def __str__(self) -> str:
        return f"{self.name} {list(self.shape)}"

    @property
    def width(self) -> int:
        """Channels, or numbers of a token's vector."""
        return self.shape[0] if len(self.shape) == 3 else self.shape[-1]

    @property
    def places(self) -> tuple[int, ...]:
        """Height and width of an image, the tokens of a row, or nothing."""
        return self.shape[1:] if len(self.shape) == 3 else self.shape[:-1]


@torch.no_grad()
def layer_shapes(model: CompleteModel, example: tuple[Tensor, ...]) -> tuple[LayerShape, ...]:
    """The layers of `model.network` that give one array per sample, in the order in which they first answer.

    `example` are raw inputs [B, ...] on the model's device. The last layer, which gives the network's own answer, is
    none of them. The model's mode is left as it was.
    """
    modules = dict(model.network.named_modules())
    with evaluation_mode(model), Watch(model.network, (name for name in modules if name), copies=False) as watch:
        answer = tensor_of(model.network(*model.preprocess(*example)))
        return tuple(
            LayerShape(name, tuple(outputs.shape[1:]), _is_repeated(name, modules))
            for name, outputs in watch.outputs.items()
            if outputs is not answer and outputs.ndim in (2, 3, 4) and len(outputs) == len(example[0])
        )


def tensor_of(outputs: Any) -> Tensor | None:
    """The array that a layer gives; of several the first."""
    first = outputs[0] if isinstance(outputs, tuple) and outputs else outputs
    return first if isinstance(first, Tensor) and first.is_floating_point() else None


def _is_repeated(name: str, modules: dict[str, nn.Module]) -> bool:
    return isinstance(modules[name.rpartition(".")[0]], nn.ModuleList | nn.Sequential)
