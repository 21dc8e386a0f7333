"""Requests in JSON that differ from an earlier one in the numbers of their one tensor alone, as most callers' do."""

from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from mlctl.runtime.answers import Arrays
from mlctl.runtime.running import Port
from mlctl.serving.protocols.json_tensors import json_of
from mlctl.serving.protocols.open_inference_tensors import Array, Wanted, from_values
from mlctl.serving.refusals import Malformed
from mlctl.serving.signature import Signature

_LONGEST: Final = 2048
"""Bytes before a tensor's numbers, and behind them, that are remembered."""
_MOST: Final = 256
"""How many plans are; then all are forgotten, and those that still come are remembered anew."""
_MOST_ANSWERS: Final = 16
_DATA: Final = b'"data"'
_NUMBERS: Final = b"\0"
"""What stands for an output's numbers in an answer's JSON, which has no such byte."""
_NO_NUMBERS: Final = (b"u", b"l")
"""A letter of `true`, and one of `false` and `null`; numbers have neither."""


@dataclass(frozen=True, slots=True)
class JsonPlan:
    """What a JSON says that was found to be right, whatever numbers stand in the one list of its one tensor."""

    signature: Signature
    before: bytes
    """The JSON up to the list."""
    behind: bytes
    port: Port
    shape: tuple[int, ...]
    outputs: tuple[Wanted, ...]
    """All of them in JSON."""
    answers: dict[tuple[tuple[int, ...], ...], list[bytes]] = field(default_factory=dict)
    """The JSON of answers, in the pieces around their numbers, by the shapes of what they carry."""

    def input(self, body: bytes) -> Array | None:
        """The tensor of a body that begins as this one did; None where there is more to say of it than its numbers."""
        begin, end = len(self.before), len(body) - len(self.behind)
        if end <= begin or not body.endswith(self.behind):
            return None
        if any([body.find(letter, begin, end) >= 0 for letter in _NO_NUMBERS]):
            return None
        try:
            values = orjson.loads(memoryview(body)[begin:end])
            return from_values(self.port, self.shape, values, may_hold_booleans=False)
        except (orjson.JSONDecodeError, Malformed):
            return None

    def answer(self, outputs: Arrays) -> bytes | None:
        """The JSON of an answer; None where none of these shapes was written yet."""
        arrays = [outputs[each.place] for each in self.outputs]
        pieces = self.answers.get(tuple([each.shape for each in arrays]))
        if pieces is None:
            return None
        parts = [pieces[0]]
        for wanted, array, piece in zip(self.outputs, arrays, pieces[1:], strict=True):
            parts += (json_of(wanted.port.name, array), piece)
        return b"".join(parts)

    def keep(self, outputs: Arrays, body: bytes) -> bytes:
        """Remember what stands around the numbers of an answer, and give it back."""
        if len(self.answers) >= _MOST_ANSWERS:
            self.answers.clear()
        said = orjson.loads(body)
        tensors = [{**each, "data": orjson.Fragment(_NUMBERS)} for each in said["outputs"]]
        pieces = orjson.dumps({**said, "outputs": tensors}).split(_NUMBERS)
        self.answers[tuple([outputs[each.place].shape for each in self.outputs])] = pieces
        return body


class JsonPlans:
    """What is remembered, for one server."""

    def __init__(self) -> None:
        self._plans: dict[bytes, JsonPlan] = {}

    def find(self, body: bytes, signature: Signature) -> JsonPlan | None:
        """The plan of a body for the same loaded model; None where it is to be read."""
        begin = _list_in(body)
        plan = self._plans.get(body[:begin]) if begin > 0 else None
        return plan if plan is not None and plan.signature is signature else None

    def remember(self, body: bytes, said: dict[str, Any], signature: Signature, outputs: tuple[Wanted, ...]) -> None:
        """Keep the plan of a body, which was found to be right and says `said`, if nothing in it but the numbers of its
        one input will be different in the next one.
        """
        inputs, begin = said["inputs"], _list_in(body)
        port = signature.input(inputs[0]["name"])
        if len(inputs) != 1 or begin < 1 or port is None or port.dtype in ("object", "bool"):
            return
        end = body.find(b"]", begin) + 1
        before, behind = body[:begin], body[end:]
        if len(behind) > _LONGEST or not _says(before, behind, {**said, "inputs": [{**inputs[0], "data": []}]}):
            return
        if len(self._plans) >= _MOST:
            self._plans.clear()
        self._plans[before] = JsonPlan(signature, before, behind, port, tuple(inputs[0]["shape"]), outputs)


def _list_in(body: bytes) -> int:
    """Where the first list of data seems to begin; a plan's bytes before it were found to say so."""
    return body.find(b"[", body.find(_DATA, 0, _LONGEST) + len(_DATA), _LONGEST)


def _says(before: bytes, behind: bytes, wanted: dict[str, Any]) -> bool:
    """Whether an empty list between these bytes makes them this JSON: then any list there is that tensor's data."""
    try:
        return bool(orjson.loads(b"".join((before, b"[]", behind))) == wanted)
    except orjson.JSONDecodeError:
        return False
