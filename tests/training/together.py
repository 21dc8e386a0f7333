"""One of several processes that train together: `python together.py FOLDER RANK COUNT ROOM`.

It trains with `small_fit`'s data and settings; from ROOM rows on, the process of rank 1 has no memory. Each leaves its
weights, its history, the rows of every forward pass and its choices in FOLDER.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from small_fits import CPU, MLP, Classification, patterns, small_model, small_settings
from torch import Tensor, nn
from torch._C._distributed_c10d import FileStore

from mlctl.events import silent
from mlctl.recipe.optimization import AdamWSettings
from mlctl.training.loop import fit
from mlctl.training.places import Place
from mlctl.training.processes import Group

SAMPLES = 34  # batches of 16, 16 and 2


class Roomy(nn.Module):
    """A network that remembers how many rows it was given, and takes fewer than `room` at once while it learns."""

    def __init__(self, network: nn.Module, room: int) -> None:
        super().__init__()
        self.network = network
        self.room = room
        self.seen: list[int] = []

    def forward(self, image: Tensor) -> Tensor:
        self.seen.append(len(image))
        if self.training and len(image) >= self.room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        outputs: Tensor = self.network(image)
        return outputs


def main(folder: Path, rank: int, count: int, room: int) -> None:
    group = Group.alone()
    if count > 1:
        store = FileStore(str(folder / "store"), count)
        group = Group.joined(Place(rank, count, rank, count, "localhost", 1), store, CPU)
    model = small_model(MLP.model_copy(update={"dropout": 0.0}))
    network = Roomy(model.network, room if rank == 1 else 10**9)
    model.network = network
    settings = small_settings(epochs=3, clip_norm=1.0, ema=0.9, optimizer=AdamWSettings(lr=1e-2))
    data = patterns(SAMPLES, 1), patterns(40, 2)
    resume = folder / f"resume-{rank}-{count}"
    fitted = fit(model, *data, Classification(), settings, seed=0, device=CPU, resume=resume, tell=silent, group=group)
    name = f"{rank}-{count}"
    save_file(model.network.state_dict(), folder / f"{name}.safetensors")
    said = {
        "losses": [record.train_loss for record in fitted.history],
        "validation": [record.validation for record in fitted.history],
        "seen": network.seen,
        "micro_batch": next(each.text for each in fitted.choices if each.about == "micro_batch"),
    }
    (folder / f"{name}.json").write_text(json.dumps(said))
    group.leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
