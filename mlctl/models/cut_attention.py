"""Multi-head attention with fewer heads, or a smaller width, than torch's own module can have."""

# B batch, T tokens that ask, S tokens that are asked, D width, H heads, W width of a head

import torch
from torch import Tensor, nn
from torch.nn import functional


def is_plain(module: nn.MultiheadAttention) -> bool:
    """Whether a module does nothing beside attention: no learnt or empty tokens are added to what is asked."""
    return module.bias_k is None and module.bias_v is None and not module.add_zero_attn


def attended(
    module: "nn.MultiheadAttention | CutAttention",
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """What `torch.nn.MultiheadAttention.forward` gives for these arguments, in operators that read no width but that of
    the weights."""
    has_batch = query.ndim == 3
    taken = (query, key, value)
    if not has_batch:
        taken = (query[None], key[None], value[None])
    elif not module.batch_first:
        taken = (query.transpose(0, 1), key.transpose(0, 1), value.transpose(0, 1))
    queries, keys, values = _projected(module, taken)
    scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-2, -1)
    for mask in (_score_mask(attn_mask, module.num_heads), _padding_mask(key_padding_mask)):
        if mask is not None:
            scores = scores.masked_fill(mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    weights = scores.softmax(-1)
    mixed = functional.dropout(weights, module.dropout, module.training) @ values
    answers: Tensor = module.out_proj(mixed.transpose(1, 2).flatten(2))
    if not has_batch:
        answers, weights = answers[0], weights[0]
    elif not module.batch_first:
        answers = answers.transpose(0, 1)
    if not need_weights:
        return answers, None
    return answers, weights.mean(-3) if average_attn_weights else weights


class CutAttention(nn.Module):
    """What `torch.nn.MultiheadAttention` computes, with weights of the same names, where heads do not fill the width.

    The width of a head stays what it was. Takes and gives what torch's module does.
    """

    # Read by torch's transformer layers, which shall not take their fused way.
    _qkv_same_embed_dim = False

    def __init__(self, whole: nn.MultiheadAttention) -> None:
        """Take over the weights of `whole`, cut or not. Raises ValueError where `is_plain` says no."""
        super().__init__()
        if not is_plain(whole):
            raise ValueError("attention with added keys cannot be cut")
        self.num_heads = whole.num_heads
        self.head_dim = whole.head_dim
        self.batch_first = whole.batch_first
        self.dropout = whole.dropout
        for name in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight", "in_proj_bias"):
            self.register_parameter(name, getattr(whole, name))
        self.out_proj = whole.out_proj
        self.train(whole.training)

    forward = attended


def _projected(module: nn.MultiheadAttention | CutAttention, taken: tuple[Tensor, Tensor, Tensor]) -> list[Tensor]:
    """Queries, keys and values, [B, H, T, W] each."""
    own = dict(module.named_parameters(recurse=False))
    if "in_proj_weight" in own:
        weights = own["in_proj_weight"].chunk(3)
    else:
        weights = (own["q_proj_weight"], own["k_proj_weight"], own["v_proj_weight"])
    biases = own["in_proj_bias"].chunk(3) if "in_proj_bias" in own else (None, None, None)
    rows = (functional.linear(*each) for each in zip(taken, weights, biases, strict=True))
    return [torch.unflatten(each, -1, (module.num_heads, -1)).transpose(1, 2) for each in rows]


def _score_mask(mask: Tensor | None, heads: int) -> Tensor | None:
    """A mask [T, S], or [B · H, T, S], as something that scores [B, H, T, S] can be combined with."""
    return torch.unflatten(mask, 0, (-1, heads)) if mask is not None and mask.ndim == 3 else mask


def _padding_mask(mask: Tensor | None) -> Tensor | None:
    """A mask [B, S] or [S] of keys that are not asked, as something that scores [B, H, T, S] can be combined with."""
    return None if mask is None else mask[..., None, None, :]
