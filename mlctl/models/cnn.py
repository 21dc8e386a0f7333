"""A plain convolutional network for images."""

# B batch, C channels, H height, W width

from torch import Tensor, nn
from torch.nn import functional

from mlctl.models.shapes import image_shape
from mlctl.recipe.networks import CnnSettings


class Block(nn.Module):
    """Convolution, batch normalization, pooling where asked for, ReLU: [B, C, H, W] → [B, C', H', W']."""

    def __init__(self, channels: int, filters: int, kernel: int, *, halves: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, filters, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(filters)
        self.halves = halves

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.norm(self.conv(image))
        # Max-pooling and ReLU commute; pooling first leaves ReLU a quarter of the work.
        return functional.relu(functional.max_pool2d(features, 2) if self.halves else features)


class Cnn(nn.Module):
    """Blocks, global average pooling, dropout and one linear layer: [B, C, H, W] float32 → [B, outputs] raw outputs.

    Every block but the last halves the image, as long as both sides have two pixels to halve. Raises StepFailed for
    shapes that do not fit.
    """

    def __init__(self, settings: CnnSettings, input_shapes: tuple[tuple[int, ...], ...], outputs: int) -> None:
        super().__init__()
        channels, height, width = image_shape(settings.arch, input_shapes)
        side = min(height, width)
        self.blocks = nn.ModuleList()
        for number, filters in enumerate(settings.channels, start=1):
            halves = number < len(settings.channels) and side >= 2
            self.blocks.append(Block(channels, filters, settings.kernel, halves=halves))
            channels, side = filters, side // 2 if halves else side
        self.dropout = nn.Dropout(settings.dropout)
        self.head = nn.Linear(channels, outputs)

    def forward(self, image: Tensor) -> Tensor:
        features = image
        for block in self.blocks:
            features = block(features)
        pooled = functional.adaptive_avg_pool2d(features, 1).flatten(1)
        outputs: Tensor = self.head(self.dropout(pooled))
        return outputs
