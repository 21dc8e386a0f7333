import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlctl.training.prefetching import prefetched

PATIENCE = 30.0


@given(count=st.integers(0, 20), ahead=st.integers(1, 5))
def test_results_come_in_order(count: int, ahead: int) -> None:
    assert list(prefetched((partial(int, number) for number in range(count)), ahead)) == list(range(count))


def test_one_thread_works_ahead_and_no_further() -> None:
    """With two ahead, the third is being made while the first is used, and the fourth is not asked for."""
    made: list[int] = []
    third = threading.Event()
    asked: list[int] = []

    def make(number: int) -> int:
        made.append(number)
        assert threading.current_thread() is not threading.main_thread()
        if number == 2:
            third.set()
        return number

    def makers() -> Iterator[Callable[[], int]]:
        for number in range(9):
            asked.append(number)
            yield partial(make, number)

    with closing(prefetched(makers(), 2)) as results:
        assert next(results) == 0
        assert third.wait(PATIENCE)
        assert asked == [0, 1, 2]
        assert next(results) == 1
        assert asked == [0, 1, 2, 3]


def test_an_error_comes_out_where_its_result_was_due() -> None:
    results = prefetched([partial(int, "1"), partial(int, "two"), partial(int, "3")])
    assert next(results) == 1
    with pytest.raises(ValueError, match="'two'"):
        next(results)
    assert threads() == []


@pytest.mark.parametrize("leaves", [KeyboardInterrupt, ZeroDivisionError])
def test_no_thread_is_left_when_the_caller_leaves(leaves: type[BaseException]) -> None:
    def use() -> None:
        with closing(prefetched(partial(int, number) for number in range(100))) as results:
            for result in results:
                if result == 3:
                    raise leaves

    with pytest.raises(leaves):
        use()
    assert threads() == []


def threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("prefetching")]
