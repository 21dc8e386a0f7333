"""Batches of images are changed as one image at a time would be, all at once and evenly at random."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, chisquare, kstest
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mlctl.errors import StepFailed
from mlctl.recipe.augmentation import AugmentSettings
from mlctl.training.augmentation import Augmentation, Mix, beta_draw

Image = npt.NDArray[Any]
CPU = torch.device("cpu")
EVERYTHING: dict[str, Any] = {"shift": 2, "crop_padding": 3, "flip": True, "cutout": 4, "mixup": 0.4}
UNLIKELY = 1e-4
"""A fair draw is called unfair with this chance, once for each seed that stands here."""

sides = st.integers(1, 9)
dtypes = st.sampled_from(["uint8", "float32"])


def images(batch: int, shape: tuple[int, ...], dtype: str = "uint8", seed: int = 0) -> Tensor:
    """Raw images [B, C, H, W] of 1 to 255; float32 ones are no whole numbers."""
    dice = np.random.default_rng(seed)
    values = dice.integers(1, 256, (batch, *shape)) - (dice.random((batch, *shape)) if dtype == "float32" else 0)
    return torch.from_numpy(values.astype(dtype))


def augmented(raw: Tensor, seed: int = 0, **changes: Any) -> tuple[Tensor, Mix | None]:
    torch.manual_seed(seed)
    before = raw.clone()
    found, mix = Augmentation(AugmentSettings.model_validate(changes), tuple(raw.shape[1:]))(raw)
    assert torch.equal(raw, before), "the given images were changed"
    assert found.shape == raw.shape
    return found, mix


def without_mix(raw: Tensor, **changes: Any) -> npt.NDArray[Any]:
    """Changed images of the same dtype as `raw`."""
    found, mix = augmented(raw, **changes)
    assert mix is None
    assert found.dtype == raw.dtype
    return found.numpy()


def shifted(image: Image, down: int, right: int) -> Image:
    """Pixel by pixel: what comes in is 0."""
    found = np.zeros_like(image)
    _, height, width = image.shape
    for row in range(height):
        for column in range(width):
            if 0 <= row - down < height and 0 <= column - right < width:
                found[:, row, column] = image[:, row - down, column - right]
    return found


def with_hole(image: Image, row: int, column: int, side: int) -> Image:
    """A square around a pixel in the image's mean, channel by channel."""
    mean = image.mean((1, 2), dtype=np.float64)
    colour = np.rint(mean) if image.dtype == np.uint8 else mean
    found = image.astype(np.float64)
    top, left = max(row - side // 2, 0), max(column - side // 2, 0)
    below, beyond = row - side // 2 + side, column - side // 2 + side
    found[:, top:below, left:beyond] = colour[:, None, None]
    return found


def matches(found: Image, candidates: list[Image]) -> list[int]:
    return [number for number, each in enumerate(candidates) if np.array_equal(found, each)]


@settings(max_examples=60)
@given(
    channels=st.integers(1, 3), height=sides, width=sides, dtype=dtypes, shift=st.integers(1, 4), seed=st.integers(0)
)
def test_shifted_images_are_shifted_by_whole_pixels_and_filled_with_zeros(
    channels: int, height: int, width: int, dtype: str, shift: int, seed: int
) -> None:
    raw = images(3, (channels, height, width), dtype)
    shift = min(shift, height - 1, width - 1)
    steps = [(down, right) for down in range(-shift, shift + 1) for right in range(-shift, shift + 1)]
    for before, after in zip(raw.numpy(), without_mix(raw, seed=seed % 2**63, shift=shift), strict=True):
        assert matches(after, [shifted(before, *step) for step in steps])


@settings(max_examples=60)
@given(channels=st.integers(1, 3), height=sides, width=sides, dtype=dtypes, padding=st.integers(1, 8))
def test_cropped_images_are_windows_of_the_mirrored_image(
    channels: int, height: int, width: int, dtype: str, padding: int
) -> None:
    raw = images(3, (channels, height, width), dtype)
    padding = min(padding, height - 1, width - 1)
    for before, after in zip(raw.numpy(), without_mix(raw, crop_padding=padding), strict=True):
        padded = np.pad(before, ((0, 0), (padding, padding), (padding, padding)), mode="reflect")
        places = [(row, column) for row in range(2 * padding + 1) for column in range(2 * padding + 1)]
        assert matches(after, [padded[:, row : row + height, column : column + width] for row, column in places])


@settings(max_examples=30)
@given(channels=st.integers(1, 3), height=sides, width=sides, dtype=dtypes)
def test_flipped_images_are_mirrored_left_to_right_or_as_they_were(
    channels: int, height: int, width: int, dtype: str
) -> None:
    raw = images(4, (channels, height, width), dtype)
    for before, after in zip(raw.numpy(), without_mix(raw, flip=True), strict=True):
        assert matches(after, [before, before[:, :, ::-1]])


@settings(max_examples=60)
@given(channels=st.integers(1, 3), height=sides, width=sides, dtype=dtypes, side=st.integers(1, 9))
def test_cut_images_have_a_square_in_their_mean_around_some_pixel(
    channels: int, height: int, width: int, dtype: str, side: int
) -> None:
    raw = images(3, (channels, height, width), dtype)
    side = min(side, height, width)
    for before, after in zip(raw.numpy(), without_mix(raw, cutout=side), strict=True):
        holes = (with_hole(before, row, column, side) for row in range(height) for column in range(width))
        # float32: a mean of at most 81 numbers up to 255, summed in another order; integers are equal.
        assert any(np.allclose(after, hole, rtol=0, atol=1e-4) for hole in holes)


@settings(max_examples=60)
@given(
    batch=st.integers(1, 6),
    channels=st.integers(1, 3),
    height=sides,
    width=sides,
    dtype=dtypes,
    strength=st.floats(0.01, 9),
)
def test_blended_images_are_sums_of_two_in_float32(
    batch: int, channels: int, height: int, width: int, dtype: str, strength: float
) -> None:
    raw = images(batch, (channels, height, width), dtype)
    found, mix = augmented(raw, mixup=strength)
    assert mix is not None
    assert (found.dtype, mix.share.dtype, mix.partners.dtype) == (torch.float32, torch.float32, torch.int64)
    assert sorted(mix.partners.tolist()) == list(range(batch))
    share = mix.share.item()
    assert 0 <= share <= 1
    exact = share * raw.double() + (1 - share) * raw.double()[mix.partners]
    # Three roundings of numbers up to 255, and no rounding to whole numbers.
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=3 * 255 * 2.0**-24)


