"""export, from a file: an ONNX graph that was made elsewhere becomes one of the house, compared with what it was."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlctl.digests import Json, canonical
from mlctl.engine.figures import Figure, Promise
from mlctl.engine.stage import Stage, Step, Work
from mlctl.errors import DataError, StepFailed, Unsupported
from mlctl.events import Warned
from mlctl.graphs.external_files import model_files
from mlctl.graphs.tokenizer_file import tokenizer_of
from mlctl.recipe.export import ExportSettings
from mlctl.stages.artifacts import Data, OnnxModel
from mlctl.stages.export_figures import PARITY_BATCHES, export_conditions, export_promises
from mlctl.stages.tokenizer import keep_tokenizer
from mlctl.stages.wiring import Above
from mlctl.units import parse_size

if TYPE_CHECKING:
    import onnx

    from mlctl.data.description import DataDescription
    from mlctl.graphs.fitting import ForeignInput, RawInput
    from mlctl.graphs.foreign_model import ForeignModel
    from mlctl.runtime.answers import Arrays
    from mlctl.tasks.task import Task

ANSWERED_ROWS = 512
"""Rows that tell what kind of answer the graph gives."""
OPENED_TOLERANCE = 1e-2
"""A graph whose fixed batch was opened and whose answers move by more treats rows in another way; what moves less is
for the step's own tolerance to judge."""


