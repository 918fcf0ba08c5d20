"""Record the outputs of modules, named by their dotted paths."""
from __future__ import annotations

import contextlib
from typing import Any, Collection, Iterable, Iterator, Mapping

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..compat.torch_versions import no_compile
from ..errors import TapError
from .model_parts import find_modules


def as_levels(output: Any, key: str, path: str) -> list[Tensor]:
    """Return the tensors of one module output: itself, or the members of a tuple, list or dict, and of those within it.

    None members (an auxiliary output that is switched off) do not count.

    Args:
        output: Output of a module.
        key: Config key that names the module, for messages.
        path: Dotted path of the module.

    Raises:
        TapError: The output is something else.
    """
    leaves = list(_leaves(output))
    levels = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    if levels and len(levels) == len(leaves):
        return levels
    what = type(output).__name__
    if isinstance(output, (tuple, list, Mapping)):
        what += f' of {sorted({type(leaf).__name__ for leaf in leaves})}'
    raise TapError.at(key, path, f'its output is not a tensor or a list of tensors but a {what}')


def _leaves(output: Any) -> Iterator[Any]:
    """Iterate over everything in nested containers but None."""
    if isinstance(output, (tuple, list, Mapping)):
        for member in _members(output):
            yield from _leaves(member)
    elif output is not None:
        yield output


def _members(output: Any) -> list[Any]:
    if isinstance(output, Mapping):
        return list(output.values())
    return list(output) if isinstance(output, (tuple, list)) else []


def tensor_versions(output: Any) -> list[int]:
    """Return PyTorch's write counters of the tensors in a module output; 0 in inference mode, which has none."""
    if isinstance(output, Tensor):
        return [0 if output.is_inference() else output._version]
    return [version for x in _members(output) for version in tensor_versions(x)]


class AllRecordedSignal(Exception):  # noqa: N818  not an error
    """Ends a forward pass (teacher, or student without labels) once all modules are recorded; users never see it."""


class OutputRecorder:
    """Records what one module returns, or the members of a list of modules, while recording.

    The hook is a bound method so that a deep copy of the model (EMA) carries a
    deep copy of its recorders instead of writing into the original's.

    Args:
        modules: The module; or several whose outputs are levels, in the order of their calls.
        path: Its dotted path.
        key: Config key that named it, for messages.
        clones: Whether to record copies, because the model goes on to write into the output.
    """

    def __init__(self, modules: Iterable[nn.Module], path: str, key: str, clones: bool = False) -> None:
        self.path = path
        self.key = key
        self.clones = clones
        self.recording = False
        self._outputs: list[Any] = []
        self._versions: list[list[int]] = []
        self._handles: list[RemovableHandle] = [module.register_forward_hook(self._record) for module in modules]

    @no_compile
    def _record(self, module: nn.Module, args: Any, output: Any) -> None:
        if not self.recording:
            return
        if self.clones:
            output = [x.clone() for x in as_levels(output, self.key, self.path)]
        self._outputs.append(output)
        self._versions.append(tensor_versions(output))

    @property
    def num_calls(self) -> int:
        """Calls of the module that have been recorded."""
        return len(self._outputs)

    def clear(self) -> None:
        """Forget what was recorded."""
        self._outputs.clear()
        self._versions.clear()

    def levels(self) -> list[Tensor]:
        """Return the recorded levels: of the one call, or of each call in turn where a head is shared by the levels.

        Raises:
            TapError: The module was not called, returned something without tensors, or the model has written
                into what it returned.
        """
        if not self._outputs:
            raise TapError.at(self.key, self.path, 'the module was not called in this forward pass, so there is '
                              'nothing to distil; choose one that runs in mode=\'loss\'')
        if [tensor_versions(output) for output in self._outputs] != self._versions:
            raise TapError.at(self.key, self.path, 'the model changes its output in place after this module, which the '
                              'dry run did not show; tap the module that makes the final value')
        return [level for output in self._outputs for level in as_levels(output, self.key, self.path)]

    def remove(self) -> None:
        """Take the hook off the module, and forget what was recorded."""
        for handle in self._handles:
            handle.remove()
        self.clear()


class RecorderManager:
    """The recorders of one model.

    Args:
        model: The model.
        paths: Dotted path → config key that named it.
        clones: Paths whose outputs the model goes on to write into.

    Raises:
        TapError: A path does not exist.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from mmsrd.recorders import RecorderManager
        >>> model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
        >>> recorders = RecorderManager(model, {'0': 'distill.losses.first.student'})
        >>> with recorders.recording():
        ...     _ = model(torch.zeros(2, 3))
        ...     outputs = recorders.pop_outputs()
        >>> [tuple(level.shape) for level in outputs['0']]
        [(2, 4)]
    """

    def __init__(self, model: nn.Module, paths: Mapping[str, str], clones: Iterable[str] = ()) -> None:
        found = {path: find_modules(model, path, key) for path, key in paths.items()}
        clones = set(clones)
        self._recorders = {path: OutputRecorder(modules, path, paths[path], path in clones)
                           for path, modules in found.items()}

    @property
    def keys(self) -> dict[str, str]:
        """Path → config key that named it."""
        return {path: recorder.key for path, recorder in self._recorders.items()}

    @property
    def is_recording(self) -> bool:
        """Return whether outputs are being recorded."""
        return any(recorder.recording for recorder in self._recorders.values())

    @property
    def num_calls(self) -> dict[str, int]:
        """Number of calls of each module since :meth:`start`, by path."""
        return {path: recorder.num_calls for path, recorder in self._recorders.items()}

    def copies(self, path: str) -> bool:
        """Return whether copies of a module's outputs are recorded, because the model goes on to write into them."""
        return self._recorders[path].clones

    def start(self) -> None:
        """Forget what was recorded, and record from now on."""
        self._switch(True)

    def stop(self) -> None:
        """Stop recording and forget what was recorded, so that no graph outlives the step."""
        self._switch(False)

    def _switch(self, on: bool) -> None:
        for recorder in self._recorders.values():
            recorder.clear()
            recorder.recording = on

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Record inside of the block."""
        self.start()
        try:
            yield
        finally:
            self.stop()

    def pop_outputs(self) -> dict[str, list[Tensor]]:
        """Return the recorded levels by path, and stop recording.

        Raises:
            TapError: A module was not called, or gave nothing that can be compared.
        """
        outputs = {path: recorder.levels() for path, recorder in self._recorders.items()}
        self.stop()
        return outputs

    def restrict(self, paths: Collection[str]) -> None:
        """Remove the recorders of all modules but those at ``paths``."""
        for path in [path for path in self._recorders if path not in paths]:
            self._recorders.pop(path).remove()

    def remove(self) -> None:
        """Take all hooks off the model."""
        for recorder in self._recorders.values():
            recorder.remove()
