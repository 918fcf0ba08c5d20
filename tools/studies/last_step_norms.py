"""``LastStepNorms``: a balance that follows the norms of the step before, instead of their running means."""
from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmsrd.distillers import balance


class LastStepNorms(Hook):
    """For the row of the detection study that shows what the running means are good for."""

    def before_train(self, runner: Runner) -> None:
        """No part of the means is kept from the steps before."""
        balance.MOMENTUM = 0.0
