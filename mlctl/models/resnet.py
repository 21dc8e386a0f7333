"""Residual networks for images (He et al. 2016)."""

# B batch, C channels, H height, W width

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn import functional

from mlctl.models.image_room import require_room
from mlctl.models.resnet_plans import PLANS, Plan
from mlctl.models.shapes import image_shape
from mlctl.recipe.networks import ResNetSettings


class Convolution(nn.Module):
    """Convolution and batch normalization: [B, C, H, W] → [B, C', H / stride, W / stride], rounded up."""

    def __init__(self, channels: int, filters: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, filters, kernel, stride, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(filters)
        # He et al. 2015, eq. 14: what goes back keeps its variance through convolution and ReLU.
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.norm(self.conv(image))
        return features


class Residual(nn.Module):
    """Convolutions whose answer is added to what came in: [B, C, H, W] → [B, C', H / stride, W / stride], rounded up.

    Two of 3x3, or the bottleneck of 1x1, 3x3 and 1x1 with its stride in the middle (Goyal et al. 2017, section 5.1).
    Where channels or size change, a 1x1 convolution stands in the shortcut (option B of He et al. 2016). The last
    normalization starts at zero, so that every block starts as its shortcut (Goyal et al. 2017, section 5.1).
    """

    def __init__(self, channels: int, filters: int, stride: int, plan: Plan) -> None:
        super().__init__()
        found = filters * plan.expansion
        if plan.is_bottleneck:
            inner = [Convolution(channels, filters, 1), Convolution(filters, filters, 3, stride)]
        else:
            inner = [Convolution(channels, filters, 3, stride)]
        self.inner = nn.ModuleList(inner)
        self.last = Convolution(filters, found, 1 if plan.is_bottleneck else 3)
        self.shortcut = Convolution(channels, found, 1, stride) if stride > 1 or channels != found else None
        nn.init.zeros_(self.last.norm.weight)

    def forward(self, image: Tensor) -> Tensor:
        # In place where nothing reads the old values again: fresh memory for large tensors costs as much as the sums.
        features = image
        for convolution in self.inner:
            features = functional.relu(convolution(features), inplace=True)
        kept = image if self.shortcut is None else self.shortcut(image)
        return functional.relu(self.last(features).add_(kept), inplace=True)


class ResNet(nn.Module):
    """Stem, residual blocks, global average pooling, dropout and one linear layer.

    [B, C, H, W] float32 → [B, outputs] raw outputs. Every stage but the first halves the image, and so does either part
    of the ImageNet stem. Raises StepFailed for shapes that do not fit, and for images with less than two pixels left
    to halve.
    """

    def __init__(self, settings: ResNetSettings, input_shapes: tuple[tuple[int, ...], ...], outputs: int) -> None:
        super().__init__()
        channels, height, width = image_shape(settings.arch, input_shapes)
        require_room(settings, height, width)
        plan = PLANS[settings.depth]
        filters = settings.width or plan.width
        self.halves = settings.stem == "imagenet"
        self.stem = Convolution(channels, filters, 7, 2) if self.halves else Convolution(channels, filters, 3)
        self.blocks = nn.ModuleList(_blocks(plan, filters))
        self.dropout = nn.Dropout(settings.dropout)
        self.head = nn.Linear((filters << len(plan.blocks) - 1) * plan.expansion, outputs)

    def forward(self, image: Tensor) -> Tensor:
        features = self.stem(image)
        if self.halves:
            # Max-pooling and ReLU commute; pooling first leaves ReLU a quarter of the work.
            features = functional.max_pool2d(features, 3, 2, padding=1)
        features = functional.relu(features, inplace=True)
        for block in self.blocks:
            features = block(features)
        pooled = functional.adaptive_avg_pool2d(features, 1).flatten(1)
        outputs: Tensor = self.head(self.dropout(pooled))
        return outputs


def _blocks(plan: Plan, width: int) -> Iterator[Residual]:
    channels = width
    for stage, count in enumerate(plan.blocks):
        filters = width << stage
        for position in range(count):
            stride = 2 if stage and not position else 1
            yield Residual(channels, filters, stride, plan)
            channels = filters * plan.expansion
