"""A training that kills itself, to put resuming to the test."""

import os
import signal

from mlctl.training import loop
from mlctl.training.run import Run


class DyingRun(Run):
    """A training that writes a checkpoint after a certain step, and is killed after a certain later one."""

    checkpoint_after: int
    killed_after: int
    """Both from 1, over all epochs."""

    def between_steps(self) -> None:
        """As ever, until its time has come."""
        super().between_steps()
        done = self.state.epoch * self.steps + self.state.step
        if done == self.checkpoint_after:
            self.write_checkpoint()
            self.checkpoints.finish()
        if done >= self.killed_after:
            os.kill(os.getpid(), signal.SIGKILL)


def die(checkpoint_after: int, killed_after: int) -> None:
    """Let every training of this process from now on be a DyingRun; `checkpoint_after` is no later than its death."""
    DyingRun.checkpoint_after, DyingRun.killed_after = checkpoint_after, killed_after
    loop.Run = DyingRun  # type: ignore[attr-defined]
