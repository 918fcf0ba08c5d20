"""Dry run: one forward pass that shows what the modules of a model return, without training data or side effects."""
from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from ..errors import TapError
from ..utils.random_state import preserved_random_state
from .model_parts import (
    EXTRACT_FEAT,
    FORWARDS,
    channel_candidates,
    dummy_samples,
    evaluating,
    find_modules,
    run_forward,
    trained_part,
)
from .output_recorder import as_levels, tensor_versions

SIDES = (128, 224, 256, 384, 512, 336, 448, 32, 192, 299)
"""Sides of the square dry-run images; some models take only one of them."""


@dataclass
class ModuleCall:
    """One call of a module: its first input, its output, and the output's write counters right after it."""

    module: nn.Module
    input: Any
    output: Any
    versions: list[int]


@dataclass
class DryRun:
    """Result of a dry run. It keeps the outputs alive: drop it before training.

    Attributes:
        model: The model.
        image: Size (H, W) of the image.
        channels: Channels of the image.
        forward: How the model was run, one of :data:`mmsrd.recorders.FORWARDS`.
        called: All modules that were called.
        calls: Calls of the modules that were looked at, in order.
        failure: What ended the forward pass early, if anything did.
    """

    model: nn.Module
    image: tuple[int, int] = (0, 0)
    channels: int = 3
    forward: str = FORWARDS[-1]
    called: set[nn.Module] = field(default_factory=set)
    calls: list[ModuleCall] = field(default_factory=list)
    failure: Exception | None = None

    def calls_of(self, path: str) -> list[ModuleCall]:
        """Return the calls of the module at ``path``, or of the members of a list there."""
        modules = set(find_modules(self.model, path, path))
        return [call for call in self.calls if call.module in modules]

    def levels(self, path: str, key: str) -> list[Tensor]:
        """Return the outputs of the module at ``path``.

        Raises:
            TapError: It was not called, or returned something without tensors; ``key`` and the model's error are named.
        """
        calls = self.calls_of(path)
        if not calls:
            reason = '' if self.failure is None else \
                f'; the forward pass ended with {type(self.failure).__name__}: {self.failure}'
            raise TapError.at(key, path, f'the module is not called by {type(self.model).__name__}.forward{reason}')
        return [level for call in calls for level in as_levels(call.output, key, path)]

    def shapes(self, path: str, key: str) -> list[tuple[int, ...]]:
        """Return the shapes of the outputs of the module at ``path``.

        Raises:
            TapError: As for :meth:`levels`.
        """
        return [tuple(level.shape) for level in self.levels(path, key)]

    def num_calls(self, path: str) -> int:
        """Return how often the module at ``path`` was called."""
        return len(self.calls_of(path))

    def is_overwritten(self, path: str) -> bool:
        """Return whether the model has written into an output of the module at ``path`` (``out += identity``)."""
        return any(tensor_versions(call.output) != call.versions for call in self.calls_of(path))

    def is_trained(self, path: str, key: str) -> bool:
        """Return whether outputs of the module at ``path`` depend on trainable parameters; needs ``gradients=True``.

        Raises:
            TapError: As for :meth:`levels`.
        """
        return any(level.requires_grad for level in self.levels(path, key))


@dataclass(frozen=True)
class Recording:
    """Recorded modules of a model, as its dry run has shown them.

    Attributes:
        paths: Dotted path → config key of the recorded modules.
        clones: Paths whose outputs the model goes on to write into.
        num_calls: Number of calls of each module in a forward pass, by path.
        image: Size (H, W) of the dry run's image.
        channels: Channels of it.
        forward: How the model was run, one of :data:`mmsrd.recorders.FORWARDS`.
    """

    paths: Mapping[str, str] = field(default_factory=dict)
    clones: tuple[str, ...] = ()
    num_calls: Mapping[str, int] = field(default_factory=dict)
    image: tuple[int, int] = (0, 0)
    channels: int = 3
    forward: str = FORWARDS[-1]

    @classmethod
    def from_run(cls, run: DryRun, paths: Mapping[str, str]) -> Recording:
        """Return what a dry run in which the modules at ``paths`` were called shows of them."""
        return cls(paths, tuple(path for path in paths if run.is_overwritten(path)),
                   {path: run.num_calls(path) for path in paths}, run.image, run.channels, run.forward)

    @property
    def forward_text(self) -> str:
        """Way in which the model is run, as text."""
        way = 'extract_feat' if self.forward == EXTRACT_FEAT else f'mode={self.forward!r}'
        return f'{way}, up to the last recorded module'

    def restrict(self, paths: Collection[str]) -> Recording:
        """Return the part of it that is at ``paths``."""
        return replace(self, paths={path: key for path, key in self.paths.items() if path in paths},
                       clones=tuple(path for path in self.clones if path in paths),
                       num_calls={path: count for path, count in self.num_calls.items() if path in paths})


