"""What a network is worth as it stands."""

from dataclasses import dataclass

import torch

from mlctl.models.complete import CompleteModel
from mlctl.tasks.objective import Objective
from mlctl.training.batches import Batches, Samples
from mlctl.training.failures import named_failures


@dataclass(frozen=True)
class Validation:
    """What networks are validated on: samples, the figures that are watched, and where and how it is computed."""

    samples: Samples
    objective: Objective
    batch_size: int
    device: torch.device

    def figures(self, model: CompleteModel) -> tuple[float, ...]:
        """The watched figures in the objective's order, in float32. The model ends on the device, in evaluation mode.

        Raises OutOfMemory.
        """
        batches = Batches(self.samples, self.batch_size, self.device)
        with named_failures(self.device), torch.inference_mode():
            model.to(self.device).eval()
            totals = [
                self.objective.totals(model.raw_outputs(*batch.inputs).float(), batch.targets)
                for batch in batches.in_order()
            ]
            return self.objective.figures(torch.stack(totals).sum(0), batches.count)
