"""Two small networks as a user would train them, and their export."""

from pathlib import Path

import torch
from torch import Tensor, nn

from mlctl.graphs.export import Exported, export

METADATA = {"mlctl.task": "image-classification", "a": "1"}


class ConvNet(nn.Module):
    """uint8 images [B, 1, 8, 8] to probabilities [B, 5], the scaling inside."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.3]).view(1, 1, 1))
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(8, 12, 3, padding=1, bias=False),
            nn.BatchNorm2d(12),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.1),
            nn.Linear(12, 5),
        )

    def forward(self, *raw: Tensor) -> Tensor:
        (image,) = raw
        answers: Tensor = self.body(image.float() / 16 - self.mean).softmax(-1)
        return answers


class Perceptron(nn.Module):
    """float32 rows [B, 6] to numbers [B]."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.Linear(16, 1))

    def forward(self, rows: Tensor) -> Tensor:
        answers: Tensor = self.body(rows).squeeze(-1) * 3 + 1
        return answers


def trained(net: nn.Module) -> nn.Module:
    """The network with seeded weights, and batch statistics as training leaves them."""
    generator = torch.Generator().manual_seed(5)
    for tensor in net.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.1 - 0.5 * (tensor.ndim > 1))
    return net.eval()


def export_conv_net(into: Path) -> Exported:
    """The convolutional network as `into`/model.onnx."""
    example = (torch.zeros(2, 1, 8, 8, dtype=torch.uint8),)
    return export(
        trained(ConvNet()),
        example=example,
        input_names=("image",),
        output_name="probabilities",
        opset=20,
        metadata=METADATA,
        into=into,
    )


def export_perceptron(into: Path) -> Exported:
    """The perceptron as `into`/model.onnx."""
    return export(
        trained(Perceptron()),
        example=(torch.zeros(3, 6),),
        input_names=("features",),
        output_name="prediction",
        opset=18,
        metadata={},
        into=into,
    )
