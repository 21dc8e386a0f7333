"""One of several processes that imitate layers together: `python imitating_together.py FOLDER RANK COUNT`.

Each leaves the weights of student and projections in FOLDER.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch._C._distributed_c10d import FileStore

from mlctl.compression.distillation.answer_forms import AnswerForm
from mlctl.compression.distillation.distillation import AnswerLoss
from mlctl.compression.distillation.layer_imitation import FeatureDistance, LayersImitated
from mlctl.compression.distillation.layer_outputs import layer_shapes
from mlctl.compression.distillation.layer_pairs import found_pairs
from mlctl.compression.distillation.teacher import NetworkTeacher
from mlctl.events import silent
from mlctl.models.complete import CompleteModel, InputScaling
from mlctl.models.table import build
from mlctl.recipe.networks import MlpSettings
from mlctl.recipe.optimization import AdamWSettings
from mlctl.recipe.train import FitSettings
from mlctl.tasks.cross_entropy import CrossEntropy
from mlctl.training.batches import Samples
from mlctl.training.loop import fit
from mlctl.training.places import Place
from mlctl.training.precision import Choice
from mlctl.training.processes import Group

CPU = torch.device("cpu")


def model_of(hidden: int, seed: int) -> CompleteModel:
    torch.manual_seed(seed)
    return CompleteModel(build(MlpSettings(hidden=(hidden,)), ((5,),), 3), (InputScaling(),), nn.Identity())


def samples(count: int) -> Samples:
    generator = np.random.default_rng(count)
    return Samples((generator.normal(size=(count, 5)).astype(np.float32),), generator.integers(0, 3, count))


def main(folder: Path, rank: int, count: int) -> None:
    torch.set_num_threads(1)
    group = Group.alone()
    if count > 1:
        store = FileStore(str(folder / "store"), count)
        group = Group.joined(Place(rank, count, rank, count, "localhost", 1), store, CPU)
    student, teacher = model_of(4, 0), model_of(7, 1)
    example = (torch.zeros(2, 5),)
    settings = FitSettings(
        epochs=2, batch_size=8, precision="float32", keep_best=None, optimizer=AdamWSettings(lr=1e-2)
    )
    resume = folder / f"resume-{rank}-{count}"
    with LayersImitated(
        student,
        NetworkTeacher(teacher, CPU, Choice("float32", "")),
        found_pairs(layer_shapes(student, example), layer_shapes(teacher, example)),
        FeatureDistance,
        answer_loss=AnswerLoss(AnswerForm("logits", (3,)), 4.0),
        hard=0.5,
        layer_weight=1.0,
        seed=2,
    ) as teaching:
        fit(
            student, samples(20), samples(8), CrossEntropy(), settings,
            seed=0, device=CPU, resume=resume, tell=silent, group=group, teaching=teaching,
        )  # fmt: skip
        save_file(student.network.state_dict(), folder / f"{rank}-{count}.safetensors")
    group.leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
