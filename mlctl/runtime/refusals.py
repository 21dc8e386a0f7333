"""What ONNX Runtime refuses, in words of the user's own graph."""

import re

from onnxruntime.capi import onnxruntime_pybind11_state as native

from mlctl.errors import DataError, MlctlError, NoSuchDevice, OutOfMemory, StepFailed

REFUSALS = (
    native.EPFail,
    native.Fail,
    native.InvalidArgument,
    native.InvalidGraph,
    native.InvalidProtobuf,
    native.NoModel,
    native.NoSuchFile,
    native.NotFound,
    native.NotImplemented,
    native.RuntimeException,
    UnicodeDecodeError,
)
"""What loading a damaged or foreign file, and running it, raises; they share no base class but Exception.

UnicodeDecodeError comes for a name in the file that is no UTF-8, and in place of any other whose message holds one.
"""

_MEANINGS = (
    (r"rotobuf parsing failed", "it is cut off, or no ONNX file at all"),
    (r"not acyclic", "its nodes form a cycle"),
    (r"No Op registered for (\S+) with domain_version of (\d+)", "opset {1} has no operator {0}"),
    (r"(\S+):(\w+)\(-?\d+\) is not a registered function/op", "{1} of the domain {0} is a custom operator"),
    (
        r', (\w+), "[^"]*", -?\d+\) : .*No opset import for domain (\S+)',
        "no opset of {1} is named, and {0} is its operator",
    ),
    (
        r"Opset (\d+) is under development.*domain (\S+) is till opset (\d+)",
        "opset {0} of {1} is unknown, the newest is {2}",
    ),
    (
        r"Unsupported model IR version: (\d+), max supported IR version: (\d+)",
        "IR version {0} is unknown, the newest is {1}",
    ),
)
"""Patterns of ONNX Runtime's messages, which name places in its own sources, and what a user has to know."""

_MESSAGE = b"[ONNXRuntimeError]"
"""How ONNX Runtime's messages begin."""

_OF_A_GPU = re.compile(r"cuda|cudnn|cublas|tensorrt|nvinfer", re.IGNORECASE)
_OF_MEMORY = re.compile(r"[Ff]ailed to allocate memory|bad_alloc|out of memory")


def at_loading(refusal: Exception, device: str, where: object | None) -> MlctlError:
    """The error for a graph that could not be loaded: NoSuchDevice where the device is to blame, else DataError."""
    if device != "cpu" and _OF_A_GPU.search(str(refusal)):
        return NoSuchDevice(f"ONNX Runtime cannot use {device!r}: {one_line(refusal)}")
    return DataError(
        f"ONNX Runtime cannot load this graph: {one_line(refusal)}",
        where=where,
        next="make the file again; if it came from another tool, check it with `onnx.checker`",
    )


def at_running(refusal: Exception, where: object | None) -> MlctlError:
    """The error for a batch that could not be answered: OutOfMemory where memory is to blame, else StepFailed."""
    if _OF_MEMORY.search(str(refusal)):
        return OutOfMemory(f"ONNX Runtime finds no memory for this batch: {one_line(refusal)}", where=where)
    return StepFailed(
        f"ONNX Runtime cannot answer this batch: {one_line(refusal)}",
        where=where,
        next="give it rows of the dtypes and shapes that `mlctl inspect` says, or make the model again",
    )


def one_line(refusal: BaseException) -> str:
    """What a refusal of ONNX Runtime means, on one line."""
    text = " ".join(_message(refusal).split())
    for pattern, meaning in _MEANINGS:
        if found := re.search(pattern, text):
            return meaning.format(*(each.strip("'\".") for each in found.groups()))
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : |Load model from .* failed:", "", text)
    return re.sub(r"/onnxruntime_src/\S+ .*?\) (?=[A-Z])", "", text)


def _message(refusal: BaseException) -> str:
    if not isinstance(refusal, UnicodeDecodeError):
        return str(refusal)
    text = refusal.object.decode("utf-8", "backslashreplace")
    return text if refusal.object.startswith(_MESSAGE) else f"its text '{text}' is no UTF-8"
