"""Makes `services.binpb` and the stubs of `mlctl/serving/grpc` from its `.proto` files: `python grpc_compiling.py`."""

import subprocess
import sys
from pathlib import Path
from typing import Final

import mlctl

FOLDER: Final = Path(mlctl.__file__).parent / "serving" / "grpc"
PROTOS: Final = ("open_inference", "health")
COMPILED: Final = "services.binpb"
HEADER: Final = """\
# Made from {name}.proto by tests/serving/grpc_compiling.py.
# mypy: disable-error-code="misc,type-arg,metaclass"
# ruff: noqa
# fmt: off
"""


def compile_into(folder: Path) -> None:
    """Write the descriptors, and one stub for each `.proto` file."""
    files = [f"{name}.proto" for name in PROTOS]
    arguments = [f"-I{FOLDER}", f"--descriptor_set_out={folder / COMPILED}", f"--pyi_out={folder}", *files]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *arguments], check=True)
    for name in PROTOS:
        stub = folder / f"{name}_pb2.pyi"
        (folder / f"{name}_messages.pyi").write_text(HEADER.format(name=name) + stub.read_text())
        stub.unlink()


if __name__ == "__main__":
    compile_into(FOLDER)
