"""Muon (Jordan 2024, https://kellerjordan.github.io/posts/muon): steps along orthogonal matrices."""

from math import sqrt

import torch
from torch import Tensor, nn

from mlctl.recipe.optimization import MuonSettings
from mlctl.training.parameter_groups import Group, descend, trainable

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic polynomial that drives singular values towards 1 (Jordan 2024, "Muon's coefficients")."""
ITERATIONS = 5
SMALLEST_NORM = 1e-7

# M matrices of one shape, R rows, C columns, R ≤ C


class MatrixSteps:
    """Muon's part of the work: momentum with Nesterov's look ahead, made orthogonal, for matrices and kernels alone."""

    def __init__(self, settings: MuonSettings, matrices: dict[str, nn.Parameter], l1: float) -> None:
        self.momentum = settings.momentum
        self.group = Group(matrices, settings.weight_decay, l1, ("momentum",))

    def step(self, learning_rate: float | Tensor) -> None:
        """Move the matrices that have a gradient."""
        parameters, gradients, (moments,) = self.group.with_gradients()
        if not parameters:
            return
        torch._foreach_lerp_(moments, gradients, 1 - self.momentum)
        torch._foreach_lerp_(gradients, moments, self.momentum)
        if self.group.weight_decay:
            torch._foreach_mul_(parameters, 1 - learning_rate * self.group.weight_decay)
        descend(parameters, _orthogonal(gradients), learning_rate)


def hidden_matrices(network: nn.Module) -> dict[str, nn.Parameter]:
    """The trainable weights that Muon moves, by name: those of linear, convolutional, recurrent and attention layers.

    Left out are embeddings and whatever shares their weights, the network's head, and parameters that a module of
    another kind owns, such as positions, class tokens and normalizations. The head is the network's attribute `head`,
    which is None where an embedding takes its part; a network without the attribute ends in its last linear layer.
    """
    modules = list(network.modules())
    layers = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.RNNBase, nn.MultiheadAttention)
    owned = {id(each) for module in modules if isinstance(module, layers) for each in module.parameters(recurse=False)}
    embeddings = [module for module in modules if isinstance(module, nn.Embedding | nn.EmbeddingBag)]
    left_out = {id(each) for module in (*embeddings, *_heads(network)) for each in module.parameters()}
    return {
        name: each
        for name, each in trainable(network).items()
        if each.ndim > 1 and id(each) in owned and id(each) not in left_out
    }


def _heads(network: nn.Module) -> list[nn.Module]:
    if hasattr(network, "head"):
        return [network.head] if isinstance(network.head, nn.Module) else []
    linear: list[nn.Module] = [module for module in network.modules() if isinstance(module, nn.Linear)]
    return linear[-1:]


def _orthogonal(directions: list[Tensor]) -> list[Tensor]:
    """Each direction [O, I, ...] with its singular values driven towards 1, × √max(1, O / (I × ...))."""
    matrices = [direction.flatten(1) for direction in directions]
    wide = [matrix.mT if matrix.shape[0] > matrix.shape[1] else matrix for matrix in matrices]
    of_shape: dict[torch.Size, list[int]] = {}
    for index, matrix in enumerate(wide):
        of_shape.setdefault(matrix.shape, []).append(index)
    for indices in of_shape.values():
        stacked = torch.stack([wide[index] for index in indices])
        found = newton_schulz(stacked, arithmetic(stacked.device))
        for index, matrix in zip(indices, found, strict=True):
            rows, columns = matrices[index].shape
            turned = matrix.mT * sqrt(rows / columns) if rows > columns else matrix
            directions[index] = turned.reshape(directions[index].shape).to(directions[index].dtype)
    return directions


def arithmetic(device: torch.device) -> torch.dtype:
    """What the iteration is computed in: bfloat16 on a GPU that computes in it, else float32."""
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return torch.float32


def newton_schulz(matrices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Matrices [M, R, C] with the same singular vectors, and singular values of about 0.7 to 1.2, in `dtype`.

    Five steps of x ← a x + b (x xᵀ) x + c (x xᵀ)² x. A matrix of zeros stays one; a singular value below about 1/1000
    of the matrix' norm ends below 0.7.
    """
    a, b, c = COEFFICIENTS
    # The spectral norm, which the iteration wants to be 1 at most, is never above Frobenius'.
    x: Tensor = (matrices / torch.linalg.matrix_norm(matrices, keepdim=True).clamp(min=SMALLEST_NORM)).to(dtype)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x
