"""Small networks of many kinds, with an example each: what pruning must follow in networks of users' own."""

# B batch, C channels, T tokens, D width

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from mlctl.models.table import build
from mlctl.recipe.networks import (
    CnnSettings,
    GruSettings,
    LstmSettings,
    MlpSettings,
    NetworkSettings,
    ResNetSettings,
    TransformerSettings,
    VitSettings,
)

VOCABULARY, CONTEXT = 11, 6


class Projected(nn.Module):
    """A residual block with a projection, between two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 6, 3, padding=1)
        self.inner = nn.Conv2d(6, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.project = nn.Conv2d(6, 8, 1)
        self.last = nn.Conv2d(8, 3, 3)

    def forward(self, image: Tensor) -> Tensor:
        features = torch.relu(self.first(image))
        features = torch.relu(self.norm(self.inner(features)) + self.project(features))
        answers: Tensor = self.last(features).mean((2, 3))
        return answers


class Dense(nn.Module):
    """Every layer reads all before it (Huang et al. 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(channels, 4, 3, padding=1) for channels in (2, 6, 10))
        self.norm = nn.BatchNorm2d(14)
        self.head = nn.Linear(14, 3)

    def forward(self, image: Tensor) -> Tensor:
        features = image
        for layer in self.layers:
            features = torch.cat((features, torch.relu(layer(features))), 1)
        answers: Tensor = self.head(functional.adaptive_avg_pool2d(torch.relu(self.norm(features)), 1).flatten(1))
        return answers


