import pytest
import torch

from mlctl.errors import NoSuchDevice, UsageError
from mlctl.training.devices import resolve_device
from mlctl.training.precision import Choice, autocast, choose_precision

FOUND = torch.cuda.device_count() if torch.cuda.is_available() else 0


def test_auto_takes_the_gpu_where_there_is_one() -> None:
    assert resolve_device("auto") == torch.device("cuda:0" if FOUND else "cpu")


def test_cpu_is_always_here() -> None:
    assert resolve_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("asked", [f"cuda:{FOUND}", "cuda:999"])
def test_a_device_that_is_not_here_is_named_with_what_there_is(asked: str) -> None:
    with pytest.raises(NoSuchDevice, match=f"{asked} is not here; CUDA devices found: {FOUND}"):
        resolve_device(asked)


@pytest.mark.parametrize("asked", ["gpu", "cuda:", "cuda:x", "cuda:-1", "CPU", "", "cuda:0 "])
def test_a_word_that_is_no_device_is_a_mistake_of_the_command_line(asked: str) -> None:
    with pytest.raises(UsageError, match="is not a device"):
        resolve_device(asked)


@pytest.mark.parametrize("asked", ["tensorrt", "tensorrt:1"])
def test_tensorrt_is_for_graphs_alone(asked: str) -> None:
    with pytest.raises(UsageError, match=f"torch does not compute on '{asked}'"):
        resolve_device(asked)


def test_a_precision_that_is_asked_for_is_taken() -> None:
    assert choose_precision("bfloat16", torch.device("cpu")) == Choice("bfloat16", "the recipe asks for it")
    assert choose_precision("float32", torch.device("cpu")).precision == "float32"


def test_auto_is_bfloat16_only_on_a_cpu_with_amx() -> None:
    choice = choose_precision("auto", torch.device("cpu"))
    has_amx = bool(torch.cpu.get_capabilities().get("amx_bf16", False))
    assert choice.precision == ("bfloat16" if has_amx else "float32")
    assert "AMX" in choice.reason


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_products_run_in_the_precision_that_was_chosen(precision: str, dtype: torch.dtype) -> None:
    choice = Choice("bfloat16" if precision == "bfloat16" else "float32", "")
    with autocast(choice, torch.device("cpu")):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
