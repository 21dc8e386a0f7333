"""The n-gram baseline of language modelling: interpolated modified Kneser-Ney (Chen & Goodman 1998, section 3)."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Ids: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Order:
    """All n-grams of one length: keys [N] ascending, with their discounted shares of their contexts.

    `contexts` [C] ascending are the keys of the first n - 1 tokens, `left_over` [C] what the discounts leave of each
    context's mass for shorter n-grams.
    """

    keys: Ids
    shares: Floats
    contexts: Ids
    left_over: Floats


class KneserNey:
    """Probabilities of tokens after the `length` - 1 tokens before them, learnt from one stream."""

    def __init__(self, stream: Ids, vocabulary: int, length: int = 5) -> None:
        """`stream` [N] holds numbers below `vocabulary`; an n-gram of `length` tokens must fit 63 bits."""
        if vocabulary**length >= 2**63:
            raise ValueError(f"{length}-grams over {vocabulary} tokens do not fit 63 bits")
        self.vocabulary = vocabulary
        self.length = length
        self.orders: list[Order] = []
        grams, counts = np.unique(keys_of(stream, length, vocabulary), return_counts=True)
        for size in range(length, 0, -1):
            self.orders.insert(0, _order(grams, counts, vocabulary))
            # A shorter n-gram counts by how many different tokens it follows, not by how often it is there.
            grams, counts = np.unique(grams % vocabulary ** (size - 1), return_counts=True)

    def bits(self, stream: Ids) -> Floats:
        """Minus the binary logarithm of the probability of every token but the first `length` - 1: [N - length + 1]."""
        chances: Floats = np.full(len(stream) - self.length + 1, 1 / self.vocabulary)
        for size, order in enumerate(self.orders, start=1):
            keys = keys_of(stream, size, self.vocabulary)[self.length - size :]
            known, place = _found(order.contexts, keys // self.vocabulary)
            own, at = _found(order.keys, keys)
            # A context that was never met says nothing: the shorter one stands as it is.
            left_over = np.where(known, order.left_over[place], 1.0)
            chances = np.where(own, order.shares[at], 0.0) + left_over * chances
        bits: Floats = -np.log2(chances)
        return bits


def keys_of(stream: Ids, size: int, vocabulary: int) -> Ids:
    """Every run of `size` tokens as one number, the first token the most significant: [N - size + 1]."""
    count = len(stream) - size + 1
    keys = np.zeros(count, np.int64)
    for place in range(size):
        keys = keys * vocabulary + stream[place : place + count]
    return keys


def _order(grams: Ids, counts: Ids, vocabulary: int) -> Order:
    once, twice, thrice, four = (max(1, int((counts == number).sum())) for number in (1, 2, 3, 4))
    base = once / (once + 2 * twice)
    discounts = np.array([0, 1 - 2 * base * twice / once, 2 - 3 * base * thrice / twice, 3 - 4 * base * four / thrice])
    taken = np.clip(discounts[np.minimum(counts, 3)], 0, counts)
    contexts, which = np.unique(grams // vocabulary, return_inverse=True)
    totals = np.bincount(which, weights=counts)
    left_over = np.bincount(which, weights=taken) / totals
    return Order(grams, (counts - taken) / totals[which], contexts, left_over)


def _found(sorted_keys: Ids, wanted: Ids) -> tuple[NDArray[np.bool_], Ids]:
    place = np.minimum(np.searchsorted(sorted_keys, wanted), len(sorted_keys) - 1)
    return sorted_keys[place] == wanted, place
