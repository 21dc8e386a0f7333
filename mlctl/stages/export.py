"""export: a trained model becomes an ONNX graph that is compared with it."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mlctl.digests import Json, jsonable
from mlctl.engine.figures import Figure, Kind, Promise
from mlctl.engine.stage import Stage, Step, Work
from mlctl.recipe.export import ExportSettings
from mlctl.stages.artifacts import Data, OnnxModel, TrainedModel
from mlctl.stages.wiring import Above

PARITY_BATCHES = (1, 2, 17)
REPORT = "parity.json"


class Export(Stage[OnnxModel]):
    """A trained model in, an ONNX graph with its preprocessing out."""

    name = "export"
    revision = 1

    def __init__(self, settings: ExportSettings, model: Step[TrainedModel], data: Step[Data]) -> None:
        self._settings = settings
        self._model = model
        self._data = data

    @classmethod
    def wired(cls, settings: ExportSettings, above: Above) -> "Export":
        """The stage as a recipe asks for it."""
        model = above.trained(settings.from_)
        return cls(settings, model, above.data_of(model))

    def settings(self) -> Mapping[str, Json]:
        """The operator set; the tolerance judges the graph and does not change it."""
        return self._settings.deciding("from_", "tolerance")

    def inputs(self) -> Mapping[str, Step[Any]]:
        """The model, and the data that it learnt from."""
        return {"model": self._model, "data": self._data}

    def promises(self) -> tuple[Promise, ...]:
        """How far the graph's answers are from torch's, and its size."""
        return (
            Promise("parity", Kind.PARITY),
            *(Promise(f"parity_batch_{size}", Kind.PARITY) for size in PARITY_BATCHES),
            Promise("agreement", Kind.PARITY),
            Promise("nodes", Kind.SIZE),
            Promise("parameters", Kind.SIZE),
            Promise("bytes", Kind.SIZE),
        )

    def conditions(self) -> tuple[str, ...]:
        """The graph answers as torch does."""
        return (f"parity <= {self._settings.tolerance!r}",)

    def run(self, work: Work) -> tuple[Figure, ...]:
        """Export, and compare on rows of the validation split."""
        from mlctl.data.prepared import PreparedData
        from mlctl.graphs.export import export
        from mlctl.graphs.metadata import GraphMetadata
        from mlctl.graphs.parity import parity
        from mlctl.runtime.session import OnnxSession
        from mlctl.tasks.table import TASKS
        from mlctl.training.devices import resolve_device
        from mlctl.training.trained import as_callable, example_of, stored_model, use_threads

        use_threads(work.threads)
        config, model = stored_model(work.artifact(self._model).folder, work.code)
        rows = PreparedData.open(work.artifact(self._data).folder).split("validation").inputs
        task = TASKS[config.task]
        metadata = GraphMetadata(
            task=config.task,
            labels=config.labels,
            preprocessing=[asdict(scaling) for scaling in config.input_scaling],
            fingerprint=work.fingerprint,
            network=config.network.model_dump(mode="json"),
        )
        exported = export(
            model,
            example=example_of(rows),
            input_names=tuple(each.name for each in config.inputs),
            output_name=task.output_name,
            opset=self._settings.opset,
            metadata=metadata.to_properties(),
            into=work.folder,
        )
        session = OnnxSession(exported.path, threads=work.threads)
        reference = as_callable(model, resolve_device("cpu"))
        found = parity(reference, session, rows, decision=task.decision, batches=PARITY_BATCHES)
        (work.folder / REPORT).write_text(json.dumps(jsonable(asdict(found)), indent=2) + "\n")
        return (
            Figure("parity", Kind.PARITY, found.worst, better="lower"),
            *(
                Figure(f"parity_batch_{each.batch}", Kind.PARITY, each.max_difference, better="lower")
                for each in found.batches
            ),
            Figure("agreement", Kind.PARITY, min(each.agreement for each in found.batches), better="higher"),
            Figure("nodes", Kind.SIZE, exported.nodes),
            Figure("parameters", Kind.SIZE, exported.parameters),
            Figure("bytes", Kind.SIZE, exported.bytes, "bytes"),
        )

    def open(self, folder: Path) -> OnnxModel:
        """The graph."""
        return OnnxModel(folder)
