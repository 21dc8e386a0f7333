"""What a request of the Open Inference Protocol v2 over HTTP asks for.

JSON, with the tensors' bytes behind it where the binary tensor data extension is used: the header
`Inference-Header-Content-Length` says how long the JSON is, `binary_data_size` how many bytes a tensor has.
"""

from dataclasses import dataclass
from math import prod
from typing import Any, Final, NamedTuple

from mlctl.runtime.answers import Arrays
from mlctl.runtime.open_inference import HEADER_LENGTH, header_end
from mlctl.runtime.running import Port
from mlctl.serving.http.messages import Request
from mlctl.serving.protocols.json_tensors import decoded, from_json
from mlctl.serving.protocols.large_bodies import LARGE, read_whole, require_tensors
from mlctl.serving.protocols.open_inference_json_plans import JsonPlan
from mlctl.serving.protocols.open_inference_plans import Part, Plan, Plans, part_of
from mlctl.serving.protocols.open_inference_tensors import (
    Array,
    Wanted,
    all_outputs,
    arranged,
    array_dtype,
    checked_port,
    from_raw,
    quoted,
    wanted_output,
)
from mlctl.serving.refusals import Malformed
from mlctl.serving.signature import Signature

_HEADER: Final = HEADER_LENGTH.lower()
_BOOLEANS: Final = ((b"true", 2), (b"false", 2))
"""JSON's booleans, and of each a letter that numbers do not have and the protocol's keys have hardly."""
_FEW_LETTERS: Final = 16
"""How many of them are looked at."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An output that is asked for, and in which form."""

    wanted: Wanted
    is_binary: bool


class Asked(NamedTuple):
    """What a request asks for."""

    inputs: Arrays
    outputs: tuple[Answered, ...]
    id: str | None
    plan: Plan | JsonPlan | None = None
    """What is known of its JSON, where it was read before."""


def read(request: Request, signature: Signature, plans: Plans) -> Asked:
    """The inference that a request asks for; inputs look at its body where they can.

    Parameters that are not known are passed over, as the protocol says. Raises Malformed.
    """
    body = request.body
    length = request.headers.get(_HEADER)
    if len(body) < LARGE:
        return _read(body, length, signature, plans)
    end = len(body) if length is None else _header_end(length, len(body))
    require_tensors(body if end == len(body) else memoryview(body)[:end], signature)
    return read_whole(end, lambda: _read(body, length, signature, plans))


def _read(body: bytes, length: str | None, signature: Signature, plans: Plans) -> Asked:
    if length is not None and (plan := plans.find(length, body, signature)) is not None:
        return Asked(plan.inputs(body), (), None, plan)
    if length is None and (known := plans.in_json.find(body, signature)) is not None:
        array = known.input(body)
        if array is not None:
            return Asked((array,), (), None, known)
    end = len(body) if length is None else _header_end(length, len(body))
    if end == 0 and length is not None:
        every = tuple(Answered(each, is_binary=True) for each in all_outputs(signature))
        return Asked(_raw_input(signature, body), every, None)
    said = decoded(body if end == len(body) else memoryview(body)[:end])
    reading = _Inputs(signature, body, end)
    asked = Asked(reading.read(said.get("inputs")), _outputs(signature, said), _id(said))
    if length is not None and (planned := _plan(reading, asked, signature, len(body))) is not None:
        plans.remember(length, end, body, planned)
    if length is None and asked.id is None and not any(each.is_binary or each.wanted.classes for each in asked.outputs):
        plans.in_json.remember(body, said, signature, tuple(each.wanted for each in asked.outputs))
    return asked


def _plan(reading: "_Inputs", asked: Asked, signature: Signature, size: int) -> Plan | None:
    """What a JSON says for every body, if that is all it says."""
    wanted = [each.wanted for each in asked.outputs if each.is_binary and not each.wanted.classes]
    parts = [reading.parts.get(port.name) for port in signature.inputs]
    known = [each for each in parts if each is not None]
    is_plain = len(known) == len(parts) and len(wanted) == len(asked.outputs) and asked.id is None
    if not is_plain or any(each.port.dtype == "object" for each in wanted):
        return None
    return Plan(signature, size, tuple(known), tuple(wanted))


