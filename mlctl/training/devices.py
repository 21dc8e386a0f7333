"""Which device a run computes on."""

import re

import torch

from mlctl.errors import NoSuchDevice, UsageError


def resolve_device(asked: str) -> torch.device:
    """The device that `auto`, `cpu`, `cuda` or `cuda:N` means here; `auto` takes CUDA where there is any.

    Raises UsageError for another word and NoSuchDevice where this machine does not have the device.
    """
    if re.fullmatch(r"tensorrt(:\d{1,3})?", asked):
        raise UsageError(
            f"torch does not compute on {asked!r}; TensorRT runs exported graphs", next="train with auto, cpu or cuda:N"
        )
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", asked):
        raise UsageError(f"{asked!r} is not a device", next="write auto, cpu, cuda or cuda:N")
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if asked == "cpu" or (asked == "auto" and not found):
        return torch.device("cpu")
    index = int(asked.partition(":")[2] or 0)
    if index >= found:
        raise NoSuchDevice(f"{asked} is not here; CUDA devices found: {found}", next="choose `--device cpu` or `auto`")
    return torch.device("cuda", index)
