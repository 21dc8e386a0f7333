"""Chance that follows from where a training stands, so that no generator's state has to be kept."""

from hashlib import blake2b
from struct import pack

import torch


def step_seed(seed: int, epoch: int, step: int, rank: int) -> int:
    """The seed of everything random in step `step` of epoch `epoch` (both from 0) in process `rank`, 64 bits.

    It is a digest (BLAKE2b, RFC 7693), so that neighbouring steps have nothing in common.
    """
    return int.from_bytes(blake2b(pack("<4q", seed, epoch, step, rank), digest_size=8).digest(), "little")


def seed_generators(seed: int, device: torch.device) -> None:
    """Set torch's global generators of the host and of `device`; nothing waits."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
