"""The student's optimizer, which trains the projectors, too."""
from __future__ import annotations

import copy
import logging
from typing import Any, Mapping, Sequence

from mmengine.logging import print_log
from mmengine.optim import OptimWrapperDict
from torch import nn

from ..distillers import CHILD
from ..errors import CheckpointError


def with_own_settings(options: Any, distiller: nn.Module) -> Any:
    """Return a config's ``optim_wrapper`` whose ``custom_keys`` for the student leave the projectors alone.

    MMEngine looks for a key anywhere in a parameter's name, and the names of losses are in those of projectors. A key
    that names the distiller is meant for them.

    Args:
        options: ``optim_wrapper``; it is not changed. One that is built already is returned as it is.
        distiller: The student's distiller.
    """
    settings = options.get('paramwise_cfg') if isinstance(options, dict) else None
    keys = (settings or {}).get('custom_keys') or {}
    names = [f'{CHILD}.{name}' for name, _ in distiller.named_parameters()]
    if any(CHILD in key for key in keys) or not any(key in name for key in keys for name in names):
        return options
    changed = copy.deepcopy(options)
    changed['paramwise_cfg']['custom_keys'][f'{CHILD}.losses'] = {}  # the longest key that is found counts
    return changed


def tell_untrained(optim_wrapper: Any, distiller: nn.Module) -> None:
    """Warn of projectors that an optimizer does not train; a constructor of a toolbox may take certain names only."""
    several = list(optim_wrapper.values()) if isinstance(optim_wrapper, OptimWrapperDict) else [optim_wrapper]
    trained = {id(parameter) for one in several for group in one.param_groups for parameter in group['params']}
    missing = [f'{CHILD}.{name}' for name, parameter in distiller.named_parameters()
               if parameter.requires_grad and id(parameter) not in trained]
    if missing:
        print_log(f'optim_wrapper.constructor leaves out parameters of the projectors, so they stay as they began: '
                  f'{", ".join(missing)}', logger='current', level=logging.WARNING)


def restore_order(checkpoint: dict[str, Any], model: nn.Module, distiller_key: str) -> None:
    """Give each parameter its own state: an optimizer knows parameters by their order.

    The order is that of the losses in the config, and of the tasks of a head. Scripts that sort a config, as
    ``tools/train.py`` did before version 1.0, trained in another order.

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
