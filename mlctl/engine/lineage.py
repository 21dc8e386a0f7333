"""What can be said of the process that makes an artifact."""

import platform
import socket
from datetime import UTC, datetime

LIBRARIES = (
    "torch",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "openvino",
    "numpy",
    "pyarrow",
    "safetensors",
    "scikit-learn",
    "pillow",
    "tokenizers",
    "huggingface-hub",
)


def library_versions() -> dict[str, str]:
    """Version of every library that takes part in making artifacts, without importing any."""
    return {name: found for name in LIBRARIES if (found := installed_version(name))}


def installed_version(name: str) -> str | None:
    """The installed version of a distribution, or None."""
    # Reading distributions takes longer to import than a finished run takes to answer.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return None


def host() -> str:
    """This machine's name."""
    return socket.gethostname()


def platform_text() -> str:
    """Operating system and processor."""
    return f"{platform.system()} {platform.release()} {platform.machine()}"


def python_version() -> str:
    """The running Python's version."""
    return platform.python_version()


def now() -> str:
    """The time, UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
