"""The processes that carry out one plan together."""

from typing import Final

from mlctl.engine.verdict import Verdict
from mlctl.errors import Refusal


class Company:
    """The processes that carry out one plan together, as one of them sees it. This one is alone.

    Steps of a stage that `is_shared_work` are worked on by all at once. The leader, of `rank` 0, publishes what comes
    of it; the others work in private, keep nothing, and leave out what no shared step needs.
    """

    rank: int = 0

    @property
    def is_follower(self) -> bool:
        """Whether another process leads."""
        return self.rank > 0

    def agreed(self, word: str) -> str:
        """The leader's word, once every process is here to hear it; that of the others is not heard."""
        return word

    def blamed(self, error: Refusal) -> Refusal:
        """What all processes give as their failure where this one has come to `error`: what failed first in any."""
        return error

    def voiced(self, verdict: Verdict) -> Verdict:
        """The verdict, as a FollowersVerdict where it is not for this process to show it."""
        return verdict


ALONE: Final = Company()
