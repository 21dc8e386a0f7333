"""When a compiled network's kernels are recorded as a CUDA graph."""

import pytest
import torch
from torch import nn

from mlctl.training.compiling import FEW_PARAMETERS, compilation

SMALL = nn.Linear(10, 10)
LARGE = nn.Linear(FEW_PARAMETERS, 1, device="meta")
GPU, CPU = torch.device("cuda", 0), torch.device("cpu")


@pytest.mark.parametrize(
    ("network", "device", "in_one_piece", "records"),
    [
        (SMALL, GPU, True, True),
        (SMALL, GPU, False, False),
        (SMALL, CPU, True, False),
        (LARGE, GPU, True, False),
    ],
    ids=["small", "in parts", "on a CPU", "large"],
)
def test_small_networks_on_a_gpu_are_recorded(
    network: nn.Module, device: torch.device, in_one_piece: bool, records: bool
) -> None:
    found = compilation(network, device, is_asked=True, in_one_piece=in_one_piece)
    assert found.records is records
    assert str(found).startswith("yes: the recipe asks for it")
    assert ("CUDA graphs" in str(found)) is records


def test_nothing_is_compiled_unasked() -> None:
    found = compilation(SMALL, GPU, is_asked=False, in_one_piece=True)
    assert found.compiled(SMALL) is SMALL
    assert str(found) == "no: the recipe does not ask"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")
def test_a_recorded_network_learns_what_a_plain_one_learns() -> None:
    inputs = torch.linspace(-1, 1, 640, device=GPU).reshape(64, 10)
    losses = []
    for is_asked in (True, False):
        torch.manual_seed(7)
        network = nn.Sequential(nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 1)).to(GPU)
        forward = compilation(network, GPU, is_asked=is_asked, in_one_piece=True).compiled(network)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        for _ in range(20):
            loss = (forward(inputs) - inputs.sum(1, keepdim=True)).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss))
    # Fused kernels round in another order: 20 steps of float32 keep it far under a thousandth.
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
