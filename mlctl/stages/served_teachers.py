"""Opens a served model as a teacher, after a look at what the server says of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlctl.compression.distillation.served_model import ServedModel
from mlctl.data.prepared import PreparedData
from mlctl.engine.stage import Work
from mlctl.errors import DataError
from mlctl.graphs.fitting import ForeignInput, matched
from mlctl.runtime.answers import Arrays, Model
from mlctl.runtime.running import Port
from mlctl.runtime.served_address import ServedAddress
from mlctl.stages.adopting import raw_inputs
from mlctl.stages.graph_teachers import chosen, opened, scaled, unscaled

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx

    from mlctl.compression.distillation.host_teacher import HostTeacher


def served_teacher(url: str, data: PreparedData, work: Work) -> "HostTeacher":
    """The served model as a teacher of raw rows; which version answers is noted.

    A server does not say whether it wants numbers raw or scaled as the data's description has it: what gives the better
    answers to held-out rows is taken. Raises DataError for a server that speaks otherwise, and for a model whose inputs
    or answers do not fit the data; MachineError where it cannot be reached.
    """
    served = ServedModel(ServedAddress.parse(url), work.tell)
    try:
        plain = matched(_outline(served.inputs), [unscaled(each) for each in raw_inputs(data.description)], Path())
    except DataError as error:
        raise DataError(error.what, where=url, next=error.next) from error
    feeds = {"scaled": scaled(plain, data.description), "raw": plain}
    teachers = {
        name: opened(_fed(served, inputs), data, lambda: served.identity, url)
        for name, inputs in feeds.items()
        if name == "raw" or inputs != plain
    }
    work.choices["teacher"] = str(served)
    work.choices["teacher_tensors"] = "as bytes" if served.is_binary else "as JSON"
    return chosen(teachers, data, work)


def _fed(served: ServedModel, inputs: Sequence[ForeignInput]) -> Model:
    """The served model of raw rows, in the order of the prepared inputs."""

    def answers(rows: Arrays) -> "npt.NDArray[Any]":
        fed = {each.name: each.preprocessed(values) for each, values in zip(inputs, rows, strict=True)}
        return served(tuple(fed[port.name] for port in served.inputs))

    return answers


def _outline(inputs: Sequence[Port]) -> "onnx.ModelProto":
    """A graph that takes what the server says, so that a served model and a file are looked at alike."""
    import numpy as np
    from onnx import TensorProto, helper

    ports = [
        helper.make_tensor_value_info(
            port.name,
            TensorProto.STRING if port.dtype == "no numbers" else helper.np_dtype_to_tensor_dtype(np.dtype(port.dtype)),
            port.shape,
        )
        for port in inputs
    ]
    return helper.make_model(helper.make_graph([], "served", ports, []))
