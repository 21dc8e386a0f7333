"""Images changed at random while a network learns from them, a whole batch at once and on its device."""

# B batch, C channels, H height, W width

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from mlctl.errors import StepFailed
from mlctl.recipe.augmentation import AugmentSettings
from mlctl.training.augment_room import augment_misfits


@dataclass(frozen=True)
class Mix:
    """With whom every image of a batch was blended, and how much of itself it kept.

    `partners` int64 [B] are places in the same batch, `share` is float32 [] from 0 to 1, both on the images' device.
    The loss of what was blended is `share * loss(targets) + (1 - share) * loss(targets[partners])`.
    """

    partners: Tensor
    share: Tensor


class Augmentation:
    """The changes that settings ask for: shift, crop, flip, cutout and mixup, in this order.

    ```
    augmentation = Augmentation(settings.augment, shape)    # the input's [C, H, W]
    images, mix = augmentation(images)                      # in every training step, before the model's normalization
    ```

    It takes a whole batch before that is cut into micro-batches, so that their size changes no draw and a partner may
    be in another of them. All chance comes from torch's global generator of the images' device, in a fixed order; no
    draw waits for the device. `settings` and `shape` decide which draws are made.
    """

    def __init__(self, settings: AugmentSettings, shape: tuple[int, ...]) -> None:
        """`shape` is that of one image, [C, H, W]. Raises StepFailed where such images cannot be changed so."""
        self._settings = settings
        _require_room(settings, shape)

    def __call__(self, images: Tensor) -> tuple[Tensor, Mix | None]:
        """Changed copies of raw images [B, C, H, W], uint8 or float32, and how they were blended, if they were.

        Shape, device and dtype stay; blended uint8 images become float32. What is not asked for is not touched: with
        nothing asked for, the very images come back.
        """
        wanted = self._settings
        if wanted.shift:
            images = cut_at_random(functional.pad(images, 4 * (wanted.shift,)), images.shape)
        if wanted.crop_padding:
            images = cut_at_random(mirrored(images, wanted.crop_padding), images.shape)
        if wanted.flip:
            images = flip_half(images)
        if wanted.cutout:
            images = cut_out(images, wanted.cutout)
        return blend(images, wanted.mixup) if wanted.mixup else (images, None)


def mirrored(images: Tensor, padding: int) -> Tensor:
    """Images [B, C, H, W] with `padding` more pixels on each side, mirrored at the edge pixels, which are not repeated.

    `padding` is less than H and W.
    """
    for axis in (2, 3):
        size = images.shape[axis]
        before = images.narrow(axis, 1, padding).flip(axis)
        after = images.narrow(axis, size - 1 - padding, padding).flip(axis)
        images = torch.cat((before, images, after), axis)
    return images


def cut_at_random(images: Tensor, shape: torch.Size) -> Tensor:
    """A window of `shape` [B, C, H, W] out of each of the larger images; every place is equally likely."""
    batch, _, height, width = shape
    windows = images.unfold(2, height, 1).unfold(3, width, 1)
    rows = torch.randint(windows.shape[2], (batch,), device=images.device)
    columns = torch.randint(windows.shape[3], (batch,), device=images.device)
    return windows[torch.arange(batch, device=images.device), :, rows, columns]


def flip_half(images: Tensor) -> Tensor:
    """Images [B, C, H, W], each with a chance of one half mirrored left to right."""
    is_flipped = torch.rand(len(images), device=images.device) < 0.5
    return torch.where(is_flipped.view(-1, 1, 1, 1), images.flip(3), images)


def cut_out(images: Tensor, side: int) -> Tensor:
    """Images [B, C, H, W] with a square in the colour of the image's mean, rounded for integers.

    The square's centre is any pixel; what of it would lie outside is lost, as DeVries & Taylor 2017 (section 3.2) found
    to matter.
    """
    is_out = _within(images, 2, side) & _within(images, 3, side)
    if images.is_floating_point():
        means = images.mean((2, 3), keepdim=True)
    else:
        means = images.double().mean((2, 3), keepdim=True).round().to(images.dtype)
    return torch.where(is_out, means, images)


def _within(images: Tensor, axis: int, side: int) -> Tensor:
    """Which places along the axis lie in `side` pixels around a random centre, bool [B, 1, H, 1] or [B, 1, 1, W]."""
    size = images.shape[axis]
    starts = torch.randint(size, (len(images), 1), device=images.device) - side // 2
    places = torch.arange(size, device=images.device)
    is_in = (places >= starts) & (places < starts + side)
    return is_in[:, None, :, None] if axis == 2 else is_in[:, None, None, :]


def blend(images: Tensor, concentration: float) -> tuple[Tensor, Mix]:
    """Images [B, C, H, W] blended in pairs, in float32, by one share for the batch (Zhang et al. 2018, section 2)."""
    partners = torch.randperm(len(images), device=images.device)
    share = beta_draw(concentration, images.device)
    values = images.float()
    return torch.lerp(values[partners], values, share), Mix(partners, share)


def beta_draw(concentration: float, device: torch.device) -> Tensor:
    """A number drawn from Beta(a, a), float32 [], for any concentration a above 0.

    It is x / (x + y) for x and y drawn from Gamma(a), by logarithms, since for small a both are often too small for a
    float. Gamma(a) is Gamma(a + 1) times a uniform number to the power of 1 / a (Marsaglia & Tsang 2000, section 6).
    """
    gammas = torch._standard_gamma(torch.full((2,), concentration + 1, dtype=torch.float64, device=device)).log()
    uniforms = (1 - torch.rand(2, dtype=torch.float64, device=device)).log()
    # The quotient last: two infinities would cancel to no number.
    logit = (gammas[0] - gammas[1]) + (uniforms[0] - uniforms[1]) / concentration
    return logit.sigmoid().float()


def _require_room(settings: AugmentSettings, shape: tuple[int, ...]) -> None:
    if len(shape) != 3:
        raise StepFailed(
            f"only images [channels, height, width] can be augmented, the data has {list(shape)}",
            next="take `augment` out of the step",
        )
    for found in augment_misfits(settings, *shape[1:])[:1]:
        raise StepFailed(found.what, next=found.next)
