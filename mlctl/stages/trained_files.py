"""What every training leaves: the model, its history, its card, and the figures of all that."""

from math import nan
from pathlib import Path
from typing import TYPE_CHECKING

from mlctl.engine.figures import Figure, Kind, Promise
from mlctl.engine.stage import Work
from mlctl.errors import Diverged
from mlctl.recipe.vocabulary import TaskVocabulary

if TYPE_CHECKING:
    from mlctl.data.prepared import PreparedData
    from mlctl.models.complete import CompleteModel
    from mlctl.models.files import ModelConfig
    from mlctl.training.loop import Fitted

HISTORY = "metrics.jsonl"
CARD = "README.md"


def training_promises(vocabulary: TaskVocabulary) -> tuple[Promise, ...]:
    """The watched figures on the validation split at the weights that were kept, size and speed."""
    return (
        *(Promise(f"validation_{name}", Kind.METRIC) for name in vocabulary.watched),
        Promise("epochs", Kind.METRIC),
        Promise("kept_epoch", Kind.METRIC),
        Promise("parameters", Kind.SIZE),
        Promise("bytes", Kind.SIZE),
        Promise("samples_per_second", Kind.LATENCY),
    )


def finished_training(
    trained: "tuple[ModelConfig, CompleteModel]", fitted: "Fitted", data: "PreparedData", folder: Path, work: Work
) -> tuple[Figure, ...]:
    """Write everything that was learnt from the data in `folder` into the step's own; the figures as promised.

    Raises Diverged where the weights that were kept are worth nothing, and StepFailed for a user's own network that
    cannot be loaded again.
    """
    from mlctl.models.files import WEIGHTS_FILE, save_model
    from mlctl.stages.card import model_card
    from mlctl.stages.tokenizer import keep_tokenizer
    from mlctl.training.own_networks import require_restorable
    from mlctl.training.trained import parameter_count

    config, model = trained
    save_model(work.folder, config, model.network, work.fingerprint)
    keep_tokenizer(folder, work.folder)
    require_restorable(model, config, work.folder, data.split("train").inputs, work.code)
    (work.folder / HISTORY).write_text(fitted.metrics_jsonl)
    figures = (
        *_watched_figures(fitted),
        Figure("epochs", Kind.METRIC, len(fitted.history)),
        Figure("kept_epoch", Kind.METRIC, fitted.kept_epoch),
        Figure("parameters", Kind.SIZE, parameter_count(model.network)),
        Figure("bytes", Kind.SIZE, (work.folder / WEIGHTS_FILE).stat().st_size, "bytes"),
    )
    (work.folder / CARD).write_text(model_card(config, data.description, figures), encoding="utf-8")
    return (*figures, Figure("samples_per_second", Kind.LATENCY, fitted.samples_per_second, "samples/s"))


def _watched_figures(fitted: "Fitted") -> tuple[Figure, ...]:
    record = fitted.history[fitted.kept_epoch - 1]
    if record.validation[0] is None:
        raise Diverged(f"the loss on the validation split is no number at the epoch that was kept, {record.epoch}")
    return tuple(
        Figure(f"validation_{name}", Kind.METRIC, nan if value is None else value, better=better)
        for (name, better), value in zip(fitted.watched, record.validation, strict=True)
    )
