"""Cuts that take out channels, units, heads and whole blocks."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlctl.compression.pruning.batch_statistics import take_batch_statistics
from mlctl.compression.pruning.block_influence import block_influences, removable_blocks
from mlctl.compression.pruning.dependencies import Dependencies, dependencies, structure_of
from mlctl.compression.pruning.importance import LOOKS_AT_ROWS, importance
from mlctl.compression.pruning.latency_search import select_by_latency
from mlctl.compression.pruning.protection import protected_layers
from mlctl.compression.pruning.selection import Rules, Selection, Whole, select, target, whole
from mlctl.compression.pruning.unit_costs import UnitCosts
from mlctl.compression.pruning.unit_weights import Scores
from mlctl.compression.pruning.zeros_that_stay import zeros_that_stay
from mlctl.errors import StepFailed
from mlctl.models.complete import CompleteModel
from mlctl.models.structure import Structure, composed, restructured
from mlctl.recipe.prune import StructuredPruning
from mlctl.stages.cutting import Cut, LayerCut
from mlctl.tasks.objective import Objective
from mlctl.training.batches import Batch
from mlctl.training.learner import AfterStep

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Seen:
    """What units are judged by."""

    objective: Objective
    example: "tuple[Tensor, ...]"
    """Two rows of raw inputs, on the host."""
    device: "torch.device"
    """Where the network learns."""
    batches: Callable[[], Iterator[Batch]]
    """Rows of the train split, on that device."""
    latency: Callable[[Cut], float]
    """The latency of a network as a graph, as a share of that of the network before any cut."""


class UnitCutting:
    """Units are physically taken out: those that are worth least, with all that goes with them."""

    def __init__(self, settings: StructuredPruning, seen: Seen) -> None:
        self._settings = settings
        self._seen = seen
        self._rules = Rules(settings.scope, settings.round_to, settings.protect)

    def cut(self, so_far: Cut, done: float) -> Cut:
        """As `Cutting.cut`. Blocks are taken out by the first cut alone, before any unit."""
        costs = before = self._costs(so_far)
        if self._settings.layers is not None and so_far.step < 0:
            so_far = self._without_blocks(so_far, before.found, self._settings.layers)
            costs = self._costs(so_far)
        found = costs.found
        original = so_far.original or _original(whole(before), costs)
        cut = replace(so_far, original=original, fixed={**so_far.fixed, **found.fixed})
        if self._settings.has_target:
            scores, unscored = self._scores(cut, found)
            selection = self._selection(cut, costs, scores, done)
            layers = _layers(cut.layers, found, selection)
            cut = _restructured(cut, structure_of(cut.model.network, found, selection.kept))
            cut = replace(cut, layers=layers, fixed={**cut.fixed, **unscored})
            if done == 1 and all(each.before == each.after for each in layers):
                raise StepFailed(
                    "nothing was taken out: what is asked for is less than half a unit, or there already",
                    next="ask for more, or take the step out of the recipe",
                )
        take_batch_statistics(self._placed(cut.model), self._seen.batches())
        return cut

    def held(self, cut: Cut) -> AbstractContextManager[AfterStep | None]:
        """As `Cutting.held`: what is gone cannot come back; zeros that were there before stay."""
        return nullcontext(zeros_that_stay(cut.model.network.parameters()))

    def _placed(self, model: CompleteModel) -> CompleteModel:
        """The model where the rows are."""
        return model.to(self._seen.device)

    def layers(self, cut: Cut) -> tuple[LayerCut, ...]:
        """As `Cutting.layers`."""
        return cut.layers

    def _costs(self, cut: Cut) -> UnitCosts:
        model = cut.model.to("cpu").eval()
        return UnitCosts(dependencies(model.network, model.preprocess(*self._seen.example)), model.network)

    def _without_blocks(self, so_far: Cut, found: Dependencies, share: float) -> Cut:
        influences = block_influences(self._placed(so_far.model), found.blocks, self._seen.batches())
        protected = protected_layers(so_far.model.network, self._settings.protect)
        removed = removable_blocks(influences, share, protected)
        cut = _restructured(so_far, structure_of(so_far.model.network, found, {}, removed))
        return replace(cut, layers=(*cut.layers, *(LayerCut(name, "block", 1, 0) for name in removed)))

    def _scores(self, cut: Cut, found: Dependencies) -> tuple[Mapping[str, Scores], dict[str, str]]:
        kind = self._settings.importance
        looks = kind in LOOKS_AT_ROWS
        model, batches = (self._placed(cut.model), self._seen.batches()) if looks else (cut.model, ())
        judged = importance(kind, model, found, self._seen.objective, batches)
        return judged.scores, dict.fromkeys(judged.unscored, f"importance {kind} says nothing of it")

    def _selection(self, cut: Cut, costs: UnitCosts, scores: Mapping[str, Scores], done: float) -> Selection:
        assert cut.original
        wanted, last = (target(self._settings, cut.original, share) for share in (done, 1.0))
        if wanted is not None and last is not None:
            # What the last of several cuts cannot reach is better known before the first.
            select(costs, scores, last, self._rules)
            return select(costs, scores, wanted, self._rules)
        assert self._settings.latency is not None
        share = 1 - (1 - self._settings.latency) * done

        def measured(candidate: Selection) -> float:
            trial = replace(cut, model=deepcopy(cut.model.to("cpu")))
            return self._seen.latency(
                _restructured(trial, structure_of(trial.model.network, costs.found, candidate.kept))
            )

        now = self._seen.latency(cut)
        return select_by_latency(costs, scores, share, measured, self._rules, now).selection


def _restructured(cut: Cut, structure: Structure) -> Cut:
    """The cut, cut on in place."""
    restructured(cut.model.network, structure)
    return replace(cut, config=replace(cut.config, structure=composed(cut.config.structure, structure)))


def _original(before: Whole, now: UnitCosts) -> Whole:
    """What shares are taken of: the units once blocks are out, whose names are theirs then; all else as it was."""
    return replace(before, units=whole(now).units)


def _layers(before: tuple[LayerCut, ...], found: Dependencies, selection: Selection) -> tuple[LayerCut, ...]:
    """What is left of every group, of what it was before the first cut."""
    blocks = tuple(each for each in before if each.kind == "block")
    known = {each.layer: each for each in before if each.kind != "block"}
    now = {
        group.name: LayerCut(
            group.name,
            group.kind,
            known[group.name].before if group.name in known else group.count,
            group.count - selection.removed.get(group.name, 0),
        )
        for group in found.groups
    }
    return (*blocks, *({**known, **now}).values())
