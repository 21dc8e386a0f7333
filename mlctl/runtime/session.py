"""One ONNX graph, loaded by ONNX Runtime."""

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnxruntime

from mlctl.errors import DataError, NoSuchDevice
from mlctl.runtime.answers import Arrays
from mlctl.runtime.refusals import REFUSALS, at_loading, at_running
from mlctl.runtime.running import Port, Runtime, widened

Provider: TypeAlias = str | tuple[str, dict[str, str]]

_SILENT = 4
"""ONNX Runtime's log level for fatal messages alone: what goes wrong is raised, nothing need be written."""

_SLOW_FUSIONS = ["BiasGeluFusion", "SkipLayerNormFusion"]
"""Fusions of ONNX Runtime whose processor kernels are slower than the operators that they replace.

MiniLM, 32 sentences of 32 words, one thread with AVX-512, onnxruntime 1.32: SkipLayerNormalization took 2.4 ms where
Add and LayerNormalization take 0.5 ms, BiasGelu 2.9 ms where Add and Gelu take 1.7 ms; in all 12 % of the float graph's
time and 23 % of the int8 graph's.
"""

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bfloat16)": "bfloat16",
    "tensor(bool)": "bool",
    "tensor(string)": "object",
}

_PROVIDERS = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
}
"""By device, the one that is asked for first; the others take the operators that it does not have."""


class OnnxSession:
    """A graph that answers batches; the same batch with the same threads gives the same bits.

    One session may be called from several threads at once.
    """

    name: Runtime = "onnxruntime"

    def __init__(
        self,
        source: Path | bytes,
        *,
        threads: int,
        device: str = "cpu",
        outputs: tuple[str, ...] | None = None,
        is_optimized: bool = True,
        has_arena: bool = True,
    ) -> None:
        """Load the graph at a path, or a serialized one that holds all of its data, for `threads` threads.

        `device` is `cpu`, `cuda[:N]` or `tensorrt[:N]`. `outputs` names those that are wanted, in their order; all,
        unless given. With `is_optimized=False` the graph runs as it is written, without an arena memory goes back
        after every call. Raises DataError for what is no valid graph or has no such output, NoSuchDevice for a device
        that ONNX Runtime cannot use.
        """
        providers = _providers(device)
        self._where = source if isinstance(source, Path) else None
        content = str(source) if isinstance(source, Path) else source
        options = _options(threads, is_optimized, has_arena)
        try:
            self._session = onnxruntime.InferenceSession(
                content,
                options,
                providers=providers,
                enable_fallback=0,
                disabled_optimizers=_SLOW_FUSIONS if providers == ["CPUExecutionProvider"] else None,
            )
            found = [tuple(map(_port, ports)) for ports in (self._session.get_inputs(), self._session.get_outputs())]
        except REFUSALS as refusal:
            raise at_loading(refusal, device, self._where) from refusal
        self.detail = str(self._session.get_providers()[0])
        if self.detail != _provider_name(providers[0]):
            raise _absent(device)
        self.inputs = found[0]
        self.outputs = self._wanted(outputs, found[1])
        self._names = [port.name for port in self.outputs]
        self._taken = tuple((port.name, port.dtype, _numpy_dtype(port.dtype)) for port in self.inputs)

    def __call__(self, inputs: Arrays) -> npt.NDArray[Any]:
        """The first output for one batch; `inputs` in the order of `self.inputs`, of dtypes that it `takes`.

        Raises StepFailed for a batch that does not fit the graph, OutOfMemory for one that does not fit the machine.
        """
        return self._run(self._names[:1], inputs)[0]

    def all(self, inputs: Arrays) -> Arrays:
        """Every output for one batch, in the order of `self.outputs`, in memory of its own.

        Raises what calling the session raises.
        """
        return self._run(self._names, inputs)

    @property
    def metadata(self) -> dict[str, str]:
        """The graph's `metadata_props`, as stored. Raises DataError for those that are no text."""
        try:
            return dict(self._session.get_modelmeta().custom_metadata_map)
        except REFUSALS as refusal:
            raise at_loading(refusal, "cpu", self._where) from refusal

    def _run(self, names: list[str], inputs: Arrays) -> Arrays:
        feed = {
            name: array if array.dtype is known else widened(array, dtype)
            for (name, dtype, known), array in zip(self._taken, inputs, strict=True)
        }
        try:
            return tuple(np.asarray(each) for each in self._session.run(names, feed))
        except REFUSALS as refusal:
            raise at_running(refusal, self._where) from refusal

    def _wanted(self, names: tuple[str, ...] | None, outputs: tuple[Port, ...]) -> tuple[Port, ...]:
        ports = {each.name: each for each in outputs}
        unknown = [name for name in names or () if name not in ports]
        if unknown:
            raise DataError(
                f"this graph has no output {', '.join(unknown)}; it has {', '.join(ports)}",
                where=self._where,
                next="choose among the outputs that it has",
            )
        return tuple(ports[name] for name in names or ports)


def _options(threads: int, is_optimized: bool, has_arena: bool) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = _SILENT
    if not is_optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_cpu_mem_arena = has_arena
    # Spinning threads burn a core between calls: a third of the CPU time for 5 % of throughput on a small network.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _providers(device: str) -> list[Provider]:
    kind, separator, number = device.partition(":")
    if kind not in _PROVIDERS or (separator and (kind == "cpu" or not number.isdecimal())):
        raise NoSuchDevice(
            f"{device!r} is no device that runs graphs", next="choose cpu, cuda, cuda:N, tensorrt or tensorrt:N"
        )
    names = _PROVIDERS[kind]
    if names[0] not in onnxruntime.get_available_providers():
        raise _absent(device)
    options = {"device_id": number or "0"}
    return [name if name == "CPUExecutionProvider" else (name, options) for name in names]


def _provider_name(provider: Provider) -> str:
    return provider if isinstance(provider, str) else provider[0]


def _absent(device: str) -> NoSuchDevice:
    kind = device.partition(":")[0]
    return NoSuchDevice(
        f"ONNX Runtime cannot use {device!r}: its {_PROVIDERS[kind][0]} is not here",
        next="take `--device cpu`, or install onnxruntime-gpu beside a CUDA driver (`mlctl doctor` says what is here)",
    )


def _numpy_dtype(name: str) -> np.dtype[Any] | None:
    """NumPy's one object for a dtype that needs no widening: asking an array for its dtype's name takes 1 µs."""
    return None if name == "bfloat16" or "(" in name else np.dtype(name)


def _port(argument: Any) -> Port:
    dtype = _DTYPES.get(argument.type) or argument.type.removeprefix("tensor(").removesuffix(")")
    shape = tuple(size if isinstance(size, int) else None for size in argument.shape)
    return Port(argument.name, dtype, shape)
