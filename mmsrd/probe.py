"""Dry run: what a model's taps return, without training data and without side effects."""
from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass
from typing import Iterator, Sequence

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from .errors import TapError
from .rng import preserved_rng
from .taps import TapSet

SIDES = (128, 224, 256, 384, 512, 336, 448, 32, 192, 299)
"""Sides of the square dry-run images; some models take only one of them."""


@dataclass(frozen=True)
class Probe:
    """Result of a dry run.

    Attributes:
        image: Size (H, W) of the image.
        channels: Channels of the image.
        shapes: Path → shape of each level, with a batch of one.
        calls: Path → number of calls of the module in one forward pass.
        trains: Paths whose output depends on trainable parameters; empty unless gradients were asked for.
    """

    image: tuple[int, int]
    channels: int
    shapes: dict[str, list[tuple[int, ...]]]
    calls: dict[str, int]
    trains: frozenset[str] = frozenset()


def dummy_samples(inputs: Tensor) -> list[BaseDataElement]:
    """Data samples with the image sizes that detectors read from them."""
    size = tuple(inputs.shape[-2:])
    meta = dict(img_shape=size, ori_shape=size, pad_shape=size, batch_input_shape=size, scale_factor=(1.0, 1.0))
    return [BaseDataElement(metainfo=meta) for _ in range(len(inputs))]


def trained_part(model: nn.Module) -> tuple[str, nn.Module]:
    """The detector that is trained, and the start of its paths.

    Semi-supervised detectors hold it as ``student``, beside a teacher of their own that
    their forward pass may use instead.
    """
    inner = getattr(model, 'student', None)
    return ('student.', inner) if isinstance(inner, nn.Module) and hasattr(inner, 'backbone') else ('', model)


def channel_candidates(model: nn.Module) -> list[int]:
    """Channels that the images of ``model`` may have: 3, or what its first convolution takes (after a space-to-depth
    stem that is not the same)."""
    first = next((m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d)), 3)
    return list(dict.fromkeys([3, first]))


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """``model`` in ``eval()`` inside of the block; afterwards each module has its own training flag back."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, flag in training.items():
            module.training = flag


def probe(model: nn.Module, taps: TapSet, sides: Sequence[int] = SIDES, gradients: bool = False,
          images: int = 1) -> Probe:
    """Run ``model`` on a random image in ``mode='tensor'`` and look at its taps.

    The model is in ``eval()`` meanwhile, so no statistics change; its training
    flags and all random states are restored. A forward that fails after all taps
    have been recorded (a head that wants annotations, say) is good enough. Taps whose
    output the model goes on to change in place are set to record copies.

    Args:
        model: Model in MMEngine's calling convention.
        taps: Its taps.
        sides: Sides of the square image to try, in this order.
        gradients: Whether to build the graph, to learn which outputs can be trained.
        images: Number of images in the batch.

    Raises:
        TapError: No image size made all taps fire; the message has the model's error.
    """
    device = next((p.device for p in model.parameters()), torch.device('cpu'))
    failure: Exception | None = None
    try:
        with evaluating(model), preserved_rng(), torch.set_grad_enabled(gradients):
            torch.manual_seed(0)
            for channels, side in itertools.product(channel_candidates(model), sides):
                inputs = torch.randn(images, channels, side, side, device=device)
                taps.arm()
                try:
                    trained_part(model)[1](inputs=inputs, data_samples=dummy_samples(inputs), mode='tensor')
                except Exception as e:  # any architecture may fail in its own way
                    failure = e
                calls = taps.calls()
                if all(calls.values()):
                    changed = [tap for tap in taps.taps.values() if not tap.copies and tap.overwritten()]
                    if changed:
                        for tap in changed:
                            tap.copies = True
                        return probe(model, taps, (side,), gradients, images)
                    taken = taps.take()
                    if images == 1 and any(x.dim() == 1 for levels in taken.values() for x in levels):
                        return probe(model, taps, (side,), gradients, images=2)  # it squeezes a batch of one
                    shapes = {path: [tuple(x.shape) for x in levels] for path, levels in taken.items()}
                    trains = frozenset(path for path, levels in taken.items() if any(x.requires_grad for x in levels))
                    return Probe((side, side), channels, shapes, calls, trains)
            silent = next(tap for tap in taps.taps.values() if not calls[tap.path])
            reason = f'; the forward pass ended with {type(failure).__name__}: {failure}' if failure else ''
            raise TapError.at(silent.key, silent.path,
                              f'the module is not called by {type(model).__name__}.forward{reason}')
    finally:
        taps.disarm()


def dry_run(model: nn.Module, path: str, key: str, gradients: bool = False) -> Probe:
    """Look at one module: :func:`probe` with a tap that is gone afterwards.

    Args:
        model: Model in MMEngine's calling convention.
        path: Dotted path of the module.
        key: Config key, for messages.
        gradients: As for :func:`probe`.

    Raises:
        TapError: There is no such module, or no image size made it run.
    """
    taps = TapSet(model, {path: key})
    try:
        return probe(model, taps, SIDES, gradients)
    finally:
        taps.remove()
