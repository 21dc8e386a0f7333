"""Whether the names in a recipe fit together: steps that are taken from, metrics that the task has."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from mlctl.errors import Problem
from mlctl.recipe.annotations import keys_of
from mlctl.recipe.tree import Node, entry_at, plain, problem_at
from mlctl.recipe.vocabulary import STAGE_SETTINGS, TASKS, TaskVocabulary
from mlctl.recipe.wording import did_you_mean, listed, value_text

MAKES_NO_MODEL = ("prepare", "eval", "serve")

_TAKES_FILES = (("distill", "teacher"), ("export", "from"))
"""Where an ONNX file beside the recipe can stand in place of a step."""

_WATCHED_KEYS = (
    ("keep_best",),
    ("early_stopping", "metric"),
    ("finetune", "keep_best"),
    ("finetune", "early_stopping", "metric"),
)


@cache
def stage_keys(stage: str) -> tuple[str, ...]:
    """Every key that a step of the stage may have."""
    return keys_of(STAGE_SETTINGS[stage])


@dataclass(frozen=True)
class Wires:
    """The steps of a tree, in the file's order, before their settings were checked."""

    tree: Node
    steps: Sequence[tuple[str, str]]
    """Name and stage of every step whose name is right."""

    def problems(self) -> Iterator[Problem]:
        """Every name that does not fit."""
        for name, stage in self.steps:
            for key in ("from", "data", "teacher"):
                if key in stage_keys(stage):
                    yield from self._of_reference(name, stage, key)
            task = self._task(name)
            if task:
                yield from self._of_metrics(name, stage, task)

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {name: position for position, (name, _) in enumerate(self.steps)}

    def _text(self, *path: str | int) -> str | None:
        entry = entry_at(self.tree, path)
        return entry.node.value if entry and isinstance(entry.node.value, str) else None

    def _of_reference(self, name: str, stage: str, key: str) -> Iterator[Problem]:
        named = self._text(name, key)
        if named is None or (key == "teacher" and "://" in named):
            return
        if named not in self._positions and (stage, key) in _TAKES_FILES and is_model_file(named):
            return
        flaw = self._flaw_of_reference(name, key, named)
        if flaw:
            yield problem_at(self.tree, (name, key), flaw)

    def _flaw_of_reference(self, name: str, key: str, named: str) -> str | None:
        here, there = self._positions[name], self._positions.get(named)
        if there is None:
            above = [other for other, stage in self.steps[:here] if key != "data" or stage == "prepare"]
            meant = did_you_mean(named, above) or f"; above it stand {listed(above) or 'none'}"
            return f"there is no step {value_text(named)}{meant}"
        if there == here:
            return "a step cannot take from itself"
        if there > here:
            return f"'{named}' stands below; a step takes from one above it"
        if key == "data" and self.steps[there][1] != "prepare":
            return f"'{named}' is no prepare step"
        return None

    @cached_property
    def _prepares(self) -> dict[str, str | None]:
        """For every step the prepare step whose data its model comes from, following `data:` and `from:` upwards."""
        prepares: dict[str, str | None] = {}
        nearest: str | None = None
        model: str | None = None
        for name, stage in self.steps:
            takes_data, takes_model = (key in stage_keys(stage) for key in ("data", "from"))
            data = self._text(name, "data") if takes_data else None
            origin = self._text(name, "from") if takes_model else None
            # What takes data goes on with no model unless it names one.
            origin = model if takes_model and not takes_data and origin is None else origin
            prepares[name] = data if data in prepares else prepares.get(origin or "", nearest)
            if stage == "prepare":
                nearest = name
            elif stage not in MAKES_NO_MODEL:
                model = name
        return prepares

    def _task(self, name: str) -> TaskVocabulary | None:
        """The task of the data that the step works on, as far as the recipe is right."""
        prepare = self._prepares[name]
        task = self._text(prepare, "task") if prepare else None
        return TASKS.get(task) if task else None

    def _of_metrics(self, name: str, stage: str, task: TaskVocabulary) -> Iterator[Problem]:
        if stage == "eval":
            entry = entry_at(self.tree, (name, "metrics"))
            named: Any = plain(entry.node) if entry else ()
            for index, metric in enumerate(named if isinstance(named, tuple) else ()):
                if isinstance(metric, str) and not is_metric(metric, task):
                    yield self._unknown_metric((name, "metrics", index), metric, tuple(task.metrics))
            return
        for keys in _WATCHED_KEYS:
            watched = self._text(name, *keys) if keys[0] in stage_keys(stage) else None
            if watched is not None and watched not in task.watched:
                yield self._unknown_metric((name, *keys), watched, task.watched)

    def _unknown_metric(self, path: tuple[str | int, ...], metric: str, choices: tuple[str, ...]) -> Problem:
        meant = did_you_mean(metric, choices)
        return problem_at(self.tree, path, f"{value_text(metric)} is not one of {listed(choices)}{meant}")


def is_model_file(named: str) -> bool:
    """Whether this names an ONNX file; a step of the same name comes first."""
    return named.endswith(".onnx")


def is_metric(name: str, task: TaskVocabulary) -> bool:
    """Whether the task has the metric; `<k>` in a metric's name stands for a whole number from 1."""
    patterns = ("[1-9][0-9]*".join(re.escape(part) for part in metric.split("<k>")) for metric in task.metrics)
    return any(re.fullmatch(pattern, name) for pattern in patterns)