def test_one_image_is_its_own_partner() -> None:
    raw = images(1, (3, 8, 8))
    found, mix = augmented(raw, **EVERYTHING)
    assert mix is not None
    assert mix.partners.tolist() == [0]
    assert found.shape == raw.shape
    blended, _ = augmented(raw, mixup=1.0)
    assert torch.equal(blended, raw.float())


def test_the_same_seed_changes_images_alike_and_another_one_differently() -> None:
    raw = images(8, (3, 8, 8))
    (one, mix_of_one), (again, mix_again) = (augmented(raw, **EVERYTHING) for _ in range(2))
    other, _ = augmented(raw, seed=1, **EVERYTHING)
    assert mix_of_one is not None
    assert mix_again is not None
    assert torch.equal(one, again)
    assert torch.equal(mix_of_one.partners, mix_again.partners)
    assert torch.equal(mix_of_one.share, mix_again.share)
    assert not torch.equal(one, other)


def test_the_pixels_change_no_draw() -> None:
    changes = {name: value for name, value in EVERYTHING.items() if name not in ("mixup", "cutout")}
    raw = images(8, (3, 8, 8))
    assert np.array_equal(without_mix(raw, **changes), without_mix(raw.float(), **changes))
    doubled = without_mix(raw.float() * 2, **changes)
    assert np.array_equal(doubled, 2 * without_mix(raw.float(), **changes))


def test_with_nothing_asked_for_the_very_images_come_back_and_nothing_is_drawn() -> None:
    raw = images(2, (1, 4, 4))
    state = torch.get_rng_state()
    found, mix = Augmentation(AugmentSettings(), (1, 4, 4))(raw)
    assert found is raw
    assert mix is None
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_nothing_waits_for_the_device_and_everything_stays_on_it(dtype: torch.dtype) -> None:
    """Tensors of torch's meta device have no values: whoever asks for one fails."""
    raw = torch.empty(5, 3, 8, 8, dtype=dtype, device="meta")
    found, mix = augmented_without_values(raw)
    assert (found.device.type, found.shape, found.dtype) == ("meta", raw.shape, torch.float32)
    assert {mix.partners.device.type, mix.share.device.type} == {"meta"}


def augmented_without_values(raw: Tensor) -> tuple[Tensor, Mix]:
    found, mix = Augmentation(AugmentSettings.model_validate(EVERYTHING), (3, 8, 8))(raw)
    assert mix is not None
    return found, mix