def dry_run(model: nn.Module, paths: Mapping[str, str], sides: Sequence[int | tuple[int, int]] = SIDES,
            gradients: bool = False, everything: bool = False, partly: bool = False,
            forwards: Sequence[str] = FORWARDS, begin: Callable[[], None] = lambda: None) -> DryRun:
    """Run ``model`` on a random image and look at its modules.

    Sizes and channels are tried until the modules at ``paths`` have all been called: by the model's own
    ``extract_feat``, since heads may need more than images; where that does not reach them, in ``mode='tensor'``. The
    model is in ``eval()`` meanwhile, so no statistics change; its training flags and all
    random states are restored. A forward pass that fails after that (a head that wants
    annotations, say) is good enough, but where a module is called for each level, a size at which none fails is better.

    Args:
        model: Model in MMEngine's calling convention.
        paths: Dotted path → config key that named it.
        sides: Sides of the square image to try, in this order, or sizes (H, W).
        gradients: Whether to build the graph, to learn which outputs can be trained.
        everything: Whether to look at all modules, beside those at ``paths``, in ``mode='tensor'``.
        partly: Whether a run in which some of ``paths`` are not called is better than none.
        forwards: Ways to run the model, tried in this order.
        begin: Called before each attempt.

    Raises:
        TapError: A path does not exist, or no image made all of them run; the message has the model's error.
    """
    wanted = [module for path, key in paths.items() for module in find_modules(model, path, key)]
    watched = {*(model.modules() if everything else wanted)}
    device = next((p.device for p in model.parameters()), torch.device('cpu'))
    if everything or not hasattr(trained_part(model)[1], EXTRACT_FEAT):
        forwards = FORWARDS[-1:]
    best: DryRun | None = None
    failed: DryRun | None = None  # although all of them were called
    with evaluating(model), preserved_random_state(), torch.set_grad_enabled(gradients):
        torch.manual_seed(0)
        for channels, side, forward in itertools.product(channel_candidates(model), dict.fromkeys(sides), forwards):
            if failed is not None and failed.channels != channels:
                break
            size = side if isinstance(side, tuple) else (side, side)
            images = torch.randn(1, channels, *size, device=device)
            begin()
            run = _attempt(model, watched, images, forward)
            ran = [path for path in paths if run.num_calls(path)]
            if len(ran) == len(paths) and any(x.dim() == 1 for path in ran for x in _tensors(run, path, paths[path])):
                begin()
                run = _attempt(model, watched, images.repeat(2, 1, 1, 1), forward)  # it squeezes a batch of one
            if len(ran) == len(paths):
                if run.failure is None or all(run.num_calls(path) == 1 for path in paths):
                    return run
                failed = max(failed or run, run, key=lambda one: sum(map(one.num_calls, paths)))
                continue
            if best is None or len(ran) > sum(best.num_calls(path) > 0 for path in paths):
                best = run
            best.failure = run.failure or best.failure
    if failed is not None:
        return failed
    assert best is not None, 'there are sides to try'
    if not partly:
        silent = next(path for path in paths if not best.num_calls(path))
        best.levels(silent, paths[silent])  # raises
    return best


def _tensors(run: DryRun, path: str, key: str) -> list[Tensor]:
    try:
        return run.levels(path, key)
    except TapError:  # reported when it is used
        return []


def _attempt(model: nn.Module, watched: set[nn.Module], images: Tensor, forward: str) -> DryRun:
    """Run one forward pass."""
    run = DryRun(model, (images.size(-2), images.size(-1)), images.size(1), forward)

    def note(module: nn.Module, args: Any) -> None:
        run.called.add(module)

    def record(module: nn.Module, args: Any, output: Any) -> None:
        run.calls.append(ModuleCall(module, args[0] if args else None, output, tensor_versions(output)))

    handles = [module.register_forward_pre_hook(note) for module in model.modules()]
    handles += [module.register_forward_hook(record) for module in watched]
    try:
        run_forward(model, forward, images, dummy_samples(images))
    except Exception as e:  # any architecture may fail in its own way
        run.failure = e.with_traceback(None)  # its frames would keep the outputs alive
    finally:
        for handle in handles:
            handle.remove()
    return run
