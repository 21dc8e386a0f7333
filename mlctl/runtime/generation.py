"""A language model goes on with a text, token by token."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from mlctl.runtime.answers import Model
from mlctl.runtime.sampling import Logits
from mlctl.runtime.session import OnnxSession

DECODER_NAME: Final = "decoder.onnx"
"""The decoder's graph, beside the model's own."""


class Reader(Protocol):
    """A model that reads tokens and says what it expects next."""

    @property
    def capacity(self) -> int | None:
        """How many tokens it can have read at once; None where there is no end."""

    @property
    def known(self) -> int:
        """How many tokens it has read since it last forgot."""

    def read(self, tokens: Sequence[int]) -> Logits:
        """Read on; the logits [V] after the last of one or more `tokens`."""

    def forget(self) -> None:
        """Be as before the first token."""


def generated(reader: Reader, prompt: Sequence[int], choose: Callable[[Logits], int]) -> Iterator[int]:
    """Tokens that follow one or more tokens of `prompt`, without an end.

    Of a prompt longer than the reader's capacity its end is read. Whenever the capacity is used up, the last half of
    it is read again, and the text goes on from there.
    """
    seen = list(prompt)
    capacity = reader.capacity
    reader.forget()
    logits = reader.read(seen if capacity is None else seen[-capacity:])
    while True:
        token = choose(logits)
        seen.append(token)
        yield token
        if capacity is not None and reader.known >= capacity:
            reader.forget()
            logits = reader.read(seen[-max(1, capacity // 2) :])
        else:
            logits = reader.read([token])


class WindowReader:
    """A model without a state, which reads all tokens again for every new one."""

    def __init__(self, model: Model, capacity: int) -> None:
        """`model` takes tokens int64 [1, T] and gives logits [1, T, V]."""
        self._model = model
        self._tokens: list[int] = []
        self.capacity: int | None = capacity

    @property
    def known(self) -> int:
        """As `Reader.known`."""
        return len(self._tokens)

    def read(self, tokens: Sequence[int]) -> Logits:
        """As `Reader.read`."""
        self._tokens += tokens
        answers = self._model((np.array([self._tokens], np.int64),))
        return np.asarray(answers[0, -1])

    def forget(self) -> None:
        """As `Reader.forget`."""
        self._tokens = []


class GraphReader:
    """A decoder's graph: tokens and a state in, logits and the next state out."""

    def __init__(self, session: OnnxSession, capacity: int) -> None:
        """`capacity` counts where the state grows with every token; elsewhere there is no end."""
        self._session = session
        self._empty = empty_state(session, 1)
        self._state, self._known = self._empty, 0
        self.capacity = None if self._empty.size else capacity

    @property
    def known(self) -> int:
        """As `Reader.known`."""
        return self._known

    def read(self, tokens: Sequence[int]) -> Logits:
        """As `Reader.read`. Raises what a session raises."""
        logits, self._state = self._session.all((np.array([tokens], np.int64), self._state))
        self._known += len(tokens)
        return np.asarray(logits[0, -1])

    def forget(self) -> None:
        """As `Reader.forget`."""
        self._state, self._known = self._empty, 0


def empty_state(session: OnnxSession, batch: int) -> npt.NDArray[Any]:
    """What the decoder's graph of `session` knows before the first token of `batch` texts.

    Of its second input's open dimensions the first is the batch, and one behind it counts the tokens that were read.
    """
    port = session.inputs[1]
    axis = port.shape.index(None)
    sizes = (batch if place == axis else size or 0 for place, size in enumerate(port.shape))
    return np.zeros(tuple(sizes), port.dtype)
