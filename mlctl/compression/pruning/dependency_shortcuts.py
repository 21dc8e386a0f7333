"""Which members of lists add something to what they take, so that they could be left out."""

from collections.abc import MutableMapping
from itertools import count

from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from mlctl.compression.pruning.dependency_trace import Call

_SUMS = ("add", "sub")


class Shortcuts:
    """Follows what goes into members of lists to their answers, through sums and whatever keeps its place."""

    def __init__(self, network: nn.Module) -> None:
        self._members = {
            f"{path}.{name}" if path else name
            for path, module in network.named_modules()
            if isinstance(module, nn.ModuleList | nn.Sequential) and len(module) > 1
            for name, child in module.named_children()
            if name.isdecimal() and any(True for _ in child.parameters())
        }
        self._numbers = count()
        self._running: list[int] = []
        self._has_shortcut: dict[str, bool] = {}
        # For every tensor the runs of members whose input is in it, and whether something was added since.
        self._held: MutableMapping[Tensor, dict[int, bool]] = WeakTensorKeyDictionary()

    def follow(self, call: Call, keeps_places: bool) -> None:
        """Note one operator; `keeps_places` says whether every number of its answer comes of one that goes in."""
        taken = call.tensors
        is_sum = call.name in _SUMS and len(taken) == 2
        found: dict[int, bool] = {}
        for each in taken if is_sum else taken[: int(keeps_places)]:
            if each.numel() == call.result.numel():
                for run, was_added in self._held.get(each, {}).items():
                    found[run] = found.get(run, False) or was_added or is_sum
        for result in call.results:
            if found or result in self._held:
                self._held[result] = found

    def enter(self, path: str, taken: tuple[Tensor, ...]) -> None:
        """Note that a module begins."""
        if path in self._members:
            self._running.append(next(self._numbers))
            if taken:
                self._held[taken[0]] = {**self._held.get(taken[0], {}), self._running[-1]: False}

    def leave(self, path: str, taken: tuple[Tensor, ...], given: tuple[Tensor, ...]) -> None:
        """Note that a module ends, with what it took and gives."""
        if path in self._members:
            run = self._running.pop()
            is_alike = bool(taken and given) and (taken[0].shape, taken[0].dtype) == (given[0].shape, given[0].dtype)
            was_added = is_alike and bool(self._held.get(given[0], {}).get(run))
            self._has_shortcut[path] = self._has_shortcut.get(path, True) and was_added

    def found(self) -> tuple[str, ...]:
        """Paths of those that have a shortcut whenever they run, in the order in which they end."""
        return tuple(path for path, has in self._has_shortcut.items() if has)
