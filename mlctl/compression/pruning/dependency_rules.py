"""Rules of operators that compute: what goes together through each of them.

An operator that no rule knows freezes all that goes in.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
from torch.nn.modules.rnn import RNNCellBase

from mlctl.compression.pruning.dependency_labels import Dimensions, Labels
from mlctl.compression.pruning.dependency_products import (
    aligned,
    convolution,
    product,
    spread,
    unite_first,
    vector_product,
)
from mlctl.compression.pruning.dependency_shapes import SHAPE_RULES, VIEWS, beside
from mlctl.compression.pruning.dependency_trace import Call, Rule, Trace


def apply_rule(trace: Trace, call: Call, is_pointwise: bool) -> bool:
    """Note what an operator's answers are, and what goes together from now on.

    The answer says whether each of its numbers stands for one number of the first tensor that went in.
    """
    rule = RULES.get(call.name)
    if rule is None and not call.tensors:
        rule = made
    if rule is None:
        rule = pointwise if is_pointwise else unknown
    rule(trace, call)
    weight = trace.origin(call.tensors[0]) if call.name in VIEWS and call.tensors else None
    if weight is not None:
        for result in call.results:
            trace.set_origin(result, weight)
    return rule in _KEEPING or call.name in SHAPE_RULES


def made(trace: Trace, call: Call) -> None:
    """Constants. The first state of torch's own recurrent cells has the size that the cell has."""
    if call.results and trace.running and isinstance(trace.running[-1][1], RNNCellBase):
        trace.set(call.result, tuple(trace.labels.fresh(size) if size > 1 else None for size in call.result.shape))


def unknown(trace: Trace, call: Call) -> None:
    """Nothing is known of this operator."""
    for each in call.tensors:
        for labels in trace.of(each):
            trace.labels.freeze(labels, f"goes into {call.name}, which is not understood")


def unchanged(trace: Trace, call: Call) -> None:
    """The same numbers, or others of the same shape."""
    trace.set(call.result, trace.open(call.tensors[0]))


def pointwise(trace: Trace, call: Call) -> None:
    """Number by number; dimensions of size 1 are repeated."""
    if len(call.tensors) == 1 and call.tensors[0].shape == call.result.shape:
        unchanged(trace, call)
        return
    sizes = call.result.shape
    known = [spread(trace.of(each), each.shape, sizes) for each in call.tensors]
    doing = "is multiplied by" if call.name.startswith(("mul", "addcmul", "div")) else "is added to"
    if not call.name.startswith(("mul", "addcmul", "div", "add", "sub")):
        doing = "is combined with"
    stands = [[size == wanted for size, wanted in aligned(each.shape, sizes)] for each in call.tensors]
    found: list[Labels | None] = []
    for place in range(len(sizes)):
        entries = [[each[place]] for each, stand in zip(known, stands, strict=True) if stand[place]]
        found += beside(trace, entries, [sizes[place]], doing)
    for result in call.results:
        trace.set(result, tuple(found))


def reduction(trace: Trace, call: Call) -> None:
    """Sums, means and the like over dimensions, which are gone from then on, or of size 1."""
    for result in call.results:
        trace.set(result, _reduced(trace.of(call["self"]), call, result.ndim))


def choice(trace: Trace, call: Call) -> None:
    """As a reduction, but the answer depends on the places of what is reduced, or on how many there are."""
    _freeze_named(trace, call, f"is compared by {call.name}")
    reduction(trace, call)


def along(trace: Trace, call: Call) -> None:
    """Every number depends on all along a dimension, in their order or number."""
    _freeze_named(trace, call, f"goes through {call.name}")
    known = trace.of(call["self"])
    for result in call.results:
        sizes = zip(call["self"].shape, result.shape, known, strict=True)
        trace.set(result, tuple(each if size == given else None for size, given, each in sizes))


def _named(call: Call) -> set[int]:
    """The dimensions that an operator names; all where it names none."""
    count = call["self"].ndim
    named = call.arguments.get("dim")
    if named is None or named == []:
        return set(range(count))
    return {place % count for place in ([named] if isinstance(named, int) else named)} if count else set()


def _freeze_named(trace: Trace, call: Call, reason: str) -> None:
    for place, each in enumerate(trace.of(call["self"])):
        if place in _named(call):
            trace.labels.freeze(each, reason)


def _reduced(known: Dimensions, call: Call, count: int) -> Dimensions:
    named = _named(call)
    if count == len(known):
        return tuple(None if place in named else each for place, each in enumerate(known))
    return tuple(each for place, each in enumerate(known) if place not in named)


def channel_norm(trace: Trace, call: Call) -> None:
    """Batch and instance normalization: weights and figures of every channel."""
    known = trace.of(call["input"])
    parts = [call.arguments.get(name) for name in ("weight", "bias", "running_mean", "running_var")]
    unite_first(trace, known[1], parts)
    trace.set(call.result, known)


def group_norm(trace: Trace, call: Call) -> None:
    """Channels at one position of every group go together, so that the groups stay alike."""
    known = list(trace.of(call["input"]))
    unite_first(trace, known[1], [call["weight"], call["bias"]])
    if known[1] is not None:
        trace.labels.unite_along(known[1].reshape(call["group"], -1), 0, "goes with a group of fixed size")
    trace.set(call.result, tuple(known))


def layer_norm(trace: Trace, call: Call) -> None:
    """Normalization over the last dimensions, with weights of their shape."""
    known = trace.of(call["input"])
    last = known[len(known) - len(call["normalized_shape"]) :]
    for each in (call["weight"], call["bias"]):
        if each is not None:
            beside(trace, [last, trace.of(each)], each.shape, "is normalized with")
    trace.set(call.result, known)


