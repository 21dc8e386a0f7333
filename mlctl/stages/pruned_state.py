"""A network at one point of its pruning, measured."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from mlctl.data.prepared import PreparedData
from mlctl.engine.figures import Direction, Figure, Kind
from mlctl.engine.stage import Work
from mlctl.graphs.export import export
from mlctl.graphs.flops import work_of
from mlctl.graphs.inspection import read_graph
from mlctl.graphs.shapes import shaped
from mlctl.models.complete import CompleteModel
from mlctl.models.files import WEIGHTS_FILE, ModelConfig
from mlctl.recipe.export import ExportSettings
from mlctl.runtime.session import OnnxSession
from mlctl.tasks.table import TASKS
from mlctl.training.trained import example_of, parameter_count
from mlctl.training.validation import Validation


@dataclass(frozen=True)
class Exported:
    """The network as a graph: what it computes for one sample, and a session that answers."""

    flops: int
    session: OnnxSession


@dataclass(frozen=True)
class Figures:
    """What a network is worth and takes, its graph aside."""

    watched: tuple[tuple[str, float, Direction], ...]
    """Name, value and better direction of every watched figure on the validation split."""
    parameters: int
    sparsity: float
    """Share of the parameters that are zero."""
    bytes: int


class Meter:
    """Measures networks of one task on the same rows."""

    def __init__(self, validation: Validation, data: PreparedData, work: Work) -> None:
        self._validation = validation
        self._rows = data.split("validation").inputs
        self._work = work

    def figures(self, model: CompleteModel, folder: Path) -> Figures:
        """Figures of the model that was saved in `folder`."""
        objective = self._validation.objective
        values = self._validation.figures(model)
        zeros = sum(int((each == 0).sum()) for each in model.network.parameters())
        parameters = parameter_count(model.network)
        return Figures(
            tuple((name, value, better) for (name, better), value in zip(objective.watched, values, strict=True)),
            parameters,
            zeros / parameters if parameters else 0.0,
            (folder / WEIGHTS_FILE).stat().st_size,
        )

    def exported(self, config: ModelConfig, model: CompleteModel) -> Exported:
        """The model as a graph in ONNX Runtime. Raises what `export` does."""
        task = TASKS[config.task]
        with TemporaryDirectory(dir=self._work.folder, prefix="graph-") as folder:
            exported = export(
                model.to("cpu").eval(),
                example=example_of(self._rows, config),
                input_names=tuple(each.name for each in config.inputs),
                output_name=task.output_name,
                opset=ExportSettings().opset,
                metadata={},
                into=Path(folder),
                open_dimensions=task.open_dimensions,
            )
            proto = read_graph(exported.path)
            return Exported(work_of(shaped(proto)).flops, OnnxSession(exported.path, threads=self._work.threads))


def figures_of(found: Figures, exported: Exported | None, state: str | None) -> Iterator[Figure]:
    """The figures as a step gives them, named for the state of the network."""
    for name, value, better in found.watched:
        yield Figure(f"validation_{name}", Kind.METRIC, value, model=state, better=better)
    if exported is None:
        return
    yield Figure("parameters", Kind.SIZE, found.parameters, model=state, better="lower")
    yield Figure("sparsity", Kind.SIZE, found.sparsity, model=state, better="higher")
    yield Figure("flops", Kind.SIZE, exported.flops, model=state, better="lower")
    yield Figure("bytes", Kind.SIZE, found.bytes, "bytes", model=state, better="lower")
