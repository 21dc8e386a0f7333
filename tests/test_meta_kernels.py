"""torch without its kernels for tensors without values, and with them as soon as something traces."""

import subprocess
import sys

BEGINNING = """
import sys
from mlctl.meta_kernels import NAME, defer_meta_kernels, load_meta_kernels
defer_meta_kernels()
import torch

def are_loaded():
    return "meta_conv" in vars(sys.modules[NAME])

image, filters = torch.ones(1, 3, 8, 8), torch.ones(4, 3, 3, 3, requires_grad=True)
torch.nn.functional.conv2d(image, filters).sum().backward()
assert filters.grad is not None and filters.grad.shape == filters.shape
assert not are_loaded()
"""


def started(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", BEGINNING + code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_computes_on_values_goes_without_them() -> None:
    started("import inspect; inspect.getmodule(inspect.currentframe()); assert not are_loaded()")


def test_they_are_there_when_they_are_asked_for() -> None:
    started(
        "load_meta_kernels(); load_meta_kernels(); assert are_loaded()\n"
        "shapeless = torch.nn.functional.conv2d(image.to('meta'), filters.to('meta'))\n"
        "assert shapeless.shape == (1, 4, 6, 6)"
    )


def test_a_look_for_one_of_them_loads_them_all() -> None:
    started("assert callable(torch._meta_registrations.meta_index_Tensor); assert are_loaded()")


def test_export_and_compile_load_them() -> None:
    started(
        "from mlctl.graphs.export import onnx_program\n"
        "program = onnx_program(torch.nn.Linear(8, 2), (torch.ones(3, 8),), ('x',), ('y',), 18)\n"
        "assert are_loaded(); assert program.model_proto.graph.node"
    )
    started(
        "from mlctl.training.compiling import compilation\n"
        "network = torch.nn.Linear(8, 2)\n"
        "compilation(network, torch.device('cpu'), is_asked=True, in_one_piece=True).compiled(network)\n"
        "assert are_loaded()"
    )


def test_a_torch_that_is_loaded_stays_as_it_is() -> None:
    code = """
import torch
from mlctl.meta_kernels import NAME, defer_meta_kernels, load_meta_kernels
defer_meta_kernels()
load_meta_kernels()
assert torch.ones(2, 3, device="meta").argsort().shape == (2, 3)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
