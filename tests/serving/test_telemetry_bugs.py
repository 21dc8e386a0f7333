"""Errors that nobody foresaw: one line each on stderr, at once, and the server goes on."""

import asyncio
import json
import select
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop
from conftest import COMMAND, Lab, kill
from published_models import graph_bytes
from served_processes import ServedProcess

from mlctl.events import Event, Warned
from mlctl.serving.telemetry.bugs import bug_text, tell_bugs

BROKEN_SHELF = (
    """
from mlctl.serving.shelf import OneFile

def broken(shelf):
    raise RuntimeError("a shelf\\nwith a bug")

names, OneFile.names = OneFile.names, lambda shelf: (setattr(OneFile, "names", broken), names(shelf))[1]
"""
    + COMMAND
)


def fails() -> None:
    raise KeyError("x")


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_what_callbacks_and_lost_tasks_raise_is_told(run: Callable[[Coroutine[Any, Any, None]], None]) -> None:
    told: list[Event] = []

    async def raising() -> None:
        fails()

    async def tried() -> None:
        loop = asyncio.get_running_loop()
        tell_bugs(loop, told.append)
        loop.call_soon(fails)
        task = loop.create_task(raising())
        await asyncio.sleep(0.01)
        del task
        loop.call_exception_handler({"message": "something odd"})

    run(tried())
    texts = [each.text for each in told if isinstance(each, Warned)]
    assert len(texts) == len(told) == 3
    assert all("KeyError: 'x' (" in text and "in fails)" in text for text in texts[:2])
    assert texts[2] == "something odd"


def test_of_many_calls_the_innermost_are_named() -> None:
    def deep(more: int) -> None:
        if more:
            deep(more - 1)
        fails()

    with pytest.raises(KeyError) as caught:
        deep(50)
    text = bug_text(caught.value)
    assert text.count("in deep") == 5
    assert text.endswith("in fails)")
    assert bug_text(ValueError("never raised")) == "ValueError: never raised"


def test_a_bug_in_following_is_one_line_on_stderr_while_the_server_goes_on(lab: Lab) -> None:
    (lab.folder / "softmax.onnx").write_bytes(graph_bytes())
    with lab.start("serve softmax.onnx --port 0 --json --quiet", code=BROKEN_SHELF) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            server = ServedProcess(process, json.loads(process.stdout.readline()))
            assert select.select([process.stderr], [], [], 60)[0], "nothing was told"
            line = json.loads(process.stderr.readline())
            assert line["level"] == "warning"
            assert "a bug in the server: RuntimeError: a shelf\nwith a bug (" in line["event"]
            assert server.infer("softmax", [0.0, 1.0, 2.0, 3.0]).status == 200
            result = server.end()
        finally:
            kill(process)
    assert (result.code, result.err) == (0, "")
