"""`compile: true`, with a backend that runs what torch's compiler has traced: building kernels would take a minute."""

import os
import subprocess
import sys
from pathlib import Path

COMPILED = """
import sys
from functools import partial
from pathlib import Path

import torch
from small_fits import MLP, assert_same, small_fit
from torch._dynamo.utils import counters

from mlctl.errors import StepFailed

folder, compiler = Path(sys.argv[1]), torch.compile
torch.compile = partial(compiler, backend="eager")
compiled = small_fit(folder / "compiled", MLP, compile=True, micro_batch=8, ema=0.9)
assert counters["stats"]["unique_graphs"] > 0
assert_same(compiled, small_fit(folder / "plain", MLP, micro_batch=8, ema=0.9))
assert {each.about: each.text for each in compiled.fitted.choices}["compile"] == "yes: the recipe asks for it"

def broken(graph, inputs):
    raise RuntimeError("no kernel for this")

torch._dynamo.reset()
torch.compile = partial(compiler, backend=broken)
try:
    small_fit(folder / "broken", MLP, compile=True)
except StepFailed as error:
    assert "torch.compile cannot build the network: backend='broken'" in error.what, error.what
    assert error.next == "set `compile: false`"
else:
    raise AssertionError("it was built")
"""


def test_a_compiled_network_learns_the_same_and_one_that_cannot_be_is_said_so(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    subprocess.run([sys.executable, "-c", COMPILED, str(tmp_path)], env=environment, check=True)
