"""One ONNX graph, ready to answer."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as native

from mlctl.errors import DataError, NoSuchDevice

_SILENT = 4
"""ONNX Runtime's log level for fatal messages alone: what goes wrong is raised, nothing need be written."""

_REFUSALS = (
    native.Fail,
    native.InvalidArgument,
    native.InvalidGraph,
    native.InvalidProtobuf,
    native.NoModel,
    native.NoSuchFile,
    native.NotFound,
    native.NotImplemented,
    native.RuntimeException,
)
"""What loading a damaged or foreign file raises; they share no base class but Exception."""

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bfloat16)": "bfloat16",
    "tensor(bool)": "bool",
    "tensor(string)": "object",
}


@dataclass(frozen=True)
class Port:
    """An input or output of a graph: its name, NumPy dtype, and shape with None where a size is left open."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


class OnnxSession:
    """A graph that answers batches; the same batch with the same threads gives the same bits.

    One session may be called from several threads at once.
    """

    def __init__(self, path: Path, *, threads: int, device: str = "cpu") -> None:
        """Load the graph at `path` for `threads` threads on `cpu`, `cuda` or `cuda:N`.

        Raises DataError for a file that is no valid graph, NoSuchDevice for a device that ONNX Runtime cannot use.
        """
        providers = _providers(device)
        try:
            self._session = onnxruntime.InferenceSession(str(path), _options(threads), providers=providers)
        except _REFUSALS as refusal:
            raise DataError(
                f"ONNX Runtime cannot load this graph: {_one_line(refusal)}",
                where=path,
                next="make the file again; if it came from another tool, check it with `onnx.checker`",
            ) from refusal
        if self._session.get_providers()[0] != _provider_name(providers[0]):
            raise _no_cuda(device)
        self.path = path
        self.inputs = tuple(_port(each) for each in self._session.get_inputs())
        self.outputs = tuple(_port(each) for each in self._session.get_outputs())
        self._first = [self.outputs[0].name]

    def __call__(self, inputs: tuple[npt.NDArray[Any], ...]) -> npt.NDArray[Any]:
        """The first output for one batch; `inputs` in the order, and of the dtypes, of `self.inputs`."""
        feed = {port.name: array for port, array in zip(self.inputs, inputs, strict=True)}
        return np.asarray(self._session.run(self._first, feed)[0])

    @property
    def metadata(self) -> dict[str, str]:
        """The graph's `metadata_props`, as stored."""
        return dict(self._session.get_modelmeta().custom_metadata_map)


def _options(threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = _SILENT
    # Spinning threads burn a core between calls: a third of the CPU time for 5 % of throughput on a small network.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _providers(device: str) -> list[str | tuple[str, dict[str, str]]]:
    kind, _, number = device.partition(":")
    if kind == "cpu" and not number:
        return ["CPUExecutionProvider"]
    if kind != "cuda" or not (number or "0").isdecimal():
        raise NoSuchDevice(f"{device!r} is no device that runs graphs", next="choose cpu, cuda or cuda:N")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise _no_cuda(device)
    return [("CUDAExecutionProvider", {"device_id": number or "0"}), "CPUExecutionProvider"]


def _provider_name(provider: str | tuple[str, dict[str, str]]) -> str:
    return provider if isinstance(provider, str) else provider[0]


def _no_cuda(device: str) -> NoSuchDevice:
    return NoSuchDevice(
        f"ONNX Runtime cannot use {device!r}: its CUDA provider is not here",
        next="take `--device cpu`, or install onnxruntime-gpu beside a CUDA driver (`mlctl doctor` says what is here)",
    )


def _port(argument: Any) -> Port:
    dtype = _DTYPES.get(argument.type) or argument.type.removeprefix("tensor(").removesuffix(")")
    shape = tuple(size if isinstance(size, int) else None for size in argument.shape)
    return Port(argument.name, dtype, shape)


def _one_line(refusal: BaseException) -> str:
    return " ".join(str(refusal).rsplit("failed:", 1)[-1].split())
