"""Taps: find a module by its dotted path, record its output, let go of it."""
from __future__ import annotations

from typing import Any, Iterable, Mapping

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .eager import eager
from .errors import TapError, did_you_mean


def find_module(model: nn.Module, path: str, key: str) -> nn.Module:
    """The submodule of ``model`` at dotted ``path``.

    Raises:
        TapError: There is none; the message names the closest existing paths.
    """
    modules: dict[str, nn.Module] = dict(model.named_modules(remove_duplicate=False))
    modules.pop('', None)
    if path in modules:
        return modules[path]
    parent = path
    while parent and parent not in modules:
        parent = parent.rpartition('.')[0]
    children = [name for name, _ in (modules[parent] if parent else model).named_children()]
    raise TapError.at(
        key, path, f'{type(model).__name__} has no such module{did_you_mean(path, modules)}. '
        f'Modules of {parent or type(model).__name__}: {", ".join(children) or "none"}')


def as_levels(output: Any, key: str, path: str) -> list[Tensor]:
    """The tensors of one module output: itself, or the members of a tuple, list or dict, and of those within it.

    None members (an auxiliary output that is switched off) do not count.

    Raises:
        TapError: The output is something else.
    """
    if isinstance(output, Tensor):
        return [output]
    members = [x for x in _members(output) if x is not None]
    if members and all(isinstance(x, (Tensor, tuple, list, Mapping)) for x in members):
        return [level for x in members for level in as_levels(x, key, path)]
    what = type(output).__name__
    if isinstance(output, (tuple, list, Mapping)):
        what += f' of {sorted({type(x).__name__ for x in members})}'
    raise TapError.at(key, path, f'its output is not a tensor or a list of tensors but a {what}')


def _members(output: Any) -> list[Any]:
    if isinstance(output, Mapping):
        return list(output.values())
    return list(output) if isinstance(output, (tuple, list)) else []


def _versions(output: Any) -> list[int]:
    """PyTorch's write counters of the tensors in a module output."""
    if isinstance(output, Tensor):
        return [output._version]
    return [version for x in _members(output) for version in _versions(x)]


class AllTapsFiredSignal(Exception):  # noqa: N818  not an error
    """Leaves the teacher's forward once its deepest tap has been recorded; never reaches the user."""


class Tap:
    """Records what one module returns while armed.

    The hook is a bound method so that a deep copy of the model (EMA) carries a
    deep copy of its taps instead of writing into the original's.

    The record is the output itself where possible: set ``copies`` where the model
    goes on to write into it.

    Args:
        module: The tapped module.
        path: Its dotted path.
        key: Config key that named it.
    """

    def __init__(self, module: nn.Module, path: str, key: str) -> None:
        self.path = path
        self.key = key
        self.armed = False
        self.copies = False
        self.outputs: list[Any] = []
        self._versions: list[list[int]] = []
        self._handle: RemovableHandle = module.register_forward_hook(self._record)

    @eager
    def _record(self, module: nn.Module, args: Any, output: Any) -> None:
        if not self.armed:
            return
        if self.copies:
            output = [x.clone() for x in as_levels(output, self.key, self.path)]
        self.outputs.append(output)
        self._versions.append(_versions(output))

    def clear(self) -> None:
        """Forget what was recorded."""
        self.outputs.clear()
        self._versions.clear()

    def overwritten(self) -> bool:
        """Whether a later operation of the model has written into a recorded output (``out += identity``)."""
        return [_versions(output) for output in self.outputs] != self._versions

    def take(self) -> list[Tensor]:
        """Recorded levels: of the one call, or of each call in turn where a head is shared by the levels.

        Raises:
            TapError: The module was not called, or returned something without tensors.
        """
        if not self.outputs:
            raise TapError.at(self.key, self.path, 'the module was not called in this forward pass, so there is '
                              'nothing to distil; choose one that runs in mode=\'loss\'')
        if self.overwritten():
            raise TapError.at(self.key, self.path, 'the model changes its output in place after this module, which the '
                              'dry run did not show; tap the module that makes the final value')
        return [level for output in self.outputs for level in as_levels(output, self.key, self.path)]

    def remove(self) -> None:
        """Detach the hook from the module."""
        self._handle.remove()


class TapSet:
    """Taps of one model.

    Args:
        model: Model to tap.
        paths: Dotted path → config key that named it.

    Raises:
        TapError: A path does not exist.
    """

    def __init__(self, model: nn.Module, paths: dict[str, str]) -> None:
        found = {path: find_module(model, path, key) for path, key in paths.items()}
        self.taps = {path: Tap(module, path, paths[path]) for path, module in found.items()}

    def arm(self) -> None:
        """Forget what was recorded and record from now on."""
        for tap in self.taps.values():
            tap.clear()
            tap.armed = True

    @property
    def armed(self) -> bool:
        """Whether outputs are being recorded."""
        return any(tap.armed for tap in self.taps.values())

    def disarm(self) -> None:
        """Stop recording and drop the recorded outputs, so that no graph outlives the step."""
        for tap in self.taps.values():
            tap.clear()
            tap.armed = False

    def take(self) -> dict[str, list[Tensor]]:
        """Recorded levels by path; recording stops."""
        taken = {path: tap.take() for path, tap in self.taps.items()}
        self.disarm()
        return taken

    def calls(self) -> dict[str, int]:
        """How often each tapped module has been called since :meth:`arm`."""
        return {path: len(tap.outputs) for path, tap in self.taps.items()}

    def remove(self) -> None:
        """Detach all hooks."""
        for tap in self.taps.values():
            tap.remove()


def unique_paths(named: Iterable[tuple[str, str]]) -> dict[str, str]:
    """``(path, key)`` pairs as path → first key, so that two losses share one tap."""
    paths: dict[str, str] = {}
    for path, key in named:
        paths.setdefault(path, key)
    return paths
