"""Two forms of one model are run on the same held-out rows, and every tensor that both have is compared."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlctl.data.prepared import PreparedData
from mlctl.errors import DataError
from mlctl.graphs.tensor_parity import TensorParity, require_rows, tensor_parity
from mlctl.graphs.torch_tracing import TracedNetwork
from mlctl.graphs.tracing import Traced, TracedGraph
from mlctl.models.files import ModelInput
from mlctl.runtime.answers import Arrays, first_rows
from mlctl.stages.forms import NAME_THE_DATA, Form, code_folder
from mlctl.tasks.table import TASKS
from mlctl.training.trained import example_of, model_inputs, stored_model, use_threads

SPLIT = "validation"


@dataclass(frozen=True)
class Trace:
    """What the comparison of A and B on rows of the prepared `data` came to."""

    a: Form
    b: Form
    data: Path
    parity: TensorParity


@dataclass(frozen=True)
class TraceSettings:
    """`rows` are taken from the beginning of the validation split; `allows_code` lets a user's own network run."""

    rows: int
    tolerance: float
    threads: int
    allows_code: bool


def trace(a: Form, b: Form, data: Path, settings: TraceSettings) -> Trace:
    """Compare `a` and `b` on rows of the prepared data in the folder `data`.

    Raises DataError for rows that do not fit, and where a file is not what its name says.
    """
    use_threads(settings.threads)
    prepared = PreparedData.open(data)
    inputs = model_inputs(TASKS[prepared.description.task], prepared.description)
    pairs = zip(prepared.split(SPLIT).inputs, inputs, strict=True)
    rows = tuple(each[: settings.rows].astype(field.dtype, copy=False) for each, field in pairs)
    require_rows(rows)
    first, second = (_traced(each, inputs, rows, settings) for each in (a, b))
    return Trace(a, b, data, tensor_parity(first, second, rows, tolerance=settings.tolerance))


def _traced(of: Form, inputs: tuple[ModelInput, ...], rows: Arrays, settings: TraceSettings) -> Traced:
    given = tuple((field.name, field.dtype, field.shape) for field in inputs)
    if of.framework == "onnx":
        graph = TracedGraph(of.file, threads=settings.threads)
        _require_fit(of, tuple((port.name, port.dtype, port.shape[1:]) for port in graph.inputs), given)
        return graph
    config, model = stored_model(of.folder, code_folder(of) if settings.allows_code else None)
    _require_fit(of, tuple((each.name, each.dtype, each.shape) for each in config.inputs), given)
    return TracedNetwork(model, example_of(first_rows(rows, 2), config))


def _require_fit(
    of: Form,
    wanted: Sequence[tuple[str, str, tuple[int | None, ...]]],
    given: Sequence[tuple[str, str, tuple[int, ...]]],
) -> None:
    """Inputs belong to the data's fields by their place; names may differ, unless they say that places do."""
    fits = len(wanted) == len(given)
    names = {name for name, _, _ in given}
    for (name, dtype, shape), (field, field_dtype, field_shape) in zip(wanted, given, strict=False):
        sizes = len(shape) == len(field_shape) and all(
            size in (None, known) for size, known in zip(shape, field_shape, strict=True)
        )
        fits = fits and sizes and dtype == field_dtype and (name == field or name not in names)
    if not fits:
        raise DataError(
            f"the model takes {_fields(wanted)}, the data holds {_fields(given)}", where=of.named, next=NAME_THE_DATA
        )


def _fields(fields: Sequence[tuple[str, str, tuple[int | None, ...]]]) -> str:
    return ", ".join(
        f"{name} {dtype} [{', '.join('any' if size is None else str(size) for size in shape)}]"
        for name, dtype, shape in fields
    )