class _Inputs:
    """The tensors of one request, whose bytes lie one after the other behind its JSON."""

    def __init__(self, signature: Signature, body: bytes, end: int) -> None:
        self._signature = signature
        self._body = body
        self._end = end
        self._next = end
        """Where the next tensor's bytes begin."""
        self._has_booleans: bool | None = None
        self.parts: dict[str, Part | None] = {}
        """Where inputs lie that are nothing but bytes, by their names."""

    def read(self, tensors: Any) -> Arrays:
        """All of them, in the model's order. Raises Malformed."""
        if not isinstance(tensors, list):
            raise Malformed("the request has no list of inputs")
        arrays = arranged(self._signature, [self._tensor(place, each) for place, each in enumerate(tensors)])
        if self._next != len(self._body):
            raise Malformed(f"{len(self._body) - self._next:,} bytes follow the last input's")
        return arrays

    def _tensor(self, place: int, tensor: Any) -> tuple[Port, Array]:
        if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
            raise Malformed(f"input {place} of the request has no name")
        name, named, shape = tensor["name"], tensor.get("datatype"), tensor.get("shape")
        if not isinstance(named, str) or not isinstance(shape, list):
            raise Malformed(f"input {quoted(name)} must say its datatype and its shape")
        port = checked_port(self._signature, name, named, shape)
        data, size = tensor.get("data"), _parameters(tensor, f"input {name!r}").get("binary_data_size")
        if (data is None) == (size is None):
            raise Malformed(f"input {name!r} must have either data, or the parameter binary_data_size")
        if size is not None:
            start = self._next
            array = from_raw(port, shape, self._part(port, size))
            self.parts[name] = part_of(self._signature, name, start, shape)
            return port, array
        return port, from_json(port, shape, data, has_booleans=self._may_hold_booleans())

    def _part(self, port: Port, size: Any) -> memoryview:
        """The next bytes."""
        if type(size) is not int or size < 0:
            raise Malformed(f"input {port.name!r} has the binary_data_size {quoted(size)}, which is no size")
        start, self._next = self._next, self._next + size
        if self._next > len(self._body):
            behind = f"{len(self._body) - start:,} are left behind the JSON, whose length {HEADER_LENGTH} says"
            raise Malformed(f"input {port.name!r} has a binary_data_size of {size:,} bytes, and {behind}")
        return memoryview(self._body)[start : self._next]

    def _may_hold_booleans(self) -> bool:
        """Whether the JSON could have a boolean in it: a search of its bytes spares a look at every value."""
        if self._has_booleans is None:
            self._has_booleans = any(self._may_hold(word, letter) for word, letter in _BOOLEANS)
        return self._has_booleans

    def _may_hold(self, word: bytes, letter: int) -> bool:
        """Whether the word, or more than a few of the letter at that place in it, are in the JSON.

        One letter is found by memchr: 0.5 microseconds for 784 numbers, where a word takes 20, and the types of all
        values 16.
        """
        place = -1
        for _ in range(_FEW_LETTERS):
            place = self._body.find(word[letter], place + 1, self._end)
            if place < 0:
                return False
            if self._body[place - letter : place - letter + len(word)] == word:
                return True
        return True


def _header_end(length: str, whole: int) -> int:
    end = header_end(length, whole)
    if end is None:
        raise Malformed(f"the header {HEADER_LENGTH} is {quoted(length)}, and the body has {whole:,} bytes")
    return end


def _raw_input(signature: Signature, body: bytes) -> Arrays:
    """The one input of a model from a body that is nothing but its bytes (the extension's raw binary request).

    The one size that its shape leaves open follows from the number of bytes; of several, the first is a batch of one.
    A model of texts gets one text, the whole body.
    """
    if not body:
        raise Malformed("the request has no body")
    if len(signature.inputs) != 1:
        raise Malformed(f"a body without JSON is for a model with one input; this has {len(signature.inputs)}")
    (port,) = signature.inputs
    is_texts, dtype = port.dtype == "object", array_dtype(port)
    left = [place for place, size in enumerate(port.shape) if size is None]
    shape = [size or 1 for size in port.shape]
    if len(left) > 2 or (is_texts and prod(shape) != 1):
        raise Malformed(f"a body without JSON does not say the shape of input {port.name!r}")
    if left and not is_texts:
        shape[left[-1]] = max(1, len(body) // (prod(shape) * dtype.itemsize))
    raw = len(body).to_bytes(4, "little") + body if is_texts else body
    return arranged(signature, [(port, from_raw(port, shape, raw))])


def _outputs(signature: Signature, said: dict[str, Any]) -> tuple[Answered, ...]:
    parameters, tensors = _parameters(said, "the request"), said.get("outputs")
    is_binary = _flag(parameters, "binary_data_output", default=False) if parameters else False
    if not tensors and (tensors is None or isinstance(tensors, list)):
        return tuple([_answered(each, is_binary) for each in all_outputs(signature)])
    if not isinstance(tensors, list):
        raise Malformed(f"the request has outputs in {quoted(tensors)}, and must have them in a list")
    found = tuple(_output(signature, tensor, is_binary) for tensor in tensors)
    if len({each.wanted.place for each in found}) != len(found):
        raise Malformed("an output is asked for twice")
    return found


def _answered(wanted: Wanted, is_binary: bool) -> Answered:
    if wanted.port.dtype == "bfloat16" and not is_binary:
        raise Malformed(f"output {wanted.port.name!r} is BF16, which can be sent as binary data alone")
    return Answered(wanted, is_binary)


def _output(signature: Signature, tensor: Any, is_binary: bool) -> Answered:
    if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
        raise Malformed("an output that is asked for has no name")
    name = tensor["name"]
    parameters = _parameters(tensor, f"output {quoted(name)}")
    classes = parameters.get("classification", 0)
    if type(classes) is not int or classes < 0:
        raise Malformed(
            f"output {quoted(name)} has the classification {quoted(classes)}, which is no number of classes"
        )
    return _answered(wanted_output(signature, name, classes), _flag(parameters, "binary_data", default=is_binary))


def _parameters(said: dict[str, Any], owner: str) -> dict[str, Any]:
    found = said.get("parameters")
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise Malformed(f"{owner} has parameters in {quoted(found)}, and must have them in an object")
    if "shared_memory_region" in found:
        raise Malformed(f"{owner} lies in shared memory, which this server does not read")
    return found


def _flag(parameters: dict[str, Any], name: str, *, default: bool) -> bool:
    found = parameters.get(name, default)
    if not isinstance(found, bool):
        raise Malformed(f"the parameter {name} is {quoted(found)}, and must be true or false")
    return found


def _id(said: dict[str, Any]) -> str | None:
    found = said.get("id")
    if found is not None and not isinstance(found, str):
        raise Malformed(f"the request's id is {quoted(found)}, and must be a text")
    return found
