"""A model on a server that speaks the Open Inference Protocol v2 over HTTP."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mlctl.compression.distillation.inference_server import PATIENT, InferenceServer, TooLarge
from mlctl.data.remote_failures import plain
from mlctl.data.remote_retrying import Patience
from mlctl.digests import digest
from mlctl.errors import DataError, MachineError
from mlctl.events import Tell
from mlctl.runtime.answers import Arrays
from mlctl.runtime.open_inference import BINARY_EXTENSION, DTYPES, HEADER_LENGTH, Malformed, Response, decoded, encoded
from mlctl.runtime.running import Port, widened
from mlctl.runtime.served_address import ServedAddress

MOST_ROWS: Final = 64
"""Of one request."""


class ServedModel:
    """Answers batches with the model's first output of floating-point numbers.

    A batch that the server finds too large is asked in halves from then on.
    """

    def __init__(self, address: ServedAddress, tell: Tell, patience: Patience = PATIENT) -> None:
        """Ask the server what it serves.

        Raises MachineError where it cannot be reached, DataError where it is no such server, has no such model, or the
        model gives no output of floating-point numbers.
        """
        self._server = InferenceServer(address, tell, patience)
        self._address = address
        self._most = MOST_ROWS
        self._metadata = self._server.said(address.url)
        self.is_binary = self._announces_binary()
        """Whether tensors travel as bytes; else as JSON."""
        self.version: str | None = None
        """The one that answers, as the server says; None before the first answer."""
        self.inputs = self._ports("inputs")
        self.output = self._answer()
        sizes = [port.shape[0] for port in self.inputs if port.shape]
        self._fixed = next((size for size in sizes if size), None)

    @property
    def identity(self) -> str:
        """A digest of what the server says of the model, and of the version that answers."""
        said = {key: self._metadata.get(key) for key in ("name", "versions", "platform", "inputs", "outputs")}
        return digest({"served": said, "answers": self.version})

    def __str__(self) -> str:
        platform, version = self._metadata.get("platform"), self.version or self._address.version
        named = f"{self._address.name}{f' version {version}' if version else ''}"
        return plain(f"{named}{f' on {platform}' if platform else ''} at {self._address.url}")

    def __call__(self, rows: Arrays) -> npt.NDArray[Any]:
        """The output [B, ...] for one batch; `rows` [B, ...] in the order of `self.inputs`.

        Raises MachineError where the server has gone, or where another version of the model answers than before;
        DataError where it refuses the batch, or its answer is not what it says it would be.
        """
        done, parts = 0, []
        while done < len(rows[0]):
            size = self._fixed or min(self._most, len(rows[0]) - done)
            part = tuple(_filled(each[done : done + size], size) for each in rows)
            try:
                parts.append(self._inferred(part)[: len(rows[0]) - done])
            except TooLarge as refusal:
                if size == 1 or self._fixed:
                    next_step = "choose a served model that takes rows like the data's"
                    raise DataError(str(refusal), where=self._address.url, next=next_step) from refusal
                self._most = size // 2
                continue
            done += size
        return np.concatenate(parts)

    def _inferred(self, rows: Arrays) -> npt.NDArray[Any]:
        fed = {port.name: widened(each, port.dtype) for port, each in zip(self.inputs, rows, strict=True)}
        request = encoded(fed, [self.output.name], is_binary=self.is_binary)
        answered = self._server.ask(f"{self._address.url}/infer", request.body, request.headers)
        try:
            response = decoded(answered.body, answered.headers.get(HEADER_LENGTH.lower()))
        except Malformed as error:
            raise self._server.unusable(str(error)) from error
        self._require_version(response.version)
        return self._output(response, len(rows[0]))

    def _output(self, response: Response, rows: int) -> npt.NDArray[Any]:
        name, wanted = self.output.name, self.output.shape[1:]
        found = response.outputs.get(name)
        if found is None:
            raise self._server.unusable(f"its answer has no output {name!r}")
        fits = found.ndim == len(self.output.shape) and found.shape[0] == rows and found.dtype.name == self.output.dtype
        if not fits or any(size not in (None, got) for size, got in zip(wanted, found.shape[1:], strict=True)):
            said = f"{self.output.dtype} {[rows, *(size or '?' for size in wanted)]}"
            raise self._server.unusable(f"its output {name!r} is {found.dtype.name} {list(found.shape)}, not {said}")
        return found

    def _require_version(self, version: str) -> None:
        if self.version is not None and version != self.version:
            raise MachineError(
                f"version {plain(version)!r} of the model answers now, and {plain(self.version)!r} did before",
                where=self._address.url,
                next="name a version in the address (.../versions/VERSION), and run the command again",
            )
        self.version = version

    def _announces_binary(self) -> bool:
        """Whether the server says so; one that says nothing of itself is asked in JSON, which all take."""
        try:
            said = self._server.said(self._address.url.partition("/v2/models/")[0] + "/v2")
        except DataError:
            return False
        extensions = said.get("extensions")
        return isinstance(extensions, list) and BINARY_EXTENSION in extensions

    def _answer(self) -> Port:
        for port in self._ports("outputs"):
            if port.dtype in ("float16", "float32", "float64"):
                return port
        raise DataError(
            "the served model gives no output of floating-point numbers",
            where=self._address.url,
            next="serve a model whose answers are logits, probabilities or numbers",
        )

    def _ports(self, key: str) -> tuple[Port, ...]:
        try:
            return tuple(_port(each) for each in self._metadata[key])
        except (KeyError, TypeError, ValueError):
            raise self._server.unusable(f"what it says of the model's {key} is not of the protocol") from None


def _port(raw: Any) -> Port:
    """An input or output as the server's metadata has it; -1 stands for a size that is left open."""
    shape = tuple(None if size < 0 else int(size) for size in raw["shape"])
    return Port(str(raw["name"]), DTYPES.get(raw["datatype"], "no numbers"), shape)


def _filled(rows: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    """So many rows, those that are there again after the last."""
    return rows if len(rows) == size else rows[np.arange(size) % len(rows)]
