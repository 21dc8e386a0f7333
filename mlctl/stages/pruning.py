"""The work of prune: cuts and finetunings in turn, each of which a killed run goes on from."""

import json
from collections.abc import Iterator
from dataclasses import asdict, replace

from mlctl.compression.pruning.layer_costs import LayerCost
from mlctl.data.prepared import PreparedData
from mlctl.digests import jsonable
from mlctl.engine.figures import Figure, Kind
from mlctl.engine.stage import Work
from mlctl.events import Note, Warned
from mlctl.metrics.speed import faster_than
from mlctl.models.files import save_model
from mlctl.recipe.prune import PruneCommon, StructuredPruning, UnstructuredPruning
from mlctl.recipe.train import FitSettings
from mlctl.runtime.latency import Floats, measure_latency, summary
from mlctl.runtime.session import OnnxSession
from mlctl.stages.artifacts import Data, TrainedModel
from mlctl.stages.card import model_card
from mlctl.stages.cutting import Cut, LayerCut
from mlctl.stages.cutting_methods import Ground, cutting_of
from mlctl.stages.learning import Beside, Lesson, split_samples, taught
from mlctl.stages.parent_speed import parent_speed
from mlctl.stages.peers import joined
from mlctl.stages.prune_figures import BEFORE, CUT
from mlctl.stages.pruned_state import Exported, Figures, Meter, figures_of
from mlctl.stages.pruning_steps import PruningSteps
from mlctl.stages.tokenizer import keep_tokenizer
from mlctl.stages.trained_files import CARD, HISTORY
from mlctl.tasks.table import TASKS
from mlctl.training.trained import stored_model, use_threads
from mlctl.training.validation import Validation

REPORT = "pruning.json"
CONFIDENCE = 0.95
ROUNDS = 100
WARMUP_ROUNDS = 10


