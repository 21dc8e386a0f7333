"""How far images of a size can be changed, for who changes them and for who reads a recipe. No torch here."""

from mlctl.models.image_room import Misfit
from mlctl.recipe.augmentation import AugmentSettings


def augment_misfits(settings: AugmentSettings, height: int, width: int) -> tuple[Misfit, ...]:
    """Everything that images of `height` x `width` pixels have no room for."""
    side = min(height, width)
    # A mirror shows no pixel twice; a shift leaves at least a row; a square is no larger than the image.
    largest = {"shift": side - 1, "crop_padding": side - 1, "cutout": side}
    return tuple(
        Misfit(
            name,
            f"augment.{name} is {getattr(settings, name)} and can be {most} at most for images of "
            f"{height}x{width} pixels",
            f"lower `augment.{name}`",
        )
        for name, most in largest.items()
        if getattr(settings, name) > most
    )
