"""What the depths of a residual network stand for (He et al. 2016). No torch here."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Plan:
    """What a depth stands for: the blocks of each stage, and the channels of the first one where nothing else is asked.

    Every stage has twice as many channels as the one before.
    """

    blocks: tuple[int, ...]
    width: int
    is_bottleneck: bool = False

    @property
    def expansion(self) -> int:
        """Channels that a block gives for each of its stage's."""
        return 4 if self.is_bottleneck else 1


PLANS: Final = {
    18: Plan((2, 2, 2, 2), 64),
    34: Plan((3, 4, 6, 3), 64),
    50: Plan((3, 4, 6, 3), 64, is_bottleneck=True),
    # 6n + 2 layers, He et al. 2016, section 4.2: n blocks of two in each of three stages, the stem and the last layer.
    **{6 * n + 2: Plan((n, n, n), 16) for n in (1, 2, 3, 4, 5, 6, 7)},
}
"""Table 1 and section 4.2 of He et al. 2016."""
