"""What runs each model of an evaluation: torch, or the runtime that the recipe asks for."""

from collections.abc import Mapping

from mlctl.data.description import DataDescription
from mlctl.engine.stage import Work
from mlctl.errors import StepFailed
from mlctl.models.files import ModelConfig
from mlctl.recipe.evaluate import EvalSettings
from mlctl.runtime.answers import Arrays
from mlctl.runtime.answers import Model as Callable
from mlctl.runtime.choice import BATCHES, choose_runtime
from mlctl.runtime.opening import open_graph
from mlctl.runtime.running import Runtime
from mlctl.stages.artifacts import Model, OnnxModel
from mlctl.tasks.table import TASKS
from mlctl.training.devices import resolve_device
from mlctl.training.trained import as_callable, model_inputs, stored_model, use_threads


class EvaluatedModels:
    """The models by name, ready to be opened; what runs each is written into the work's choices."""

    def __init__(
        self, models: Mapping[str, Model], settings: EvalSettings, work: Work, data: DataDescription, rows: Arrays
    ) -> None:
        """`rows` [N, ...] are those that `runtime: auto` compares the runtimes on."""
        self._models = models
        self._settings = settings
        self._work = work
        self._data = data
        self._rows = rows
        self._chosen: dict[str, Runtime] = {}
        # Only times on one device can stand in one table, so a graphics processor must be asked for by name.
        self._device = "cpu" if work.device == "auto" else work.device

    def open(self, name: str, threads: int) -> Callable:
        """The model, answering with `threads` threads.

        Raises StepFailed for a trained one that learnt other inputs or classes than the data holds, and what the
        runtimes raise.
        """
        model = self._models[name]
        if isinstance(model, OnnxModel):
            running = open_graph(model.graph, runtime=self._runtime(name, model), threads=threads, device=self._device)
            self._note(name, running.name, running.detail)
            return running
        use_threads(threads)
        device = resolve_device(self._device.replace("tensorrt", "cuda"))
        self._work.choices["device"] = str(device)
        self._note(name, "torch", str(device))
        config, trained = stored_model(model.folder, self._work.code)
        self._require_fit(name, config)
        return as_callable(trained, device)

    def _runtime(self, name: str, model: OnnxModel) -> Runtime:
        if self._settings.runtime != "auto":
            return self._settings.runtime
        if name not in self._chosen:
            timed = self._settings.latency
            choice = choose_runtime(
                model.graph,
                self._rows,
                threads=timed.threads if timed else self._work.threads,
                device=self._device,
                decision=TASKS[self._data.task].decision,
                batches=timed.batch if timed else BATCHES,
                tell=self._work.tell,
            )
            self._chosen[name] = choice.runtime
            self._work.choices[f"runtime[{name}].why"] = choice.why
        return self._chosen[name]

    def _note(self, name: str, runtime: str, detail: str) -> None:
        self._work.choices[f"runtime[{name}]"] = f"{runtime} on {detail}"

    def _require_fit(self, name: str, config: ModelConfig) -> None:
        """Raise StepFailed where the model learnt other inputs or classes: its figures would be nonsense."""
        given = model_inputs(TASKS[self._data.task], self._data)
        if (config.inputs, config.labels) != (given, self._data.labels):
            what = "inputs" if config.inputs != given else "classes"
            raise StepFailed(
                f"{name} learnt other {what} than the data holds that it is to be measured on",
                next="name the data that it learnt from in `eval.data`, or prepare the same columns and classes",
            )