class Pruning:
    """One pruning, from a trained model to the step's folder."""

    def __init__(
        self, settings: PruneCommon, lesson: Lesson | None, seed: int, model: TrainedModel, data: Data, work: Work
    ) -> None:
        """`lesson` is how the network learns again; None where it does not."""
        use_threads(work.threads)
        self._settings = settings
        self._is_gradual = isinstance(settings, UnstructuredPruning) and settings.gradual
        self._lesson = lesson and replace(lesson, settings=_finetuning(settings, lesson.settings))
        self._work = work
        self._parent = model.folder
        self._data_folder = data.folder
        self._data = PreparedData.open(data.folder)
        _, device = joined(work)
        config, parent = stored_model(model.folder, work.code)
        fitting = settings.fitting
        objective = TASKS[config.task].objective(self._data, fitting)
        samples = split_samples(self._data, "validation", config)
        self._meter = Meter(Validation(samples, objective, fitting.batch_size, device), self._data, work)
        self._steps = PruningSteps(work.resume, settings.steps)
        self._before_figures = self._meter.figures(parent, model.folder)
        self._before = self._meter.exported(config, parent)
        self._ground = Ground(config, self._data, objective, device, fitting.batch_size, seed)
        self._costs_before = self._ground.costs(config, parent)
        self._cutting = cutting_of(settings, self._ground, self._share_of_latency, work.tell)

    def figures(self) -> tuple[Figure, ...]:
        """Write the model, its structure, its card and `pruning.json`; return what was lost and gained."""
        found = self._steps.latest(self._work.code)
        cut, as_cut = found or self._cut(Cut(*stored_model(self._parent, self._work.code)))
        while True:
            self._learn_again(cut)
            if cut.step + 1 == self._settings.steps:
                break
            cut, as_cut = self._cut(cut)
        return (
            *figures_of(self._before_figures, self._before, BEFORE),
            *(() if self._is_gradual else figures_of(as_cut, None, CUT)),
            *self._written(cut),
        )

    def _cut(self, so_far: Cut) -> tuple[Cut, Figures]:
        """The network cut once more, and what it is worth as cut; both are kept for who goes on from here."""
        step = so_far.step + 1
        cut = replace(self._cutting.cut(so_far, (step + 1) / self._settings.steps), step=step)
        draft = self._steps.draft(cut, self._work.fingerprint)
        found = self._meter.figures(cut.model, draft)
        self._steps.keep(draft, cut, found)
        name, value, _ = found.watched[-1]
        self._work.tell(
            Note(f"cut {step + 1} of {self._settings.steps}: {found.parameters:,} parameters, {name} {value:.4g}")
        )
        return cut, found

    def _learn_again(self, cut: Cut) -> None:
        """Let the network learn, in place, if it is to."""
        if self._lesson is None:
            return
        folder = self._steps.training(cut.step)
        trained = cut.config, cut.model
        with self._cutting.held(cut) as after_step:
            beside = Beside(after_step=after_step)
            fitted = taught(self._lesson, trained, self._data, self._work, resume=folder, beside=beside)
        self._steps.keep_history(cut.step, fitted.metrics_jsonl)

    def _written(self, cut: Cut) -> tuple[Figure, ...]:
        """Write all files; the figures of what is in them."""
        folder = self._work.folder
        save_model(folder, cut.config, cut.model.to("cpu").network, self._work.fingerprint)
        keep_tokenizer(self._data_folder, folder)
        if self._lesson is not None:
            (folder / HISTORY).write_text(self._steps.history())
        found, exported = self._meter.figures(cut.model, folder), self._meter.exported(cut.config, cut.model)
        own = tuple(figures_of(found, exported, None))
        (folder / CARD).write_text(model_card(cut.config, self._data.description, own), encoding="utf-8")
        self._report(self._cutting.layers(cut), cut, (found, exported))
        return (*own, *self._latencies(exported.session))

    def _report(self, layers: tuple[LayerCut, ...], cut: Cut, after: tuple[Figures, Exported]) -> None:
        report = {
            "method": self._settings.model_dump(mode="json")["method"],
            "layers": [asdict(each) for each in layers],
            "fixed": dict(cut.fixed),
            "costs": self._costs(cut),
            "before": {**asdict(self._before_figures), "flops": self._before.flops},
            "cuts": [asdict(record.figures) for record in self._steps.records()],
            "after": {**asdict(after[0]), "flops": after[1].flops},
        }
        (self._work.folder / REPORT).write_text(json.dumps(jsonable(report), indent=2) + "\n", encoding="utf-8")
        self._work.choices.update({f"left[{each.layer}]": each.text for each in layers})
        self._work.choices.update({f"whole[{layer}]": why for layer, why in cut.fixed.items()})

    def _costs(self, cut: Cut) -> dict[str, dict[str, tuple[int, int]]]:
        """Parameters and multiply-adds of every layer, by its name before any cut, before and now."""
        before = self._costs_before
        now = self._ground.costs(cut.config, cut.model)
        gone = LayerCost(0, 0)
        return {
            layer: {
                "parameters": (cost.parameters, now.get(layer, gone).parameters),
                "multiply_adds": (cost.multiply_adds, now.get(layer, gone).multiply_adds),
            }
            for layer, cost in before.items()
        }

    def _share_of_latency(self, cut: Cut) -> float:
        after = self._meter.exported(cut.config, cut.model).session
        before_ms, after_ms = (summary(each[0]).p50 for each in self._timed(after))
        return after_ms / before_ms

    def _timed(self, after: OnnxSession) -> Floats:
        """Seconds of calls with one row, of the network before any cut and of that one, in turn: [2, 1, rounds]."""
        rows = self._data.split("validation").inputs
        models = (("before", self._before.session), ("after", after))
        return measure_latency(models, rows, batches=(1,), rounds=ROUNDS, warmup=WARMUP_ROUNDS, tell=self._work.tell)

    def _latencies(self, after: OnnxSession) -> Iterator[Figure]:
        seconds = self._timed(after)
        for state, of_state in zip((BEFORE, None), seconds, strict=True):
            yield Figure("p50_batch_1", Kind.LATENCY, summary(of_state[0]).p50, "ms", state, better="lower")
        found = faster_than(seconds[0], seconds[1], confidence=CONFIDENCE, seed=0)
        if isinstance(self._settings, StructuredPruning) and found.interval.high < 1:
            self._warn(found.ratio)
        yield parent_speed(found, CONFIDENCE)

    def _warn(self, ratio: float) -> None:
        warning = (
            f"the cut network is slower than before: x {ratio:.2f} on one row; ONNX Runtime computes channels in "
            "blocks of 8 or 16, which `round_to: 16` keeps whole"
        )
        self._work.choices["slower"] = warning
        self._work.tell(Warned(warning))


def _finetuning(settings: PruneCommon, finetune: FitSettings) -> FitSettings:
    """What is learnt again by; where zeros come to be on the way, only the last weights have all of them."""
    is_gradual = isinstance(settings, UnstructuredPruning) and settings.gradual
    return finetune.model_copy(update={"keep_best": None}) if is_gradual else finetune
