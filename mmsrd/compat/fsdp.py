"""MMEngine's FSDP strategy on current PyTorch."""
from __future__ import annotations

from typing import Any

from mmengine._strategy.fsdp import FSDPStrategy
from torch.distributed.fsdp import FullyShardedDataParallel


class CurrentFSDPStrategy(FSDPStrategy):
    """MMEngine 0.10.7 passes the arguments in the order that PyTorch had before 2.1, so a resume would fail."""

    def load_optim_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the optimizer's state, whole or sharded as it was saved."""
        self.optim_wrapper.load_state_dict(FullyShardedDataParallel.optim_state_dict_to_load(
            model=self.model, optim=self.optim_wrapper.optimizer, optim_state_dict=state_dict))
