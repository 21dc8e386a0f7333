"""One ONNX graph, loaded by OpenVINO."""

import re
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# Its import writes into the home folder and sends that it was imported, with no switch; without this package it cannot.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

import openvino
from openvino import frontend

from mlctl.errors import DataError, MlctlError, NoSuchDevice, StepFailed
from mlctl.runtime.answers import Arrays
from mlctl.runtime.machine import this_processor
from mlctl.runtime.running import Port, Runtime, takes

_REFUSALS = (
    RuntimeError,
    frontend.GeneralFailure,
    frontend.InitializationFailure,
    frontend.NotImplementedFailure,
    frontend.OpConversionFailure,
    frontend.OpValidationFailure,
    UnicodeDecodeError,
)
"""What loading a damaged or foreign file raises; they share no base class but Exception.

UnicodeDecodeError comes for a name in the file that is no UTF-8, and in place of any other whose message holds one.
"""

_BFLOAT16 = frozenset({"amx_bf16", "avx512_bf16"})
"""Instructions that make bfloat16 the fast precision; elsewhere it is emulated."""

_ELEMENTS = {"bf16": "bfloat16", "boolean": "bool", "string": "object"}
"""OpenVINO's element types whose names NumPy spells otherwise, or does not have."""


class OpenVinoSession:
    """A graph that answers batches; the same batch with the same threads gives the same bits.

    It computes in bfloat16 where this machine has instructions for that, else in float32, and in integers where the
    graph is quantized. Whole numbers of 64 bits are computed in 32. Several threads may call one session: each has a
    request of its own. Nothing is cached on disk.
    """

    name: Runtime = "openvino"

    def __init__(self, path: Path, *, threads: int, device: str = "cpu") -> None:
        """Load the graph at `path` for `threads` threads, or as many as there are cores, on `cpu`.

        Raises DataError for a file that is no valid graph, StepFailed for one with an operator that OpenVINO does
        not have, NoSuchDevice for another device.
        """
        if device != "cpu":
            raise NoSuchDevice(
                f"OpenVINO runs graphs on the CPU here, not on {device!r}", next="take `runtime: onnxruntime`, or cpu"
            )
        precision = "bf16" if _BFLOAT16 & {*this_processor().instruction_sets} else "f32"
        self._path = path
        try:
            graph = _read(path)
            self._compiled = openvino.Core().compile_model(graph, "CPU", _options(threads, precision))
            self.inputs = tuple(_port(each) for each in self._compiled.inputs)
            self.outputs = tuple(_port(each) for each in self._compiled.outputs)
        except _REFUSALS as refusal:
            raise _at_loading(refusal, path) from refusal
        self.detail = f"CPU in {precision}"
        self._own = threading.local()

    def __call__(self, inputs: Arrays) -> npt.NDArray[Any]:
        """The first output for one batch; `inputs` in the order of `self.inputs`, of dtypes that it `takes`.

        Raises StepFailed for a batch that does not fit the graph.
        """
        return np.array(self._answered(inputs).get_output_tensor(0).data)

    def all(self, inputs: Arrays) -> Arrays:
        """Every output for one batch, in the order of `self.outputs`, in memory of its own.

        Raises what calling the session raises.
        """
        request = self._answered(inputs)
        return tuple(np.array(request.get_output_tensor(number).data) for number in range(len(self.outputs)))

    def _answered(self, inputs: Arrays) -> Any:
        """This thread's request, which holds the answers to a batch until the next one."""
        # OpenVINO itself would convert other dtypes, and answer what no other runtime answers.
        for port, array in zip(self.inputs, inputs, strict=True):
            if not takes(port.dtype, array.dtype.name) or not _fits(array.shape, port.shape):
                raise self._unfit(f"{port.name} is {array.dtype} {list(array.shape)}, not {port.dtype} {port.shape}")
        request = getattr(self._own, "request", None)
        if request is None:
            request = self._own.request = self._compiled.create_infer_request()
        try:
            for number, array in enumerate(inputs):
                _write(request.get_input_tensor(number), array)
            request.infer(share_outputs=True)
        except RuntimeError as refusal:
            raise self._unfit(_one_line(refusal)) from refusal
        return request

    def _unfit(self, why: str) -> StepFailed:
        return StepFailed(
            f"OpenVINO cannot answer this batch: {why}",
            where=self._path,
            next="give it rows of the dtypes and shapes that `mlctl inspect` says, or take `runtime: onnxruntime`",
        )


def _read(path: Path) -> Any:
    # The general reader tries every format that OpenVINO knows, and writes to stderr what each makes of a bad file.
    reader = frontend.FrontEndManager().load_by_framework("onnx")
    graph = reader.convert(reader.load(str(path)))
    if not graph.outputs:
        raise DataError("there is no graph in this file", where=path, next="make the file again")
    return graph


def _options(threads: int, precision: str) -> dict[str, Any]:
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        # Pinned threads of two sessions would share the first cores and leave the others idle.
        "ENABLE_CPU_PINNING": False,
    }


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(size in (given, None) for given, size in zip(shape, wanted, strict=True))


def _write(tensor: Any, array: npt.NDArray[Any]) -> None:
    # A tensor of one's own in its place would be shared and not copied, and yet take 0.05 to 0.1 ms longer.
    if tuple(tensor.shape) != array.shape:
        tensor.shape = array.shape
    tensor.data[...] = array


def _port(port: Any) -> Port:
    kind = port.element_type
    dtype = _ELEMENTS.get(kind.get_type_name()) or str(kind.to_dtype())
    shape = tuple(None if size.is_dynamic else size.get_length() for size in port.partial_shape)
    return Port(port.any_name, dtype, shape)


def _at_loading(refusal: Exception, path: Path) -> MlctlError:
    text = _one_line(refusal)
    if isinstance(refusal, frontend.OpConversionFailure | frontend.NotImplementedFailure):
        return StepFailed(f"OpenVINO cannot run this graph: {text}", where=path, next="take `runtime: onnxruntime`")
    return DataError(
        f"OpenVINO cannot load this graph: {text}",
        where=path,
        next="make the file again; if it came from another tool, check it with `onnx.checker`",
    )


def _one_line(refusal: Exception) -> str:
    """OpenVINO's message without the places in its sources that it names."""
    text = str(refusal)
    if isinstance(refusal, UnicodeDecodeError):
        text = refusal.object.decode("utf-8", "backslashreplace")
    if "Model can't be parsed" in text:
        return "it is cut off, or no ONNX file at all"
    if found := re.search(r"No conversion rule found for operations: (.+)", text):
        return f"it has no operator {re.sub(r'-[0-9]+', '', found[1]).strip()}"
    lines = [line for line in text.splitlines() if not re.match(r"Exception from |Check '|FrontEnd API failed", line)]
    return " ".join(" ".join(lines).split())
