"""The artifacts that stages hand to each other: folders whose contents are known."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Data:
    """Prepared data: arrays for every split, and `data.json`."""

    folder: Path


@dataclass(frozen=True)
class Model:
    """A model that can be run: a `TrainedModel` or an `OnnxModel`."""

    folder: Path


@dataclass(frozen=True)
class TrainedModel(Model):
    """A network of torch: `model.safetensors` and `config.json`."""


@dataclass(frozen=True)
class OnnxModel(Model):
    """A graph with its preprocessing inside: `model.onnx`."""

    @property
    def graph(self) -> Path:
        """The graph's file."""
        return self.folder / "model.onnx"


@dataclass(frozen=True)
class Evaluation:
    """What models answered: `targets.npy`, and for every model `MODEL/answers.npy`."""

    folder: Path