class Calls(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what torch is asked to compute."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def test_a_large_batch_takes_no_more_calls_than_a_small_one() -> None:
    def calls(batch: int) -> int:
        with Calls() as counted:
            augmented(images(batch, (3, 8, 8)), **EVERYTHING)
        return int(counted.count)

    assert calls(2) == calls(300) > 0


SPOT = torch.zeros(1, 9, 9, dtype=torch.uint8)
SPOT[0, 4, 4] = 1
MANY = 20_000


def places(**changes: Any) -> npt.NDArray[np.int64]:
    """Where the one bright pixel of many equal images went to: how often to each row and column, [9, 9]."""
    found = without_mix(SPOT.expand(MANY, 1, 9, 9), **changes)
    assert (found.sum((1, 2, 3)) == 1).all()
    counts: npt.NDArray[np.int64] = found.astype(np.int64).sum((0, 1))
    return counts


@pytest.mark.parametrize("name", ["shift", "crop_padding"])
def test_every_step_each_way_is_equally_likely_ends_included(name: str) -> None:
    counts = places(**{name: 3})
    reached = counts[1:8, 1:8]
    assert reached.sum() == MANY
    assert chisquare(reached.ravel()).pvalue > UNLIKELY


def test_half_of_the_images_are_flipped() -> None:
    left = torch.zeros(MANY, 1, 1, 2, dtype=torch.uint8)
    left[..., 0] = 1
    flips = int(without_mix(left, flip=True)[..., 1].sum())
    assert chisquare([flips, MANY - flips]).pvalue > UNLIKELY


def test_every_pixel_is_the_centre_of_a_hole_equally_often() -> None:
    gray = torch.arange(1, 13, dtype=torch.float32).view(1, 1, 3, 4) ** 2
    found = without_mix(gray.expand(MANY, 1, 3, 4), cutout=1)
    counts = (found != gray.numpy()).sum((0, 1))
    assert counts.sum() == MANY
    assert chisquare(counts.ravel()).pvalue > UNLIKELY


def test_every_image_is_every_others_partner_equally_often() -> None:
    torch.manual_seed(0)
    blending = Augmentation(AugmentSettings(mixup=1.0), (1, 1, 1))
    counts = np.zeros((4, 4))
    for _ in range(1000):
        _, mix = blending(torch.zeros(4, 1, 1, 1))
        assert mix is not None
        counts[np.arange(4), mix.partners.numpy()] += 1
    assert all(chisquare(each).pvalue > UNLIKELY for each in counts)


@pytest.mark.parametrize("concentration", [0.05, 0.4, 1.0, 8.0])
def test_shares_are_distributed_as_beta(concentration: float) -> None:
    torch.manual_seed(0)
    drawn = [beta_draw(concentration, CPU).item() for _ in range(2000)]
    # Only the lower half: float32 tells numbers just above 0 apart, and not those just below 1.
    lower = [each for each in drawn if each < 0.5]
    assert kstest(lower, lambda each: 2 * beta.cdf(each, concentration, concentration)).pvalue > UNLIKELY
    above = sum(each > 0.5 for each in drawn)
    assert chisquare([above, len(drawn) - above]).pvalue > UNLIKELY


@pytest.mark.parametrize("concentration", [5e-324, 1e-300, 1e-9, 1e9, 1.7e308])
def test_extreme_concentrations_give_shares_too(concentration: float) -> None:
    torch.manual_seed(0)
    drawn = [beta_draw(concentration, CPU).item() for _ in range(20)]
    # Beta(a, a) is a coin for small a, and one half for large ones.
    expected = {0.0, 1.0} if concentration < 1 else {0.5}
    assert {round(each, 2) for each in drawn} == expected


@pytest.mark.parametrize(
    ("changes", "shape", "what"),
    [
        ({"shift": 8}, (1, 8, 9), "augment.shift is 8 and can be 7 at most for images of 8x9 pixels"),
        ({"crop_padding": 4}, (3, 9, 4), "augment.crop_padding is 4 and can be 3 at most for images of 9x4 pixels"),
        ({"cutout": 9}, (3, 8, 8), "augment.cutout is 9 and can be 8 at most for images of 8x8 pixels"),
        ({"flip": True}, (64,), "only images [channels, height, width] can be augmented, the data has [64]"),
        ({"mixup": 0.2}, (), "only images [channels, height, width] can be augmented, the data has []"),
    ],
)
def test_images_without_room_are_refused(changes: dict[str, Any], shape: tuple[int, ...], what: str) -> None:
    with pytest.raises(StepFailed) as refusal:
        Augmentation(AugmentSettings.model_validate(changes), shape)
    assert refusal.value.what == what
    assert "`augment" in refusal.value.next


@pytest.mark.parametrize("changes", [{"shift": 7}, {"crop_padding": 7}, {"cutout": 8}])
def test_images_with_just_enough_room_are_changed(changes: dict[str, Any]) -> None:
    assert not np.array_equal(without_mix(images(3, (1, 8, 8)), **changes), images(3, (1, 8, 8)).numpy())


def test_the_loss_of_blended_images_is_that_of_blended_targets() -> None:
    """Cross-entropy is linear in the targets' probabilities, so that the formula can be checked against the paper's."""
    raw, targets = images(6, (1, 2, 2)), torch.tensor([0, 1, 2, 0, 1, 2])
    outputs = torch.randn(6, 3)
    _, mix = augmented(raw, mixup=1.0)
    assert mix is not None
    sorts = torch.nn.functional.one_hot(targets, 3).float()
    soft = mix.share * sorts + (1 - mix.share) * sorts[mix.partners]
    loss = torch.nn.functional.cross_entropy
    found = mix.share * loss(outputs, targets) + (1 - mix.share) * loss(outputs, targets[mix.partners])
    torch.testing.assert_close(found, loss(outputs, soft))
