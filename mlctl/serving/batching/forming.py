"""Which of the waiting requests become the next batch. Nothing waits here: there is a batch as soon as one asks."""

from collections.abc import Sequence
from typing import Final

from mlctl.serving.batching.costs import Costs
from mlctl.serving.batching.waiting import Waiting

_TIE: Final = 0.97
"""What gains less than 3 % over a smaller batch gains nothing."""


def form(waiting: Sequence[Waiting], costs: Costs, padding: float, free: int = 1) -> list[Waiting]:
    """The next batch out of `waiting`, which are at least one, in the order of their arrival.

    The oldest is always in it, so that nobody waits for ever. The others have its key, and its length or one near it:
    as many as make the rows per second most, but no more than their share where `free` workers are idle. `padding`
    is the most padded tokens per real token.
    """
    oldest = waiting[0]
    if not costs.can_join:
        return [oldest]
    alike = [each for each in waiting if each.key == oldest.key]
    if not costs.can_pad:
        alike = [each for each in alike if each.length == oldest.length]
    if len(alike) == 1:
        return alike
    if free > 1:
        alike = alike[: -(-len(alike) // free)]
    if len({each.length for each in alike}) == 1:
        return _of_one_length(alike, costs)
    return _of_neighbours(alike, costs, padding)


def _of_one_length(alike: list[Waiting], costs: Costs) -> list[Waiting]:
    wanted = costs.best(sum([each.rows for each in alike]), alike[0].length)
    rows, count = 0, 0
    for each in alike:
        rows += each.rows
        if rows > wanted:
            break
        count += 1
    if rows <= wanted:
        return alike
    # A request that is too large for what is left is the oldest of the next batch; nobody overtakes it.
    return alike[: max(1, count)]


def _of_neighbours(alike: list[Waiting], costs: Costs, padding: float) -> list[Waiting]:
    """The batch that takes the least time against computing every request apart, of those within the padding."""
    oldest = alike[0]
    near = sorted(alike[1:], key=lambda each: abs(each.length - oldest.length))
    batch, length, rows = [oldest], oldest.length, oldest.rows
    tokens, apart = rows * length, costs.price(rows, length)
    chosen, gain = 1, 1.0
    for each in near:
        longest = max(length, each.length)
        total, real = rows + each.rows, tokens + each.rows * each.length
        if total * longest > padding * real or total > costs.best(costs.max_size, longest):
            continue
        batch.append(each)
        rows, length, tokens = total, longest, real
        apart += costs.price(each.rows, each.length)
        found = apart / costs.price(rows, length)
        if found * _TIE > gain:
            chosen, gain = len(batch), found
    return batch[:chosen]
