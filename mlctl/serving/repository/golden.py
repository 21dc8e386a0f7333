"""Golden requests: held-out rows with the answers that a version gave when it was published.

A server asks them of every version before the version takes traffic. How far an answer may be off:

- A difference is a share of the largest number that the golden answers of the same output hold. A fixed distance would
  mean nothing to an output in thousands, and everything to one in millionths.
- Floats differ by the order of their sums, which depends on the processor's instructions, the number of threads and
  the runtime; integers by a step wherever such a sum lies at the edge between two. `golden_recording` says how much is
  allowed, and measures it.
- A runtime that computes with fewer bits than the graph is written in, as OpenVINO does in bf16 and CUDA in TF32, is
  allowed what those bits cost: see `coarseness`.
- Where the answer is a choice, the same one must come, unless the two best are nearer than the tolerance: there
  either is right.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from mlctl.digests import canonical
from mlctl.errors import ArtifactDamaged
from mlctl.runtime.answers import Arrays
from mlctl.runtime.running import Runtime
from mlctl.serving.repository.record import GOLDEN, NEXT

Answer: TypeAlias = Callable[[Arrays], Arrays]
"""Every input [1, ...] of a request in, every output [1, ...] out, in the order of the graph's."""
Decision: TypeAlias = Literal["argmax", "none"]

_FORMAT: Final = 1
_KEY: Final = "golden"


@dataclass(frozen=True)
class GoldenRequest:
    """One row of every input [1, ...], and of every output [1, ...]."""

    inputs: Arrays
    outputs: Arrays


@dataclass(frozen=True)
class Golden:
    """All golden requests of a version, at least one."""

    requests: tuple[GoldenRequest, ...]
    output_names: tuple[str, ...]
    tolerance: float
    decision: Decision
    """`argmax` where the largest number along the last axis of the first output is what counts."""

    def save(self, folder: Path) -> None:
        """Write `golden.safetensors`: the same bytes for the same requests."""
        from safetensors.numpy import save

        tensors = {
            f"{number:02d}.{role}.{place}": np.ascontiguousarray(array)
            for number, request in enumerate(self.requests)
            for role, arrays in (("input", request.inputs), ("output", request.outputs))
            for place, array in enumerate(arrays)
        }
        # One entry alone: the library writes several in an order of its own.
        said = canonical(
            {
                "format": _FORMAT,
                "requests": len(self.requests),
                "inputs": len(self.requests[0].inputs),
                "outputs": self.output_names,
                "tolerance": self.tolerance,
                "decision": self.decision,
            }
        )
        (folder / GOLDEN).write_bytes(save(tensors, {_KEY: said.decode()}))

    @classmethod
    def load(cls, folder: Path) -> "Golden":
        """Read `golden.safetensors`. Raises ArtifactDamaged where it is not what `save` wrote."""
        # A server of a file that was put there by hand has no use for it.
        from safetensors import SafetensorError, safe_open

        path = folder / GOLDEN
        try:
            with safe_open(path, framework="numpy") as stored:
                said = json.loads((stored.metadata() or {})[_KEY])
                if said["format"] != _FORMAT or said["requests"] < 1 or said["decision"] not in ("argmax", "none"):
                    raise ValueError("it is in another format")

                def row(number: int, role: str, count: int) -> Arrays:
                    return tuple(stored.get_tensor(f"{number:02d}.{role}.{place}") for place in range(count))

                names = tuple(said["outputs"])
                requests = tuple(
                    GoldenRequest(row(number, "input", said["inputs"]), row(number, "output", len(names)))
                    for number in range(said["requests"])
                )
                return cls(requests, names, float(said["tolerance"]), said["decision"])
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            what = getattr(error, "strerror", None) or str(error)
            raise ArtifactDamaged(f"the golden requests cannot be read ({what})", where=path, next=NEXT) from error

    def check(self, answer: Answer, *, coarseness: float = 0.0) -> str | None:
        """Why what `answer` gives is wrong: which request, which output, and how far off; None where it is right.

        Where `coarseness` is above the tolerance, it stands in its place. Raises what `answer` raises.
        """
        if coarseness > self.tolerance:
            return replace(self, tolerance=coarseness).check(answer)
        for number, request in enumerate(self.requests, 1):
            found = answer(request.inputs)
            why = self._flaw(request.outputs, found)
            if why:
                return f"golden request {number} of {len(self.requests)}: {why}"
        return None

    @cached_property
    def scales(self) -> tuple[float, ...]:
        """The largest number of every output over all requests, without its sign; 1 where there is none but 0."""
        return tuple(
            max(_largest(request.outputs[place]) for request in self.requests) or 1.0
            for place in range(len(self.output_names))
        )

    def _flaw(self, expected: Arrays, found: Arrays) -> str:
        if len(found) != len(expected):
            return f"{len(found)} outputs came, and {len(expected)} are expected"
        for name, wanted, given, scale in zip(self.output_names, expected, found, self.scales, strict=True):
            if (given.shape, given.dtype) != (wanted.shape, wanted.dtype):
                return (
                    f"output {name!r} is {given.dtype} {list(given.shape)}, "
                    f"and {wanted.dtype} {list(wanted.shape)} is expected"
                )
            off = difference(wanted, given, scale)
            if off > self.tolerance:
                return f"output {name!r} is off by {off:.3g} of its largest number, and {self.tolerance:.3g} is allowed"
        if self.decision == "argmax" and not _is_same_choice(expected[0], found[0], self.tolerance * self.scales[0]):
            return f"output {self.output_names[0]!r} chooses another one"
        return ""


def coarseness(runtime: Runtime, device: str) -> float:
    """What a runtime may add to differences, as a share of the largest answer: five steps of the coarsest numbers that
    it computes floats with. OpenVINO takes bf16, of 8 bits, where the processor has it; CUDA takes TF32, of 11."""
    if runtime == "openvino":
        return 2e-2
    return 0.0 if device == "cpu" else 5e-3


def difference(expected: npt.NDArray[Any], given: npt.NDArray[Any], scale: float) -> float:
    """The largest difference of two arrays of one shape, as a share of `scale`.

    A number that is not finite differs infinitely from all but itself, and so does one of a whole-number output from
    all other whole numbers.
    """
    if expected.dtype.kind != "f":
        return 0.0 if np.array_equal(expected, given) else float("inf")
    wanted, came = np.asarray(expected, np.float64), np.asarray(given, np.float64)
    finite = np.isfinite(wanted) & np.isfinite(came)
    same = (wanted == came) | (np.isnan(wanted) & np.isnan(came))
    if not (finite | same).all():
        return float("inf")
    apart = np.subtract(wanted, came, out=np.zeros_like(wanted), where=finite)
    return float(np.abs(apart).max(initial=0.0)) / scale


def _largest(array: npt.NDArray[Any]) -> float:
    if array.dtype.kind != "f":
        return 0.0
    return float(np.abs(np.asarray(array[np.isfinite(array)], np.float64)).max(initial=0.0))


def _is_same_choice(expected: npt.NDArray[Any], found: npt.NDArray[Any], margin: float) -> bool:
    """Whether every largest number along the last axis stands in the same place, or leads by `margin` at most."""
    if expected.ndim < 2 or expected.shape[-1] < 2:
        return True
    wanted = np.asarray(expected, np.float64)
    best, chosen = wanted.argmax(axis=-1)[..., None], np.asarray(found).argmax(axis=-1)[..., None]
    lead = np.take_along_axis(wanted, best, axis=-1) - np.take_along_axis(wanted, chosen, axis=-1)
    return bool(((best == chosen) | (lead <= margin)).all())
