"""Parts of any model in MMEngine's calling convention: modules by path, the trained part, samples, flags."""
from __future__ import annotations

import contextlib
from typing import Any, Iterable, Iterator

from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from ..errors import TapError, did_you_mean

EXTRACT_FEAT = 'extract_feat'
FORWARDS = (EXTRACT_FEAT, 'tensor')
"""Ways to run a model: backbone and neck by its own ``extract_feat``, or all of it by ``mode='tensor'``."""


def find_modules(model: nn.Module, path: str, key: str) -> list[nn.Module]:
    """Return what is called at dotted ``path``: the submodule, or the members of a list that has no forward pass.

    Args:
        model: The model.
        path: Dotted path, also a second one of a shared module.
        key: Config key that named it, for messages.

    Raises:
        TapError: There is none; the message names the closest existing paths.
    """
    modules: dict[str, nn.Module] = dict(model.named_modules(remove_duplicate=False))
    modules.pop('', None)
    if path in modules:
        return list(dict.fromkeys(_members(modules[path])))  # a member may be in a list several times
    parent = path
    while parent and parent not in modules:
        parent = parent.rpartition('.')[0]
    children = [name for name, _ in (modules[parent] if parent else model).named_children()]
    raise TapError.at(
        key, path, f'{type(model).__name__} has no such module{did_you_mean(path, modules)}. '
        f'Modules of {parent or type(model).__name__}: {", ".join(children) or "none"}')


def _members(module: nn.Module) -> Iterator[nn.Module]:
    if isinstance(module, nn.ModuleList) and type(module).forward is nn.Module.forward:
        for member in module:
            yield from _members(member)
    else:
        yield module


def unique_paths(named: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return ``(path, key)`` pairs as path → first key, so that two losses share one recorder."""
    paths: dict[str, str] = {}
    for path, key in named:
        paths.setdefault(path, key)
    return paths


def dummy_samples(inputs: Tensor) -> list[BaseDataElement]:
    """Return data samples with the image sizes that detectors read from them."""
    size = tuple(inputs.shape[-2:])
    meta = dict(img_shape=size, ori_shape=size, pad_shape=size, batch_input_shape=size, scale_factor=(1.0, 1.0))
    return [BaseDataElement(metainfo=meta) for _ in range(len(inputs))]


def trained_part(model: nn.Module) -> tuple[str, nn.Module]:
    """Return the start of the paths of the detector that is trained, and the detector.

    Semi-supervised detectors hold it as ``student``, beside a teacher of their own that
    their forward pass may use instead.
    """
    inner = getattr(model, 'student', None)
    return ('student.', inner) if isinstance(inner, nn.Module) and hasattr(inner, 'backbone') else ('', model)


def run_forward(model: nn.Module, forward: str, images: Tensor, data_samples: Any = None) -> None:
    """Run the trained part of ``model`` without a loss, for what it calls on the way.

    Args:
        model: Model in MMEngine's calling convention.
        forward: One of :data:`FORWARDS`.
        images: Normalised images (N, C, H, W).
        data_samples: Their data samples; ``extract_feat`` needs none.
    """
    inner: Any = trained_part(model)[1]
    if forward == EXTRACT_FEAT:
        inner.extract_feat(images)
    else:
        inner(inputs=images, data_samples=data_samples, mode='tensor')


def channel_candidates(model: nn.Module) -> list[int]:
    """Return the channels that the images of ``model`` may have: 3, or those of its first convolution.

    After a space-to-depth stem these are not the same.
    """
    first = next((m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d)), 3)
    return list(dict.fromkeys([3, first]))


def fixed_sides(model: nn.Module) -> list[int]:
    """Return the sides of the square images that parts of ``model`` were made for (``img_size``), if any say so."""
    sizes = [getattr(module, 'img_size', None) for module in model.modules()]
    sides = [size[0] if isinstance(size, (tuple, list)) and len(set(size)) == 1 else size for size in sizes]
    return list(dict.fromkeys(side for side in sides if isinstance(side, int) and 16 <= side <= 512))


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put ``model`` into ``eval()`` inside of the block; afterwards each module has its own training flag back."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, flag in training.items():
            module.training = flag
