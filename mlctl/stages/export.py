"""export: a trained model becomes an ONNX graph that is compared with it."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlctl.digests import Json
from mlctl.engine.figures import Figure, Promise
from mlctl.engine.stage import Stage, Step, Work
from mlctl.recipe.export import ExportSettings
from mlctl.recipe.networks import STATEFUL
from mlctl.recipe.wiring import is_model_file
from mlctl.stages.adopting import Adopt
from mlctl.stages.artifacts import Data, OnnxModel, TrainedModel
from mlctl.stages.export_figures import export_conditions, export_promises
from mlctl.stages.tokenizer import keep_tokenizer
from mlctl.stages.wiring import Above
from mlctl.units import parse_size

if TYPE_CHECKING:
    from mlctl.graphs.metadata import GraphMetadata
    from mlctl.models.files import ModelConfig


class Export(Stage[OnnxModel]):
    """A trained model in, an ONNX graph with its preprocessing out."""

    name = "export"
    revision = 4

    def __init__(
        self, settings: ExportSettings, model: Step[TrainedModel], data: Step[Data], *, decodes: bool = False
    ) -> None:
        """With `decodes` the network is one of STATEFUL, whose decoder is exported too."""
        self._settings = settings
        self._model = model
        self._data = data
        self._decodes = decodes

    @classmethod
    def wired(cls, settings: ExportSettings, above: Above) -> "Export | Adopt":
        """The stage as a recipe asks for it; a file of another tool is adopted."""
        if settings.from_ and is_model_file(settings.from_) and not above.has(settings.from_):
            return Adopt.wired(settings, settings.from_, above)
        model = above.trained(settings.from_)
        return cls(settings, model, above.data_of(model), decodes=above.network(model) in STATEFUL)

    def settings(self) -> Mapping[str, Json]:
        """The operator set and the passes; the tolerance judges the graph and does not change it."""
        above = parse_size(self._settings.external_data_above)
        return self._settings.deciding("from_", "tolerance") | {"external_data_above": above}

    def inputs(self) -> Mapping[str, Step[Any]]:
        """The model, and the data that it learnt from."""
        return {"model": self._model, "data": self._data}

    def promises(self) -> tuple[Promise, ...]:
        """How far the graph's answers are from torch's, its size, and what every pass did to it."""
        return export_promises(self._settings, decodes=self._decodes)

    def conditions(self) -> tuple[str, ...]:
        """The graph answers as torch does; so does the decoder's, if there is one."""
        return export_conditions(self._settings, decodes=self._decodes)

    def run(self, work: Work) -> tuple[Figure, ...]:
        """Export, and compare on rows of the validation split."""
        from mlctl.data.prepared import PreparedData
        from mlctl.graphs.export import convert
        from mlctl.graphs.properties import write_properties
        from mlctl.stages.exporting import finished_export
        from mlctl.tasks.table import TASKS
        from mlctl.training.devices import resolve_device
        from mlctl.training.trained import as_callable, example_of, stored_model, use_threads

        use_threads(work.threads)
        config, model = stored_model(work.artifact(self._model).folder, work.code)
        data = work.artifact(self._data).folder
        keep_tokenizer(data, work.folder)
        rows = PreparedData.open(data).split("validation").inputs
        task = TASKS[config.task]
        metadata = _metadata(config, work)
        proto = convert(
            model,
            example=example_of(rows, config),
            input_names=tuple(each.name for each in config.inputs),
            output_name=task.output_name,
            opset=self._settings.opset,
            open_dimensions=task.open_dimensions,
        )
        write_properties(proto, metadata.to_properties())
        reference = as_callable(model, resolve_device("cpu"))
        found = finished_export(proto, reference, rows, decision=task.decision, settings=self._settings, work=work)
        if not self._decodes:
            return found.figures
        from mlctl.stages.exporting_decoder import finished_decoder

        return found.figures + finished_decoder(model.network, rows, metadata, self._settings, work)

    def open(self, folder: Path) -> OnnxModel:
        """The graph."""
        return OnnxModel(folder)


def _metadata(config: "ModelConfig", work: Work) -> "GraphMetadata":
    """What the graph says of itself."""
    from mlctl.graphs.metadata import GraphInput, GraphMetadata

    return GraphMetadata(
        task=config.task,
        labels=config.labels,
        preprocessing=[asdict(scaling) for scaling in config.input_scaling],
        fingerprint=work.fingerprint,
        network=config.network.model_dump(mode="json"),
        inputs=tuple(GraphInput(each.name, each.columns, each.shape) for each in config.inputs),
    )
