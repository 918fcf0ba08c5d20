"""A call of a student's forward: its arguments by name, and the batches of images in them."""
from __future__ import annotations

import inspect
from typing import Any, Mapping, Optional, Sequence, Tuple

from torch import Tensor, nn

from ..errors import ConfigError, FeatureMismatchError

Batch = Tuple[Tensor, Optional[Sequence[Any]]]
"""Normalised images (N, C, H, W) and their data samples."""
ORDER = ('inputs', 'data_samples', 'mode')
"""Arguments of a model's forward in MMEngine's calling convention."""


def arguments_of(student: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments of ``student.forward`` by name, defaults included, as MMEngine names them where it takes any.

    Args:
        student: The student.
        args: Positional arguments of its call.
        kwargs: Keyword arguments of its call.
    """
    signature = inspect.signature(student.forward)
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    arguments = dict(bound.arguments)
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:  # a wrapper that passes everything on
            arguments.update(arguments.pop(name))
        elif parameter.kind is parameter.VAR_POSITIONAL:
            arguments.update(zip([each for each in ORDER if each not in arguments], arguments.pop(name)))
    return arguments


def batches_of(student: nn.Module, inputs: Any, data_samples: Any, seen: Sequence[Any]) -> list[Batch]:
    """Batches that the student itself has seen, in the order of its calls.

    Args:
        student: The student, for messages.
        inputs: One batch, or several by name: a semi-supervised detector gets some for its own teacher, too.
        data_samples: Data samples, by the same names.
        seen: What the backbone of the trained part was called with.

    Raises:
        ConfigError: ``inputs`` are no images, or the backbone has seen others.
    """
    if isinstance(inputs, Tensor):
        return [(inputs, data_samples)]
    if isinstance(inputs, Mapping) and inputs and all(isinstance(x, Tensor) for x in inputs.values()):
        names = [next((name for name, batch in inputs.items() if batch is images), None) for images in seen]
        if not names or None in names:
            raise ConfigError(f'{type(student).__name__}: the backbone of the trained detector sees other images than '
                              f'the batches {", ".join(inputs)}, so the images for the teacher are unknown')
        return [(inputs[name], data_samples[name]) for name in names if name is not None]
    raise ConfigError(f'{type(student).__name__} gets its inputs as a {type(inputs).__name__}; distillation needs '
                      'a tensor (N, C, H, W), or a dict of them for a semi-supervised detector')


def split_by_batch(levels: list[Tensor], batches: Sequence[Batch], tap: str) -> list[list[Tensor]]:
    """Recorded levels of each batch.

    Args:
        levels: Levels of all calls of a module, in their order.
        batches: What the student has seen, in the order of its calls.
        tap: Config key and path of the module, for messages.

    Raises:
        FeatureMismatchError: The module was not called equally often for each batch.
    """
    each, rest = divmod(len(levels), len(batches))
    split = [levels[i * each:(i + 1) * each] for i in range(len(batches))]
    if rest or (len(batches) > 1 and any(level.size(0) != batch[0].size(0) for own, batch in zip(
            split, batches) for level in own)):
        raise FeatureMismatchError(f'{tap}: gave {len(levels)} levels for {len(batches)} batches; tap a module that is '
                                   'called once for each')
    return split