def embedding(trace: Trace, call: Call) -> None:
    """Rows are looked up by number; columns are units."""
    rows, columns = trace.of(call["weight"])
    trace.labels.freeze(rows, "is looked up by number")
    weight = trace.origin(call["weight"])
    if weight is not None:
        trace.note_output(weight, columns, "units")
    trace.set(call.result, (*(None,) * call["indices"].ndim, columns))


def spatial(sides: int) -> Rule:
    """A rule for what changes the last `sides` dimensions of every channel by itself: pooling, scaling, padding."""

    def rule(trace: Trace, call: Call) -> None:
        known = trace.of(call.tensors[0])
        for each in known[-sides:]:
            trace.labels.freeze(each, "is a side of an image")
        for result in call.results:
            trace.set(result, (*known[:-sides], *(None,) * sides))

    return rule


def pixel_shuffle(trace: Trace, call: Call) -> None:
    """Channels [C · r²] become pixels of C channels: r² at a time go together."""
    known = trace.of(call["self"])
    channels = known[-3]
    if channels is not None:
        channels = trace.labels.unite_along(channels.reshape(-1, call["upscale_factor"] ** 2), 1, "becomes a pixel")
    trace.set(call.result, (*known[:-3], channels, None, None))


def pixel_unshuffle(trace: Trace, call: Call) -> None:
    """Pixels of C channels become channels [C · r²]."""
    known = trace.of(call["self"])
    channels = None if known[-3] is None else np.repeat(known[-3], call["downscale_factor"] ** 2)
    trace.set(call.result, (*known[:-3], channels, None, None))


def glu(trace: Trace, call: Call) -> None:
    """One half of a dimension gates the other."""
    known = list(trace.of(call["self"]))
    place = call["dim"] % len(known)
    each = known[place]
    known[place] = None if each is None else trace.labels.unite_along(each.reshape(2, -1), 0, "gates what is fixed")
    trace.set(call.result, tuple(known))


def indexed(trace: Trace, call: Call) -> None:
    """Rows that stand at places which are computed: `x[a]`, `x[:, a]`, `x[a, b]`."""
    known, places = (
        list(trace.of(call["self"])),
        [place for place, each in enumerate(call["indices"]) if each is not None],
    )
    for place in places:
        trace.labels.freeze(known[place], "is looked up by number")
    kept = known[: places[0]], known[places[-1] + 1 :]
    new = call.result.ndim - len(kept[0]) - len(kept[1])
    if places != list(range(places[0], places[-1] + 1)) or new < 0:
        unknown(trace, call)
        return
    trace.set(call.result, (*kept[0], *(None,) * new, *kept[1]))


def packed(trace: Trace, call: Call) -> None:
    """Rows of texts of different lengths [B, T, ...] as one [N, ...], without what pads them."""
    known = trace.of(call["input"])
    trace.set(call.result, (None, *known[2:]))


def padded(trace: Trace, call: Call) -> None:
    """And back."""
    known = trace.of(call["data"])
    trace.set(call.result, (None, None, *known[1:]))


def index_select(trace: Trace, call: Call) -> None:
    """Rows along one dimension."""
    known = list(trace.of(call["self"]))
    place = call["dim"] % len(known)
    trace.labels.freeze(known[place], "is looked up by number")
    known[place] = None
    trace.set(call.result, tuple(known))


_KEEPING: Final = (unchanged, pointwise, channel_norm, group_norm, layer_norm)


def _table(rules: Mapping[str, Rule]) -> dict[str, Rule]:
    """Names apart by spaces, each with its rule."""
    return {name: rule for names, rule in rules.items() for name in names.split()}


def _sided(names: str) -> dict[str, Rule]:
    """Rules of operators whose names end in the number of sides: `avg_pool2d`."""
    return {
        f"{name}{sides}d{end}": spatial(sides)
        for sides in (1, 2, 3)
        for name in names.split()
        for end in ("", "_with_indices")
    }


RULES: Final[dict[str, Rule]] = {
    **SHAPE_RULES,
    **_sided("avg_pool max_pool adaptive_avg_pool _adaptive_avg_pool adaptive_max_pool reflection_pad replication_pad"),
    **_sided(
        "upsample_nearest upsample_linear upsample_bilinear upsample_bicubic upsample_trilinear _upsample_nearest_exact"
    ),
    **_table(
        {
            "clone alias detach _to_copy lift_fresh lift_fresh_copy zeros_like ones_like full_like": unchanged,
            "empty_like rand_like randn_like fill zero native_dropout bernoulli": unchanged,
            "hardswish hardtanh hardsigmoid log_sigmoid_forward": unchanged,
            "_prelu_kernel copy where lerp masked_fill": pointwise,
            "mean sum amax amin prod var std var_mean std_mean linalg_vector_norm norm any all": reduction,
            "max min argmax argmin logsumexp median mode": choice,
            "_softmax _safe_softmax _log_softmax softmax log_softmax cumsum cumprod sort topk logcumsumexp": along,
            "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training "
            "_batch_norm_no_update cudnn_batch_norm": channel_norm,
            "native_group_norm": group_norm,
            "native_layer_norm": layer_norm,
            "embedding": embedding,
            "mm bmm addmm baddbmm": product,
            "mv addmv": vector_product,
            "convolution _convolution": convolution,
            "_upsample_bilinear2d_aa _upsample_bicubic2d_aa": spatial(2),
            "new_zeros new_ones new_full new_empty new_empty_strided": made,
            "pixel_shuffle": pixel_shuffle,
            "pixel_unshuffle": pixel_unshuffle,
            "glu": glu,
            "_pack_padded_sequence": packed,
            "_pad_packed_sequence": padded,
            "index": indexed,
            "index_select": index_select,
        }
    ),
}
"""By operator, without namespace and overload; what is not here is pointwise if torch says so."""
