"""Which requests become the next batch."""

from batching_models import costs, waiting
from hypothesis import given
from hypothesis import strategies as st

from mlctl.serving.batching.costs import Costs, Curve
from mlctl.serving.batching.forming import form
from mlctl.serving.batching.waiting import Waiting

PADDING = 1.25
REQUESTS = st.lists(
    st.builds(
        lambda rows, length, key: waiting(rows, length, key=key),
        st.integers(1, 8),
        st.integers(1, 40),
        st.sampled_from("ab"),
    ),
    min_size=1,
    max_size=40,
)


def lengths(batch: list[Waiting]) -> list[int]:
    return [each.length for each in batch]


@given(REQUESTS, st.booleans(), st.integers(1, 3), st.floats(0, 10), st.floats(0.001, 10))
def test_a_batch_holds_the_oldest_and_what_may_be_joined_with_it(
    queue: list[Waiting], can_pad: bool, free: int, fixed: float, per_row: float
) -> None:
    known = costs(8, fixed=fixed, per_row=per_row, can_pad=can_pad)
    batch = form(queue, known, PADDING, free)
    assert batch[0] is queue[0]
    assert len({id(each) for each in batch}) == len(batch)
    assert {id(each) for each in batch} <= {id(each) for each in queue}
    assert {each.key for each in batch} == {queue[0].key}
    rows = sum(each.rows for each in batch)
    assert rows <= 8
    longest = max(lengths(batch))
    assert rows * longest <= PADDING * sum(each.rows * each.length for each in batch)
    if not can_pad:
        assert len(set(lengths(batch))) == 1
    # A batch that is dearer than its requests apart is never formed.
    apart = sum(known.seconds(each.rows, each.length) for each in batch)
    assert known.seconds(rows, longest) <= apart * (1 + 1e-9)


@given(REQUESTS)
def test_every_request_is_in_a_batch_in_the_end(queue: list[Waiting]) -> None:
    left, batches = list(queue), 0
    while left:
        taken = {id(each) for each in form(left, costs(8), PADDING)}
        left = [each for each in left if id(each) not in taken]
        batches += 1
    assert batches <= len(queue)


def test_a_batch_takes_what_is_there_where_that_pays() -> None:
    queue = [waiting(1, 8) for _ in range(5)]
    assert form(queue, costs(8), PADDING) == queue
    assert len(form([waiting(1, 8) for _ in range(20)], costs(8), PADDING)) == 8


def test_nothing_is_joined_where_a_batch_gives_no_more_rows_per_second() -> None:
    queue = [waiting(1, 8) for _ in range(5)]
    assert form(queue, costs(8, fixed=0.001, per_row=1.0), PADDING) == queue[:1]
    ragged = [waiting(1, 8), waiting(1, 9), waiting(1, 8)]
    assert form(ragged, costs(8, fixed=0.001, per_row=1.0), PADDING) == ragged[:1]


def test_neighbours_in_length_are_joined_and_far_ones_are_not() -> None:
    queue = [waiting(1, length) for length in (20, 4, 21, 40, 19, 22)]
    assert sorted(lengths(form(queue, costs(8), PADDING))) == [19, 20, 21, 22]


def test_padding_that_costs_more_than_a_batch_of_its_own_is_not_computed() -> None:
    # Twice the length is five times the price: what is within the budget of padding need not pay.
    steep = Costs((Curve(8, (1, 2, 4), (1.0, 1.9, 3.8)), Curve(10, (1, 2, 4), (5.0, 10.0, 20.0))), 4, True, True)
    queue = [waiting(1, 8), waiting(1, 10)]
    assert form(queue, steep, 2.0) == queue[:1]


def test_idle_workers_share_what_is_there() -> None:
    queue = [waiting(1, 8) for _ in range(6)]
    assert form(queue, costs(8), PADDING, free=2) == queue[:3]


def test_a_large_request_is_not_overtaken_by_smaller_ones_behind_it() -> None:
    queue = [waiting(2, 8), waiting(7, 8), waiting(1, 8)]
    assert form(queue, costs(8), PADDING) == queue[:1]
