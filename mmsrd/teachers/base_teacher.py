"""What all teachers do: a dry run, recorders, the student's batch converted, a forward pass to the deepest module."""
from __future__ import annotations

import contextlib
import functools
from dataclasses import replace
from typing import Any, Collection, Dict, List, Mapping, Optional, Sequence

import torch
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..compat.torch_versions import autocast_dtype, no_compile
from ..config import TeacherConfig
from ..errors import TeacherError
from ..recorders import AllRecordedSignal, DryRun, RecorderManager, dry_run, dummy_samples, trained_part
from ..utils.random_state import preserved_random_state
from .class_names import ClassMatch
from .recording_plan import RecordingPlan
from .speedup import AppliedSpeedups, ConvBNFinder, SideStream, apply_speedups, fuse_conv_bn, teacher_dtype
from .student_init import StudentInit

Features = Dict[str, List[Tensor]]
"""Levels by path."""


class BaseTeacher:
    """A frozen model that is deliberately not an ``nn.Module``.

    So it is in no ``state_dict``, ``parameters()``, optimizer or DDP bucket of the
    student that holds it. A deep copy of the student (EMA) shares it.

    Its life: built; :meth:`dry_run` and :meth:`plan` when the student is attached to; then
    :meth:`prepare` (weights, recorders, fused normalisation) when training starts; released
    when distillation has ended.

    Args:
        model: The teacher, on the CPU.
        config: Its part of the ``distill`` block.
    """

    def __init__(self, model: nn.Module, config: TeacherConfig) -> None:
        self.model = model.eval().requires_grad_(False)
        self.config = config
        self.key = config.key
        self.released = False
        self.student_init: Optional[StudentInit] = None  # what the student is to start with, until it has
        self._ready = False
        self._device: Optional[torch.device] = None
        self._stream = SideStream()
        self._finder = ConvBNFinder()
        self._called: set[nn.Module] = set()
        self._plan = RecordingPlan()
        self._recorders: Optional[RecorderManager] = None
        self._handles: List[RemovableHandle] = []
        self._speedups: Optional[AppliedSpeedups] = None

    def __deepcopy__(self, memo: dict[int, Any]) -> BaseTeacher:
        return self

    def dry_run(self, paths: Mapping[str, str], sides: Sequence[int], everything: bool = False,
                partly: bool = False) -> DryRun:
        """Run the model once on a random image (:func:`mmsrd.recorders.dry_run`), and look for what can be fused.

        Raises:
            TapError: A path does not exist or is not called.
        """
        with self._finder.watch(trained_part(self.model)[1]):
            run = dry_run(self.model, paths, sides, everything=everything, partly=partly)
        self._called = run.called
        return run

    def plan(self, run: DryRun, paths: Mapping[str, str], student: nn.Module, channels: int) -> None:
        """Decide what will be recorded, and how the student's batch is converted.

        Args:
            run: The dry run, in which the modules at ``paths`` were called.
            paths: Dotted path → config key of what the losses need.
            student: Model whose preprocessor makes the batches.
            channels: Channels of the student's images.

        Raises:
            TeacherError: The teacher takes images of other channels; grey ones can be made grey RGB.
        """
        self._plan = RecordingPlan.of(run, paths, student, channels, (f'{self.key}.config', self.config.name),
                                      self.config.swap_channels)

    def prepare(self) -> None:
        """Read the weights, record what was planned, fuse: once, when training is about to start.

        Raises:
            CheckpointError: The weights cannot be found or read, or are of another architecture.
        """
        if not self._ready:
            self.load_weights()
            if self.student_init is not None:
                self.student_init.read()
            self.record()
            self.fuse()
            self._ready = True

    def match_classes(self, student: nn.Module, names: Sequence[str] | None) -> ClassMatch:
        """How the classes of this teacher and the student go together; call it once the weights are read.

        Args:
            student: The student.
            names: Names of its classes; None where they are not known.
        """
        return ClassMatch()

    def load_weights(self) -> None:
        """Read the weights, where they come from a file."""

    def record(self) -> None:
        """Put recorders on what was planned; from now on a forward pass ends with the last of them.

        Raises:
            TeacherError: Nothing was planned.
        """
        if not self._plan.paths:
            raise TeacherError(f'{self.key}: no loss taps this teacher')
        if self._recorders is not None:
            return
        self._recorders = RecorderManager(self.model, self._plan.paths, self._plan.clones)
        for module in self._recorded_modules():  # after the recording hooks, so the output of the module is recorded
            self._handles.append(module.register_forward_hook(self._stop_if_complete))

    def fuse(self) -> None:
        """Fuse batch normalisation into convolutions, unless that changes the features."""
        pairs = self._finder.pairs(self._recorded_modules()) if self.config.inference.fold else []
        if not pairs:
            return
        with preserved_random_state():
            torch.manual_seed(0)
            images = torch.randn(2, self._plan.converter.channels, *self._plan.image)
        images = images.to(next(self.model.parameters()).device)
        change = fuse_conv_bn(self.model, pairs, lambda: self.forward(images, dummy_samples(images)))
        if change is not None:
            print_log(f'{self.key}: batch normalisation is not fused into convolutions, because it would change the '
                      f'features by {change:.1e}', logger='current')

    def restrict(self, paths: Collection[str]) -> None:
        """Record no more than the modules at ``paths``: other losses are not compared after all."""
        plan = self._plan
        self._plan = replace(plan, paths={path: key for path, key in plan.paths.items() if path in paths},
                             clones=tuple(path for path in plan.clones if path in paths),
                             num_calls={path: count for path, count in plan.num_calls.items() if path in paths})
        if self._recorders is not None:
            self._recorders.remove()
            for handle in self._handles:
                handle.remove()
            self._recorders = None
            self.record()

    def _recorded_modules(self) -> set[nn.Module]:
        return {self.model.get_submodule(path) for path in self._plan.paths}

    @no_compile
    def _stop_if_complete(self, module: nn.Module, args: Any, output: Any) -> None:
        recorders = self._recorders
        if recorders and recorders.is_recording and recorders.num_calls == self._plan.num_calls:
            raise AllRecordedSignal

    def move_to(self, device: torch.device) -> None:
        """Move the model to ``device``, where it is not there yet."""
        if self._speedups and self._speedups.offload:
            self._speedups.offload.device = device
        elif self._device != device:
            self.model.to(device)
            self._device = device

    def release(self) -> None:
        """Give its memory back, for good: distillation has ended."""
        if not self.released:
            self.released = True
            if self._speedups and self._speedups.offload:
                self._speedups.offload.remove()
            self.model.to('meta')
            if self._device is not None and self._device.type == 'cuda':
                torch.cuda.empty_cache()  # to the device, once

    def features(self, inputs: Tensor, data_samples: Sequence[Any] | None) -> Features:
        """Levels by path, from a forward pass that ends with the deepest recorded module.

        Args:
            inputs: The student's normalised batch (N, C, H, W).
            data_samples: The student's data samples.

        Raises:
            TeacherError: Called before :meth:`prepare` or after :meth:`release`.
            TapError: A module was not called.
        """
        return self._features(inputs, data_samples, autocast_dtype(inputs.device))

    def forward_async(self, inputs: Tensor, data_samples: Sequence[Any] | None,
                      student_dtype: torch.dtype | None) -> Features:
        """As :meth:`features`, on a stream of its own: read what is returned after :meth:`synchronize` only.

        Args:
            inputs: The student's normalised batch (N, C, H, W).
            data_samples: The student's data samples.
            student_dtype: Autocast dtype of the student, None for none.
        """
        work = functools.partial(self._features, inputs, data_samples, student_dtype)
        return self._stream.run(work, inputs.device) if self.config.inference.stream else work()

    def synchronize(self) -> None:
        """Let what is queued on the device from now on wait for :meth:`forward_async`."""
        self._stream.synchronize()

    def _features(self, inputs: Tensor, data_samples: Sequence[Any] | None,
                  student_dtype: torch.dtype | None) -> Features:
        if not self._ready:
            raise TeacherError(f'{self.key}: the teacher has no weights yet; call prepare() first')
        if self.released:
            raise TeacherError(f'{self.key}: the teacher was released when distillation ended')
        device = inputs.device
        dtype = teacher_dtype(self.config.inference, student_dtype)
        if self._speedups is None:
            self._speedups = self._apply_speedups(device, dtype)
        # Weights that are stored in half precision need autocast also where the student has none (validation).
        dtype = dtype or self._speedups.stored_dtype
        self.move_to(device)
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            return self.forward(inputs, data_samples)

    def _apply_speedups(self, device: torch.device, dtype: torch.dtype | None) -> AppliedSpeedups:
        """Make the model fast, before it moves to the device."""
        return apply_speedups(self.model, self.config, self._called, self._recorded_modules(), device, dtype)

    @torch.no_grad()
    def forward(self, inputs: Tensor, data_samples: Sequence[Any] | None) -> Features:
        """Levels by path for the student's batch, with the model as it is and where it is."""
        assert self._recorders is not None, 'record() comes first'
        images = self._plan.converter(inputs, data_samples)
        if self._speedups and self._speedups.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with self._recorders.recording():
            # No early end where a module is called more often than in the dry run, or less.
            offload = self._speedups.offload if self._speedups else None
            visits = offload.forward_pass() if offload else contextlib.nullcontext()
            with contextlib.suppress(AllRecordedSignal), visits:
                trained_part(self.model)[1](inputs=images, data_samples=data_samples, mode='tensor')
            return self._recorders.pop_outputs()
