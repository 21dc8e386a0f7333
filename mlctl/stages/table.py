"""The one table of stages."""

from typing import Any, Final, Protocol

from mlctl.engine.stage import Stage
from mlctl.stages.distill import Distill
from mlctl.stages.evaluate import Evaluate
from mlctl.stages.export import Export
from mlctl.stages.prepare import Prepare
from mlctl.stages.prune import Prune
from mlctl.stages.quantize import Quantize
from mlctl.stages.serve import wired as served
from mlctl.stages.train import Train
from mlctl.stages.wiring import Above


class Wired(Protocol):
    """Makes a stage out of a step's settings and what stands above it."""

    def __call__(self, settings: Any, above: Above) -> Stage[Any] | None:
        """The stage; None where it makes no artifact. Raises WiringError when it cannot be given what it reads."""
        ...


STAGES: Final[dict[str, Wired]] = {
    "prepare": Prepare.wired,
    "train": Train.wired,
    "prune": Prune.wired,
    "distill": Distill.wired,
    "export": Export.wired,
    "quantize": Quantize.wired,
    "eval": Evaluate.wired,
    "serve": served,
}