class Gated(nn.Module):
    """Squeeze and excitation (Hu et al. 2018) over a convolution, and a gated linear unit."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3)
        self.squeeze = nn.Linear(8, 4)
        self.excite = nn.Linear(4, 8)
        self.gate = nn.Linear(8, 12)
        self.head = nn.Linear(6, 3)

    def forward(self, image: Tensor) -> Tensor:
        features = torch.relu(self.conv(image))
        weights = torch.sigmoid(self.excite(torch.relu(self.squeeze(features.mean((2, 3))))))
        features = features * weights[:, :, None, None]
        answers: Tensor = self.head(functional.glu(self.gate(features.amax((2, 3)))))
        return answers


class Skipping(nn.Module):
    """Down, up again, and beside what was there before (Ronneberger et al. 2015)."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(1, 4, 3, padding=1)
        self.down = nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(6, 4, 2, stride=2)
        self.smooth = nn.Conv2d(14, 5, 3, padding=1)
        self.leave = nn.Conv2d(5, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        entered = torch.relu(self.enter(image))
        low = torch.relu(self.down(entered))
        scaled = functional.interpolate(low, scale_factor=2)
        joined = torch.cat((entered, torch.relu(self.up(low)), scaled), 1)
        answers: Tensor = self.leave(torch.relu(self.smooth(joined)))
        return answers


class Encoder(nn.Module):
    """Layers of torch's own transformer over vectors."""

    def __init__(self, *, pre_norm: bool) -> None:
        super().__init__()
        self.enter = nn.Linear(5, 12)
        layer = nn.TransformerEncoderLayer(12, 3, 16, batch_first=True, norm_first=pre_norm)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(12, 4)

    def forward(self, rows: Tensor) -> Tensor:
        answers: Tensor = self.head(self.encoder(self.enter(rows)).mean(1))
        return answers


class Crossing(nn.Module):
    """Attention from one row of vectors to another, of other widths, time first."""

    def __init__(self) -> None:
        super().__init__()
        self.asking = nn.Linear(5, 12)
        self.asked = nn.Linear(5, 10)
        self.attention = nn.MultiheadAttention(12, 4, kdim=10, vdim=10)
        self.head = nn.Linear(12, 4)

    def forward(self, rows: Tensor) -> Tensor:
        asked = torch.tanh(self.asked(rows[:, 1:])).transpose(0, 1)
        mixed, _ = self.attention(torch.tanh(self.asking(rows)).transpose(0, 1), asked, asked)
        answers: Tensor = self.head(mixed.mean(0))
        return answers


class Grouped(nn.Module):
    """Attention in which several heads of queries share keys and values (Ainslie et al. 2023)."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads, self.num_kv_heads, self.head_dim = 4, 2, 3
        self.enter = nn.Linear(5, 12)
        self.queries, self.keys, self.values = nn.Linear(12, 12), nn.Linear(12, 6), nn.Linear(12, 6)
        self.output = nn.Linear(12, 12)
        self.head = nn.Linear(12, 4)

    def forward(self, rows: Tensor) -> Tensor:
        hidden = self.enter(rows)
        batch, tokens, _ = hidden.shape
        queries = self.queries(hidden).view(batch, tokens, self.num_heads, self.head_dim).transpose(1, 2)
        shape = (batch, tokens, self.num_kv_heads, self.head_dim)
        times = self.num_heads // self.num_kv_heads
        keys = self.keys(hidden).view(shape).transpose(1, 2).repeat_interleave(times, 1)
        values = self.values(hidden).view(shape).transpose(1, 2).repeat_interleave(times, 1)
        mixed = functional.scaled_dot_product_attention(queries, keys, values)
        hidden = hidden + self.output(mixed.transpose(1, 2).reshape(batch, tokens, -1))
        answers: Tensor = self.head(hidden.mean(1))
        return answers


class Reading(nn.Module):
    """A classifier of texts: recurrent layers, and the last state of both directions."""

    def __init__(self, kind: Callable[..., nn.RNNBase], **options: object) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 5)
        self.body = kind(5, 9, batch_first=True, **options)
        self.head = nn.Linear((2 if self.body.bidirectional else 1) * (self.body.proj_size or 9), 3)

    def forward(self, tokens: Tensor) -> Tensor:
        outputs, _ = self.body(self.embedding(tokens))
        answers: Tensor = self.head(outputs[:, -1])
        return answers


class Packed(nn.Module):
    """Texts of different lengths, without what pads them."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 5)
        self.body = nn.GRU(5, 6, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        lengths = torch.tensor([tokens.shape[1]] * len(tokens))
        rows = pack_padded_sequence(self.embedding(tokens), lengths, batch_first=True)
        outputs, last = self.body(rows)
        padded, _ = pad_packed_sequence(outputs, batch_first=True)
        answers: Tensor = self.head(padded.sum(1) + last[-1])
        return answers


class Stepping(nn.Module):
    """A cell that reads token by token."""

    def __init__(self, kind: Callable[[int, int], nn.LSTMCell | nn.GRUCell]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 5)
        self.cell = kind(5, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        state = None
        for column in tokens.T:
            state = self.cell(self.embedding(column), state)
        assert state is not None
        answers: Tensor = self.head(state[0] if isinstance(state, tuple) else state)
        return answers


class Mirrored(nn.Module):
    """An autoencoder whose way back has the weights of its way there."""

    def __init__(self) -> None:
        super().__init__()
        self.there = nn.Linear(7, 6)
        self.deeper = nn.Linear(6, 4)
        self.offset = nn.Parameter(torch.zeros(6))

    def forward(self, rows: Tensor) -> Tensor:
        hidden = torch.tanh(self.deeper(torch.tanh(self.there(rows))))
        hidden = torch.tanh(functional.linear(hidden, self.deeper.weight.t(), self.offset))
        return functional.linear(hidden, self.there.weight.t())


class Windowed(nn.Module):
    """Patches of images as rows of one batch, and back."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 6, 3, padding=1)
        self.mix = nn.Linear(6, 5)
        self.back = nn.Linear(5, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, image: Tensor) -> Tensor:
        features = self.first(image)
        batch, channels, height, width = features.shape
        windows = features.view(batch, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 3, 5, 1)
        rows = windows.reshape(-1, 4, channels)
        rows = rows + self.back(torch.relu(self.mix(rows)))
        merged = rows.view(batch, height // 2, width // 2, 2, 2, channels).permute(0, 5, 1, 3, 2, 4)
        answers: Tensor = self.head(merged.reshape(batch, channels, height, width).mean((2, 3)))
        return answers


def _image(channels: int = 1) -> Tensor:
    return torch.randn(2, channels, 8, 8)


def _rows(width: int) -> Tensor:
    return torch.randn(2, width)


def _tokens() -> Tensor:
    return torch.randint(0, VOCABULARY, (2, CONTEXT))


def _vectors() -> Tensor:
    return torch.randn(2, CONTEXT, 5)


OWN: Final[dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]]] = {
    "projection": (Projected, _image),
    "concatenation": (Dense, lambda: _image(2)),
    "grouped": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 12, 3, groups=4), nn.Flatten(), nn.Linear(192, 3),
        ),
        _image,
    ),
    "depthwise": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 1), nn.Conv2d(4, 8, 3, groups=4), nn.BatchNorm2d(8), nn.ReLU6(), nn.Conv2d(8, 6, 1),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3),
        ),
        _image,
    ),
    "gates": (Gated, _image),
    "flattened": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.PReLU(4), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 10), nn.Hardswish(),
            nn.Linear(10, 3),
        ),
        _image,
    ),
    "skips": (Skipping, _image),
    "transposed": (
        lambda: nn.Sequential(
            nn.Linear(4, 6), nn.Unflatten(1, (6, 1, 1)), nn.ConvTranspose2d(6, 8, 3), nn.ReLU(),
            nn.ConvTranspose2d(8, 8, 3, groups=8), nn.ReLU(), nn.ConvTranspose2d(8, 4, 2, groups=2), nn.ReLU(),
            nn.Conv2d(4, 2, 1),
        ),
        lambda: _rows(4),
    ),
    "group norm": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.Conv2d(8, 6, 1), nn.InstanceNorm2d(6), nn.Flatten(),
            nn.Linear(216, 3),
        ),
        _image,
    ),
    "instance norm": (
        lambda: nn.Sequential(
            nn.Conv1d(5, 8, 3, padding=1), nn.InstanceNorm1d(8, affine=True), nn.GELU(), nn.AvgPool1d(2), nn.Flatten(),
            nn.Linear(16, 3),
        ),
        lambda: torch.randn(2, 5, 4),
    ),
    "weightless norms": (
        lambda: nn.Sequential(
            nn.Linear(4, 8), nn.LayerNorm(8, elementwise_affine=False), nn.GELU(), nn.Linear(8, 6),
            nn.RMSNorm(6, elementwise_affine=False), nn.Linear(6, 8), nn.RMSNorm(8), nn.Linear(8, 2),
        ),
        lambda: _rows(4),
    ),
    "volumes": (
        lambda: nn.Sequential(
            nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4), nn.MaxPool3d(2), nn.Conv3d(4, 6, 2), nn.Flatten(),
            nn.Linear(6, 3),
        ),
        lambda: torch.randn(2, 1, 4, 4, 4),
    ),
    "shuffled pixels": (
        lambda: nn.Sequential(nn.Conv2d(1, 12, 3), nn.PixelShuffle(2), nn.Conv2d(3, 4, 3), nn.PixelUnshuffle(2),
                              nn.Conv2d(16, 2, 1)),
        _image,
    ),
    "windows": (Windowed, _image),
    "encoder": (lambda: Encoder(pre_norm=False), _vectors),
    "pre-norm encoder": (lambda: Encoder(pre_norm=True), _vectors),
    "cross attention": (Crossing, _vectors),
    "shared heads": (Grouped, _vectors),
    "lstm classifier": (lambda: Reading(nn.LSTM), _tokens),
    "two gru layers": (lambda: Reading(nn.GRU, num_layers=2), _tokens),
    "both ways": (lambda: Reading(nn.LSTM, num_layers=2, bidirectional=True), _tokens),
    "projected lstm": (lambda: Reading(nn.LSTM, num_layers=2, proj_size=4), _tokens),
    "plain recurrence": (lambda: Reading(nn.RNN), _tokens),
    "packed texts": (Packed, _tokens),
    "lstm cell": (lambda: Stepping(nn.LSTMCell), _tokens),
    "gru cell": (lambda: Stepping(nn.GRUCell), _tokens),
    "mirrored": (Mirrored, lambda: _rows(7)),
}  # fmt: skip
"""A network and its example, by name."""

OURS: Final[dict[str, NetworkSettings]] = {
    "mlp": MlpSettings(hidden=(9, 6)),
    "cnn": CnnSettings(channels=(4, 6, 8)),
    "resnet": ResNetSettings(depth=8, width=4),
    "bottleneck": ResNetSettings(depth=50, width=4),
    "imagenet stem": ResNetSettings(depth=18, width=4, stem="imagenet"),
    "vit": VitSettings(width=12, heads=3, layers=2),
    "vit with a token": VitSettings(width=16, heads=4, layers=2, pool="token"),
    "lstm": LstmSettings(embedding=6, hidden=8),
    "tied lstm": LstmSettings(embedding=8, hidden=8, tied=True),
    "gru": GruSettings(embedding=6, hidden=8),
    "tied gru": GruSettings(embedding=8, hidden=8, tied=True, layers=1),
    "transformer": TransformerSettings(width=16, heads=4, layers=2, tied=False),
    "tied transformer": TransformerSettings(width=24, heads=3, layers=2),
}
"""Networks of the recipe language, by name."""

NAMES: Final = (*OWN, *OURS)


def network_of(name: str) -> tuple[nn.Module, Tensor]:
    """A network in evaluation mode whose every tensor holds numbers that show, and two rows for it."""
    torch.manual_seed(3)
    if name in OWN:
        made, example = OWN[name]
        network, rows = made(), example()
    else:
        over_tokens = OURS[name].arch in ("lstm", "gru", "transformer")
        side = 33 if name == "imagenet stem" else 8
        shape, outputs = ((CONTEXT,), VOCABULARY) if over_tokens else ((1, side, side), 3)
        network = build(OURS[name], (shape,), outputs)
        rows = _tokens() if over_tokens else torch.randn(2, *shape)
    with torch.no_grad():
        for key, tensor in network.state_dict().items():
            if key.endswith("running_var"):
                tensor.uniform_(0.5, 2)
            elif tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape) * 0.5)
    return network.eval(), rows
