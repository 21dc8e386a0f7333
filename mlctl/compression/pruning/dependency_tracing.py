"""Running a network once, operator by operator, to see what goes together."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from mlctl.compression.pruning.dependency_layers import followed_whole
from mlctl.compression.pruning.dependency_rules import apply_rule
from mlctl.compression.pruning.dependency_shortcuts import Shortcuts
from mlctl.compression.pruning.dependency_trace import Call, Trace
from mlctl.training.evaluation_mode import evaluation_mode

T = TypeVar("T")

_NAMESPACES = ("aten", "prims")


def traced(network: nn.Module, example: tuple[Tensor, ...]) -> tuple[Trace, tuple[str, ...]]:
    """What a run of `network` on `example` tells, and the members of lists that have a shortcut.

    The network runs in evaluation mode, on the device where it is; its mode and its weights are as before afterwards.
    """
    trace = Trace(batch=max(1, len(example[0])))
    for name, tensor in _stored(network):
        trace.add_weight(name, tensor)
    shortcuts = Shortcuts(network)
    mode = _Following(trace, shortcuts)
    with ExitStack() as stack:
        stack.enter_context(evaluation_mode(network))
        stack.enter_context(torch.no_grad())
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(torch.autocast(example[0].device.type, enabled=False))
        stack.enter_context(_watched(network, trace, shortcuts))
        stack.enter_context(followed_whole(network, trace, mode.unseen))
        stack.enter_context(mode)
        trace.running.append(("", network))
        answers = network(*example)
    for each in tensors_in(answers):
        trace.answers.append(tuple(each.shape))
        for labels in trace.of(each):
            trace.labels.freeze(labels, "is the network's answer")
    return trace, shortcuts.found()


def _stored(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers of the state_dict, those with several names once."""
    seen: set[int] = set()
    for name, tensor in network.state_dict(keep_vars=True).items():
        if isinstance(tensor, Tensor) and id(tensor) not in seen:
            seen.add(id(tensor))
            yield name, tensor


class _Following(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Applies the rule of every operator that runs."""

    def __init__(self, trace: Trace, shortcuts: Shortcuts) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._trace = trace
        self._shortcuts = shortcuts
        self._is_blind = False

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # What torch would wrap `__torch_dispatch__` in imports its compiler, for seconds.
        return False

    def unseen(self, run: Callable[[], T]) -> T:
        """Run something whose operators are not followed."""
        self._is_blind = True
        try:
            return run()
        finally:
            self._is_blind = False

    def __torch_dispatch__(
        self, func: Any, types: Sequence[Any], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = func(*args, **(kwargs or {}))
        if not self._is_blind:
            names = [each.name for each in func._schema.arguments]
            arguments = {each.name: each.default_value for each in func._schema.arguments if each.has_default_value()}
            arguments |= {**dict(zip(names, args, strict=False)), **(kwargs or {})}
            # In the order of the schema, which rules rely on for all that goes in.
            call = Call(_name(func), {name: arguments[name] for name in names if name in arguments}, given)
            if call.results:
                self._shortcuts.follow(call, apply_rule(self._trace, call, torch.Tag.pointwise in func.tags))
        return given


def _name(func: Any) -> str:
    """`add` for `aten.add_.Tensor`: what works in place is what works beside."""
    namespace, _, name = str(func._schema.name).partition("::")
    if namespace not in _NAMESPACES:
        return f"{namespace}.{name}"
    return name.removesuffix("_") if not name.startswith("__") else name


@contextmanager
def _watched(network: nn.Module, trace: Trace, shortcuts: Shortcuts) -> Iterator[None]:
    """Within it is known which modules are at work."""
    handles = []
    for path, module in network.named_modules():
        if module is network:
            continue

        def enter(inner: nn.Module, taken: Any, *, path: str = path) -> None:
            tensors = tuple(tensors_in(taken))
            trace.enter(path, inner, tensors)
            shortcuts.enter(path, tensors)

        def leave(inner: nn.Module, taken: Any, given: Any, *, path: str = path) -> None:
            trace.running.pop()
            shortcuts.leave(path, tuple(tensors_in(taken)), tuple(tensors_in(given)))

        handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def tensors_in(values: Any) -> Iterator[Tensor]:
    """The tensors of what a module takes or gives, in order."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, list | tuple):
        for each in values:
            yield from tensors_in(each)
    elif isinstance(values, dict):
        yield from tensors_in(list(values.values()))
