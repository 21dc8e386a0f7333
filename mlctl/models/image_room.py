"""What a network's settings demand of an image's size, for the network and for who reads a recipe. No torch here."""

from dataclasses import dataclass

from mlctl.errors import StepFailed
from mlctl.models.resnet_plans import PLANS
from mlctl.recipe.networks import NetworkSettings, ResNetSettings, VitSettings

SHALLOW = "a depth of three stages (8, 14, 20, ...)"


@dataclass(frozen=True)
class Misfit:
    """A setting that images of a size have no room for: its key, what is wrong, and what to do next."""

    key: str
    what: str
    next: str


def network_misfit(settings: NetworkSettings, height: int, width: int) -> Misfit | None:
    """What of a network's settings does not fit images of `height` x `width` pixels, if anything."""
    if isinstance(settings, VitSettings):
        return _patch_misfit(settings.patch, height, width)
    if isinstance(settings, ResNetSettings):
        return _depth_misfit(settings, height, width)
    return None


def require_room(settings: NetworkSettings, height: int, width: int) -> None:
    """Raise StepFailed for a network that cannot take images of this size."""
    if found := network_misfit(settings, height, width):
        raise StepFailed(found.what, next=found.next)


def _patch_misfit(patch: int, height: int, width: int) -> Misfit | None:
    if not height % patch and not width % patch:
        return None
    what = f"patches of {patch}x{patch} pixels do not fill images of {height}x{width}"
    return Misfit("patch", what, "choose a `patch` that divides both sides")


def _depth_misfit(settings: ResNetSettings, height: int, width: int) -> Misfit | None:
    stages, is_halved_by_stem = len(PLANS[settings.depth].blocks), settings.stem == "imagenet"
    side, least = min(height, width), _least_side(stages, is_halved_by_stem)
    if side >= least:
        return None
    by_stem = "`stem: cifar`" if is_halved_by_stem and side >= _least_side(stages, False) else None
    by_depth = SHALLOW if stages > 3 and side >= _least_side(3, is_halved_by_stem) else None
    both = f"`stem: cifar` and {SHALLOW}" if side >= _least_side(3, False) else None
    helpful = [each for each in (by_stem, by_depth) if each] or [each for each in (both,) if each]
    return Misfit(
        "depth",
        f"a resnet of depth {settings.depth} with the {settings.stem} stem halves images "
        f"{_halvings(stages, is_halved_by_stem)} times and needs {least}x{least} pixels, the data has {height}x{width}",
        f"choose {' or '.join([*helpful, 'a cnn'])}",
    )


def _halvings(stages: int, is_halved_by_stem: bool) -> int:
    return stages - 1 + (2 if is_halved_by_stem else 0)


def _least_side(stages: int, is_halved_by_stem: bool) -> int:
    """The smallest side that has more than one pixel before it is halved the last time: halves are rounded up."""
    return int(2 ** (_halvings(stages, is_halved_by_stem) - 1) + 1)
