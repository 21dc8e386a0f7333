"""What training is timed on: four networks of usual sizes, each with made-up data of the real shape."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from mlctl.models.complete import CompleteModel, InputScaling
from mlctl.models.files import ModelConfig, ModelInput
from mlctl.models.table import build
from mlctl.recipe.networks import CnnSettings, LstmSettings, NetworkSettings, ResNetSettings, TransformerSettings
from mlctl.tasks.cross_entropy import CrossEntropy
from mlctl.tasks.next_token import NextToken
from mlctl.tasks.objective import Objective
from mlctl.training.batches import Samples
from mlctl.training.trained import complete

SEED = 7
RATE = 1e-3
DECAY = 0.01


@dataclass(frozen=True)
class Job:
    """One network, its batch, and how many samples a timed training sees."""

    network: NetworkSettings
    shape: tuple[int, ...]
    classes: int
    batch: int
    samples: int

    @property
    def is_text(self) -> bool:
        """Whether samples are windows of tokens, not images."""
        return len(self.shape) == 1

    def fresh_network(self) -> nn.Module:
        """The network with the same first weights every time."""
        torch.manual_seed(SEED)
        return build(self.network, (self.shape,), self.classes)

    def complete(self, network: nn.Module) -> CompleteModel:
        """The network behind its preprocessing: pixels are divided by 255, tokens stay as they are."""
        name, dtype, scale = ("tokens", "int64", 1.0) if self.is_text else ("image", "uint8", 255.0)
        config = ModelConfig(
            task="language-modeling" if self.is_text else "image-classification",
            network=self.network,
            inputs=(ModelInput(name, dtype, self.shape),),
            outputs=self.classes,
            input_scaling=(InputScaling(scale),),
            target_scaling=InputScaling(),
            labels=(),
        )
        return complete(config, network)

    def objective(self) -> Objective:
        """What is minimised."""
        return NextToken(np.ones(self.classes, np.int32)) if self.is_text else CrossEntropy()

    def train(self) -> Samples:
        """Images uint8 [N, C, H, W] with their classes [N], or tokens uint8 [N, T] with the next ones [N, T]."""
        return self._made_up(self.samples, 0)

    def validation(self) -> Samples:
        """One batch, so that training is what is timed."""
        return self._made_up(self.batch, 1)

    def _made_up(self, count: int, seed: int) -> Samples:
        random = np.random.default_rng(seed)
        if self.is_text:
            kind = np.uint8 if self.classes <= 256 else np.uint16
            stream = random.integers(0, self.classes, (count, self.shape[0] + 1)).astype(kind)
            return Samples((np.ascontiguousarray(stream[:, :-1]),), np.ascontiguousarray(stream[:, 1:]))
        images = random.integers(0, 256, (count, *self.shape)).astype(np.uint8)
        return Samples((images,), random.integers(0, self.classes, count))


JOBS = {
    "cnn": Job(CnnSettings(channels=(32, 64, 128)), (1, 28, 28), 10, 128, 6_400),
    "resnet": Job(ResNetSettings(depth=18), (3, 32, 32), 10, 64, 384),
    "gpt": Job(TransformerSettings(width=384, layers=6, heads=6), (256,), 256, 8, 48),
    "lstm": Job(LstmSettings(embedding=128, hidden=512, layers=2), (128,), 256, 32, 256),
}
"""A small CNN for Fashion-MNIST's shape, ResNet-18 for CIFAR's, a GPT of 6 x 384 over bytes, and an LSTM."""
