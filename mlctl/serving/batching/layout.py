"""Where a model's rows have lengths of their own, and which requests could be one batch for it."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

from mlctl.runtime.answers import Arrays
from mlctl.runtime.running import Port

_MASK: Final = "mask"
_BESIDE_TOKENS: Final = ("type", "segment", "position")
"""What the names of whole numbers have in them that stand beside tokens, and are none: a padding token may be beyond
what the model has of them."""


@dataclass(frozen=True)
class Layout:
    """Numbers of the inputs and outputs whose axis 1 is the length of a row, such as its tokens.

    `pads` holds a value for every input: the padding token in whole numbers that are tokens, 0 in masks, in types and
    positions of tokens, and elsewhere.
    """

    is_batched: bool
    """Whether the first dimension of every input and output is open."""
    ragged_inputs: tuple[int, ...]
    ragged_outputs: tuple[int, ...]
    pads: tuple[int, ...]

    def key_of(self, inputs: Arrays) -> tuple[Hashable, int]:
        """What requests must share to be joined, and the length of the rows; 0 where they have none."""
        if not self.ragged_inputs:
            if len(inputs) == 1:
                only = inputs[0]
                return (only.shape[1:], only.dtype), 0
            return tuple((each.shape[1:], each.dtype) for each in inputs), 0
        lengths = {inputs[number].shape[1] if inputs[number].ndim > 1 else 0 for number in self.ragged_inputs}
        if len(lengths) > 1:
            return tuple((each.shape[1:], each.dtype) for each in inputs), 0
        key = tuple(
            (each.shape[2 if number in self.ragged_inputs else 1 :], each.dtype) for number, each in enumerate(inputs)
        )
        return key, lengths.pop()


def layout_of(inputs: tuple[Port, ...], outputs: tuple[Port, ...], pad: int) -> Layout:
    """What the ports of a graph say of its rows; `pad` is the token that fills up shorter ones."""
    return Layout(
        is_batched=all(port.shape and port.shape[0] is None for port in (*inputs, *outputs)),
        ragged_inputs=_ragged(inputs),
        ragged_outputs=_ragged(outputs),
        pads=tuple(pad if is_token(port) else 0 for port in inputs),
    )


def is_mask(port: Port) -> bool:
    """Whether the input says which tokens are real."""
    return _MASK in port.name.lower()


def is_token(port: Port) -> bool:
    """Whether the input is what a tokenizer makes of texts."""
    name = port.name.lower()
    return port.dtype in ("int32", "int64") and not is_mask(port) and not any(each in name for each in _BESIDE_TOKENS)


def _ragged(ports: tuple[Port, ...]) -> tuple[int, ...]:
    return tuple(number for number, port in enumerate(ports) if len(port.shape) > 1 and port.shape[1] is None)
