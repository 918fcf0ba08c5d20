"""The optimizer's state of a run whose parameters were in another order."""
from __future__ import annotations

from typing import Any, Mapping, Sequence

from torch import nn

from ..distillers import CHILD
from ..errors import CheckpointError


def restore_order(checkpoint: dict[str, Any], model: nn.Module, distiller_key: str) -> None:
    """Give each parameter its own state: an optimizer knows parameters by their order.

    The order is that of the losses in the config, and of the tasks of a head. Scripts that sort a config, as
    ``tools/train.py`` did before version 1.0, began runs in another order.

    Args:
        checkpoint: The checkpoint, whose ``optimizer`` and ``param_schedulers`` are changed where the order is another.
        model: The student, with its distiller.
        distiller_key: Where the checkpoint keeps the distiller.

    Raises:
        CheckpointError: The order differs, and the optimizer's parameter groups do not tell the parameters apart.
    """
    now = [name for name, _ in model.named_parameters()]
    known = set(now)
    saved = [name for name in (*checkpoint.get('state_dict', ()), *(
        f'{CHILD}.{name}' for name in checkpoint[distiller_key]['state_dict'])) if name in known]
    if saved == now or set(saved) != known or 'optimizer' not in checkpoint:
        return
    groups = checkpoint['optimizer'].get('param_groups')
    ids = [number for group in groups or () for number in group['params']]
    if any(isinstance(number, str) for number in ids):
        return  # saved by name
    if len(ids) != len(now) or (len(groups) > 1 and len(groups) != len(ids)):
        raise CheckpointError('resume: the config lists losses or tasks of a head in another order than the run that '
                              'saved the checkpoint, and the optimizer state cannot be matched to the parameters; '
                              'restore their order in the config')
    place = {name: i for i, name in enumerate(saved)}
    order = [place[name] for name in now]
    if len(groups) == 1:
        groups[0]['params'] = [ids[i] for i in order]
        return
    checkpoint['optimizer']['param_groups'] = [groups[i] for i in order]
    for scheduler in _schedulers(checkpoint.get('param_schedulers')):
        for key, values in scheduler.items():
            if isinstance(values, list) and len(values) == len(order):  # a value for each group
                scheduler[key] = [values[i] for i in order]


def _schedulers(saved: Any) -> Sequence[dict[str, Any]]:
    lists = saved.values() if isinstance(saved, Mapping) else [saved or ()]
    return [scheduler for schedulers in lists for scheduler in schedulers if isinstance(scheduler, dict)]