class Adopt(Stage[OnnxModel]):
    """An ONNX file of another tool in, an ONNX graph with its preprocessing out."""

    name = "export"
    revision = 2

    def __init__(self, settings: ExportSettings, model: Path, data: Step[Data]) -> None:
        self._settings = settings
        self._model = model
        self._data = data

    @classmethod
    def wired(cls, settings: ExportSettings, model: str, above: Above) -> "Adopt":
        """The stage for the file `model`, which lies beside the recipe, and the nearest prepared data."""
        return cls(settings, above.base / model, above.data(None))

    def settings(self) -> Mapping[str, Json]:
        """What the recipe says of the graph; it keeps its own operator set, and the file's content is a source."""
        above = parse_size(self._settings.external_data_above)
        return self._settings.deciding("from_", "tolerance", "opset") | {"external_data_above": above}

    def inputs(self) -> Mapping[str, Step[Any]]:
        """The data that the model is for."""
        return {"data": self._data}

    def sources(self) -> tuple[Path, ...]:
        """The model, its external data, and the tokenizer that lies with it."""
        tokenizer = tokenizer_of(self._model)
        return (*model_files(self._model), *([] if tokenizer is None else [tokenizer]))

    def promises(self) -> tuple[Promise, ...]:
        """How far the graph's answers are from those of the file, its size, and what every pass did to it."""
        return export_promises(self._settings)

    def conditions(self) -> tuple[str, ...]:
        """The graph answers as the file does."""
        return export_conditions(self._settings)

    def run(self, work: Work) -> tuple[Figure, ...]:
        """Check, adopt, and compare on rows of the validation split."""
        from mlctl.data.prepared import PreparedData
        from mlctl.graphs.adoption import end
        from mlctl.graphs.properties import write_properties
        from mlctl.stages.exporting import finished_export
        from mlctl.tasks.table import TASKS

        folder = work.artifact(self._data).folder
        self._keep_tokenizer(folder, work.folder)
        data = PreparedData.open(folder)
        rows = data.split("validation").inputs
        task = TASKS[data.description.task]
        self._check()
        model, foreign = self._adopted(data.description, rows, work)
        foreign.ending = self._ending(task, foreign, rows, data.description.labels)
        if foreign.ending:
            work.choices["output"] = f"{foreign.ending} was put behind {model.graph.output[0].name!r}"
            end(model, foreign.ending, task.output_name)
        write_properties(model, self._properties(model, data.description, work))
        if foreign.batch is not None:
            self._require_open(model, foreign, rows, task, work)
        found = finished_export(model, foreign, rows, decision=task.decision, settings=self._settings, work=work)
        return found.figures

    def _adopted(self, data: "DataDescription", rows: "Arrays", work: Work) -> "tuple[onnx.ModelProto, ForeignModel]":
        """The graph with raw rows in front and an open batch, and the file as its reference."""
        from mlctl.graphs.adoption import adopt, open_batch
        from mlctl.graphs.fitting import answer_name, matched
        from mlctl.graphs.saving import load_graph

        model = load_graph(self._model)
        inputs = matched(model, self._given(model, data, work), self._model)
        answer = answer_name(model, self._model)
        foreign = self._foreign(inputs, answer, rows, work)
        self._note(model, inputs, answer, work)
        adopt(model, inputs, answer)
        if foreign.batch is not None:
            open_batch(model, foreign.batch)
        return model, foreign

    def _given(self, model: "onnx.ModelProto", data: "DataDescription", work: Work) -> "tuple[RawInput, ...]":
        """What the graph is given: raw rows to be scaled in front of it, unless it says that it scales them itself."""
        from mlctl.graphs.metadata import PREFIX
        from mlctl.graphs.properties import read_properties

        given = raw_inputs(data)
        inside = canonical([asdict(scaling) for scaling in data.input_scaling]).decode()
        if read_properties(model).get(f"{PREFIX}preprocessing") != inside:
            return given
        work.choices["preprocessing"] = "lies in the graph already"
        return tuple(replace(each, scale=1.0, mean=(), deviation=()) for each in given)

    def _check(self) -> None:
        """Raise DataError for a file that is not to be trusted, or that is made of more than was planned with."""
        import onnx

        from mlctl.graphs.checking import check_graph
        from mlctl.graphs.inspection import graph_files

        named = graph_files(self._model, check_graph(self._model))
        planned = {path.resolve() for path in self.sources()}
        unplanned = [path for path in named if path.resolve() not in planned]
        if unplanned:
            raise DataError(
                f"external data {unplanned[0].name!r} is named in a way that was not understood",
                where=self._model,
                next=f"write the model anew with `onnx.save_model` of onnx {onnx.__version__}",
            )

    def _foreign(self, inputs: "tuple[ForeignInput, ...]", answer: str, rows: "Arrays", work: Work) -> "ForeignModel":
        """The file as a model; asked row by row where it says that it takes any number of rows, and does not."""
        from mlctl.graphs.fitting import fixed_batch
        from mlctl.graphs.foreign_model import ForeignModel
        from mlctl.runtime.answers import first_rows

        batch = fixed_batch(inputs)
        foreign = ForeignModel(self._model, inputs, answer, threads=work.threads, batch=batch)
        try:
            foreign(first_rows(rows, 2))
        except StepFailed:
            if batch is not None:
                raise
            foreign.batch = 1
        if foreign.batch is not None:
            work.choices["batch"] = f"was fixed to {foreign.batch}, and is open now"
        return foreign

    def _note(self, model: "onnx.ModelProto", inputs: "tuple[ForeignInput, ...]", answer: str, work: Work) -> None:
        work.choices["inputs"] = ", ".join(f"{each.name} takes {each.raw.name}" for each in inputs)
        dropped = [port.name for port in model.graph.output if port.name != answer]
        if dropped:
            work.choices["answer"] = f"{answer}; left out: {', '.join(dropped)}"
            work.tell(Warned(f"{answer!r} is taken for the answer; the outputs {', '.join(dropped)} are left out"))

    def _ending(self, task: "Task[Any]", foreign: "ForeignModel", rows: "Arrays", labels: tuple[str, ...]) -> Any:
        from mlctl.runtime.answers import answer

        return task.ending(answer(foreign, tuple(each[:ANSWERED_ROWS] for each in rows), PARITY_BATCHES[-1]), labels)

    def _keep_tokenizer(self, data: Path, into: Path) -> None:
        """The data's own, which says what the rows are, else the one that lies with the model."""
        tokenizer = tokenizer_of(self._model)
        if tokenizer is not None:
            keep_tokenizer(tokenizer.parent, into)
        keep_tokenizer(data, into)

    def _properties(self, model: "onnx.ModelProto", data: "DataDescription", work: Work) -> Mapping[str, str]:
        from mlctl.graphs.metadata import GraphInput, GraphMetadata

        ports = zip(model.graph.input, data.inputs, strict=True)
        metadata = GraphMetadata(
            task=data.task,
            labels=data.labels,
            preprocessing=[asdict(scaling) for scaling in data.input_scaling],
            fingerprint=work.fingerprint,
            network={"adopted": self._model.name},
            inputs=tuple(GraphInput(port.name, field.columns, field.shape) for port, field in ports),
        )
        return metadata.to_properties()

    def _require_open(
        self, model: "onnx.ModelProto", foreign: "ForeignModel", rows: "Arrays", task: "Task[Any]", work: Work
    ) -> None:
        """Raise Unsupported where the graph does not answer several rows as it answers its own number of them."""
        from mlctl.graphs.parity import parity
        from mlctl.graphs.saving import save_graph
        from mlctl.runtime.session import OnnxSession

        session = OnnxSession(save_graph(model, work.folder), threads=work.threads)
        try:
            found = parity(foreign, session, rows, decision=task.decision, batches=PARITY_BATCHES)
        except StepFailed as failure:
            raise self._frozen(foreign, failure.what) from failure
        if not found.worst <= OPENED_TOLERANCE:
            raise self._frozen(foreign, f"answers to several rows at once differ by {found.worst:.3g}")

    def _frozen(self, foreign: "ForeignModel", what: str) -> Unsupported:
        at_once = "one row" if foreign.batch == 1 else f"{foreign.batch or 'some'} rows"
        return Unsupported(
            f"the graph takes {at_once} at a time, and cannot be made to take any number: {what}",
            where=self._model,
            next="export it again with an open batch dimension (`dynamic_shapes` of torch.onnx.export)",
        )

    def open(self, folder: Path) -> OnnxModel:
        """The graph."""
        return OnnxModel(folder)


def raw_inputs(data: "DataDescription") -> "tuple[RawInput, ...]":
    """What a graph can be given, as `matched` wants it."""
    from mlctl.graphs.fitting import RawInput

    return tuple(
        RawInput(field.name, field.dtype, field.shape, scaling.scale, scaling.mean, scaling.deviation)
        for field, scaling in zip(data.inputs, data.input_scaling, strict=True)
    )
