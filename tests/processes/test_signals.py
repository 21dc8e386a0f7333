"""A signal is obeyed wherever it arrives, also inside libraries that catch what is not theirs."""

import signal

import pytest
from conftest import COMMAND, Lab, finished

from mlctl.cli.interrupts import raising_interrupts
from mlctl.errors import Interrupted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_raises_where_it_arrives(number: signal.Signals) -> None:
    with pytest.raises(Interrupted) as caught, raising_interrupts():
        signal.raise_signal(number)
    assert caught.value.exit_code == 128 + number


def test_afterwards_the_handlers_are_those_of_before() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with raising_interrupts():
        pass
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def swallowing() -> None:
    """What torch's exporter does with whatever is raised inside it."""
    try:
        signal.raise_signal(signal.SIGTERM)
    except Exception:  # noqa: BLE001
        return


def translating() -> None:
    """What the import of a C extension does."""
    try:
        signal.raise_signal(signal.SIGTERM)
    except BaseException:  # noqa: BLE001
        raise ImportError("initialization failed") from None


def test_a_signal_that_a_library_swallows_is_not_lost() -> None:
    with pytest.raises(Interrupted), raising_interrupts():
        swallowing()


def test_a_signal_that_a_library_takes_for_its_own_failure_is_an_interrupt() -> None:
    with pytest.raises(Interrupted), raising_interrupts():
        translating()


CTRL_C_AT = """
import signal, sys
def press(event, arguments):
    if event == "import" and arguments[0] == {module!r}:
        signal.raise_signal(signal.SIGINT)
sys.addaudithook(press)
"""


@pytest.mark.parametrize("module", ["typer", "pydantic", "mlctl.cli.boundary", "mlctl.engine.plan"])
def test_ctrl_c_while_the_command_starts_shows_no_traceback(lab: Lab, module: str) -> None:
    with lab.start("plan tiny.yaml", code=CTRL_C_AT.format(module=module) + COMMAND) as process:
        result = finished(process)
    assert "Traceback" not in result.err
    assert result.code in (130, -signal.SIGINT)


def test_where_nothing_was_kept_nobody_says_that_it_goes_on(lab: Lab) -> None:
    """Torch is loaded before the first step of a training."""
    with lab.start("train tiny.yaml --threads 1", code=CTRL_C_AT.format(module="torch") + COMMAND) as process:
        result = finished(process)
    assert result.code == 130
    assert result.err.endswith("mlctl: train: stopped by SIGINT\n  next: run the same command again\n")
