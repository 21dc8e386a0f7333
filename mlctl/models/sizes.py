"""Modules of torch whose weights were cut learn their new sizes."""

from collections.abc import Callable, Iterable
from typing import Any, Final

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.rnn import RNNCellBase

from mlctl.models.cut_attention import CutAttention

_GATES: Final = {"LSTM": 4, "GRU": 3}
"""Of recurrent layers by their `mode`; others have one."""


def resize(network: nn.Module, paths: Iterable[str]) -> None:
    """Let the modules at `paths` say of themselves what their weights say."""
    owners = {path: network.get_submodule(path) for path in sorted(paths)}
    for path, attention in _attentions(network, owners).items():
        parent, _, name = path.rpartition(".")
        setattr(network.get_submodule(parent), name, CutAttention(attention))
    for module in owners.values():
        for kind, learn in _KINDS:
            if isinstance(module, kind):
                learn(module)
                break


def _attentions(network: nn.Module, owners: dict[str, nn.Module]) -> dict[str, nn.MultiheadAttention]:
    """Attention modules of which a weight was cut, or that of the layer inside."""
    found = {}
    for path in owners:
        for each in (path, path.rpartition(".")[0]):
            module = network.get_submodule(each)
            if each and isinstance(module, nn.MultiheadAttention):
                found[each] = module
    return found


def _linear(module: Any) -> None:
    module.out_features, module.in_features = module.weight.shape


def _convolution(module: Any) -> None:
    given, taken = module.weight.shape[:2]
    if module.transposed:
        given, taken = taken, given
        if _is_depthwise(module):
            module.groups = taken
        module.in_channels, module.out_channels = taken, given * module.groups
        return
    if _is_depthwise(module):
        module.groups = given * module.groups // module.out_channels
    module.in_channels, module.out_channels = taken * module.groups, given


def _is_depthwise(module: Any) -> bool:
    return bool(module.groups == module.in_channels > 1)


def _batch_norm(module: Any) -> None:
    module.num_features = len(module.running_mean if module.weight is None else module.weight)


def _group_norm(module: Any) -> None:
    module.num_channels = len(module.weight)


def _shape_norm(module: Any) -> None:
    module.normalized_shape = tuple(module.weight.shape)


def _embedding(module: Any) -> None:
    module.num_embeddings, module.embedding_dim = module.weight.shape


def _recurrent(module: Any) -> None:
    module.input_size = module.weight_ih_l0.shape[1]
    module.hidden_size = module.weight_hh_l0.shape[0] // _GATES.get(module.mode, 1)
    if module.proj_size:
        module.proj_size = module.weight_hh_l0.shape[1]


def _cell(module: Any) -> None:
    module.input_size, module.hidden_size = module.weight_ih.shape[1], module.weight_hh.shape[1]


def _prelu(module: Any) -> None:
    module.num_parameters = len(module.weight)


_KINDS: Final[tuple[tuple[type[nn.Module] | tuple[type[nn.Module], ...], Callable[[Any], None]], ...]] = (
    (nn.Linear, _linear),
    (_ConvNd, _convolution),
    (_NormBase, _batch_norm),
    (nn.GroupNorm, _group_norm),
    ((nn.LayerNorm, nn.RMSNorm), _shape_norm),
    ((nn.Embedding, nn.EmbeddingBag), _embedding),
    (nn.RNNBase, _recurrent),
    (RNNCellBase, _cell),
    (nn.PReLU, _prelu),
)
"""What a module of each kind learns from its weights."""
