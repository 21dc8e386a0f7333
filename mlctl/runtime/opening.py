"""Opens a graph with the runtime that is asked for."""

from importlib.util import find_spec
from pathlib import Path

from mlctl.errors import MissingExtra
from mlctl.runtime.running import Running, Runtime


def open_graph(path: Path, *, runtime: Runtime = "onnxruntime", threads: int, device: str = "cpu") -> Running:
    """Load the graph at `path` with the runtime that is named, for `threads` threads on `device`.

    ONNX Runtime runs on `cpu`, `cuda[:N]` or `tensorrt[:N]`, OpenVINO on `cpu`. Raises DataError for a file that is
    no valid graph, NoSuchDevice for a device that the runtime cannot use, MissingExtra without OpenVINO.
    """
    # Either runtime takes a noticeable time to import, and one of them may not be installed.
    if runtime == "openvino":
        require_openvino()
        from mlctl.runtime.openvino_session import OpenVinoSession

        return OpenVinoSession(path, threads=threads, device=device)
    from mlctl.runtime.session import OnnxSession

    return OnnxSession(path, threads=threads, device=device)


def has_openvino() -> bool:
    """Whether OpenVINO is installed; nothing is imported."""
    return find_spec("openvino") is not None


def require_openvino() -> None:
    """Raise MissingExtra where OpenVINO is not installed."""
    if not has_openvino():
        raise MissingExtra(
            "OpenVINO is not installed",
            next="`pip install 'mlctl-toolchain[openvino]'`, or take `runtime: onnxruntime`",
        )
