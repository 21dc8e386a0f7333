"""What a recipe can say about changing images while a network learns from them."""

from typing import Annotated

from pydantic import Field

from mlctl.recipe.base import Flag, NotNegative, Settings

Pixels = Annotated[int, Field(ge=0, le=1024)]


class AugmentSettings(Settings):
    """Every batch of images is changed at random, on the device; validation and test never are."""

    shift: Pixels = 0
    """Move every image by up to so many pixels each way, less than a side; what comes in is 0."""

    crop_padding: Pixels = 0
    """Pad every image by so many mirrored pixels, less than a side, and cut the old size out at a random place."""

    flip: Flag = False
    """Mirror half of the images left to right."""

    cutout: Pixels = 0
    """Set a square of so many pixels a side, at most the image's, to the image's mean in every channel, around a random
    pixel (DeVries & Taylor 2017)."""

    mixup: NotNegative = 0.0
    """Blend pairs of images and their losses, by one share for each batch, drawn from Beta(mixup, mixup) (Zhang et al.
    2018)."""
