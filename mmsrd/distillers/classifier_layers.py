"""Where a classifier makes its last feature and its logits."""
from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..errors import TapError
from ..recorders import DryRun


def last_linear(model: nn.Module, run: DryRun | None = None) -> str | None:
    """Path of the linear layer that makes the logits: the last of the head, or one that ends the backbone (VGG).

    Args:
        model: A classifier.
        run: Its dry run that has looked at all modules; without it, a linear layer that is the last of the backbone
            is taken for its end.
    """
    for root in ('head', 'backbone', 'model'):
        part = getattr(model, root, None)
        linear = [f'{root}.{name}'.rstrip('.') for name, module in part.named_modules()
                  if isinstance(module, nn.Linear)] if isinstance(part, nn.Module) else []
        if linear and (root != 'backbone' or run is None or _ends_with(run, linear[-1])) \
                and (root != 'model' or run is None or _gives_a_vector(run, linear[-1])):
            return linear[-1]
    return None


def prediction(run: DryRun) -> str | None:
    """Path of the module that makes what a classifier predicts: the last linear layer, or a head that has several.

    None where there is neither: a head may also give several tensors.

    Args:
        run: Dry run of a classifier, in evaluation mode, that has looked at all modules.
    """
    linear = last_linear(run.model, run)
    if linear is None or not run.num_calls(linear) or not any(call.module is run.model for call in run.calls):
        return linear
    part = run.model.get_submodule(linear.partition('.')[0])
    if sum(isinstance(module, nn.Linear) for module in part.modules()) == 1:
        return linear  # whatever else the model returns
    return next((path for path in (linear, 'head') if _is_predicted(run, path)), None)


def last_feature(run: DryRun) -> str | None:
    """Path of the last feature: of a neck that pools, else the backbone, else what feeds the last linear layer.

    Args:
        run: Dry run of a classifier that has looked at all modules.
    """
    model, linear = run.model, last_linear(run.model, run)
    ends_in_logits = linear is not None and linear.startswith('backbone.')
    if isinstance(getattr(model, 'neck', None), nn.Module) and not ends_in_logits and _gives_a_vector(run, 'neck'):
        return 'neck'
    if isinstance(getattr(model, 'backbone', None), nn.Module) and not ends_in_logits:
        return 'backbone'
    return None if linear is None else _source_of(run, linear)


def _gives_a_vector(run: DryRun, path: str) -> bool:
    """Return whether the last level of the module at ``path`` is a vector."""
    try:
        return len(run.shapes(path, '')[-1]) == 2
    except TapError:
        return False


def _is_predicted(run: DryRun, path: str) -> bool:
    """Return whether the model returns the one tensor that the module at ``path`` makes."""
    if not isinstance(getattr(run.model, path.partition('.')[0], None), nn.Module) or not run.num_calls(path):
        return False
    returned, made = ([call.output for call in run.calls if call.module is module][-1]
                      for module in (run.model, run.model.get_submodule(path)))
    while isinstance(returned, (tuple, list)) and len(returned) == 1:
        returned = returned[0]
    return _same_memory(made[0] if isinstance(made, (tuple, list)) and len(made) == 1 else made, returned)


def _ends_with(run: DryRun, path: str) -> bool:
    """Return whether the backbone returns the output of the module at ``path``."""
    calls, whole = run.calls_of(path), run.calls_of('backbone')
    if not calls or not whole:
        return False
    returned = whole[-1].output
    return any(x is calls[-1].output for x in (returned if isinstance(returned, (tuple, list)) else [returned]))


def _source_of(run: DryRun, path: str) -> str | None:
    """Path of the module whose output, or a view of it, goes into the module at ``path``; dropout does not count."""
    fed = run.calls_of(path)
    names = {module: name for name, module in run.model.named_modules() if name}
    sources = [names[call.module] for call in run.calls if fed and call.module in names
               and _same_memory(call.output, fed[-1].input) and not isinstance(call.module, nn.Dropout)]
    return sources[-1] if sources else None


def _same_memory(a: Any, b: Any) -> bool:
    return isinstance(a, Tensor) and isinstance(b, Tensor) and a.data_ptr() == b.data_ptr() and a.numel() == b.numel()
