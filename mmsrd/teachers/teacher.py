"""``Teacher``: a frozen model whose features teach, outside of the student's module tree."""
from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Collection, ContextManager, Dict, List, Mapping, Optional, Sequence

import torch
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..compat.torch_versions import autocast, autocast_dtype, no_compile
from ..config import InferenceConfig
from ..errors import TeacherError
from ..recorders import (
    AllRecordedSignal,
    DryRun,
    RecorderManager,
    Recording,
    dry_run,
    dummy_samples,
    find_modules,
    run_forward,
    trained_part,
)
from .fuse_conv_bn import ConvBNFinder, fuse_conv_bn
from .image_size import ImageSize
from .input_converter import InputConversion, InputConverter, conversion_for
from .speedup import AppliedSpeedups, OriginalModel, SideStream, teacher_dtype
from .student_init import StudentInit
from .teacher_kind import TeacherKind

Features = Dict[str, List[Tensor]]
"""Levels by path."""


@dataclass(frozen=True)
class TeacherPlan:
    """Plan of a teacher: what the losses need of it, as plain values.

    Attributes:
        recording: Which of its modules are recorded.
        conversion: How the student's batch becomes what it takes.
        init_parts: Path of each part that the student starts with → layers that it gives, and layers that there are.
        stride: Pixels of its images per position of the deepest level that is compared; 0 where none has positions.
    """

    recording: Recording = field(default_factory=Recording)
    conversion: InputConversion = field(default_factory=InputConversion)
    init_parts: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    stride: float = 0.0


class Teacher(TeacherKind):
    """A frozen model that is deliberately not an ``nn.Module``.

    So it is in no ``state_dict``, ``parameters()``, optimizer or DDP bucket of the student that holds it. A deep copy
    of the student (EMA) shares it.

    It is *made* with its architecture, and with a plan once the student is known (:meth:`follow`). It is *ready* with
    its weights, recorders and speed-ups (:meth:`prepare`), when training is about to start. What is not the same
    for all kinds of teachers stands in :class:`TeacherKind`: where the weights come from, what a checkpoint keeps.

    Args:
        model: The teacher, on the CPU.
        key: Its config key, for messages.
        name: Where the model comes from, as text.
    """

    def __init__(self, model: nn.Module, key: str, name: str) -> None:
        self.model = model.eval().requires_grad_(False)
        self.key = key
        self.name = name
        self.released = False
        self.plan = TeacherPlan()
        self.student_init: Optional[StudentInit] = None  # what the student is to start with, until it has
        self._ready = False
        self._device: Optional[torch.device] = None
        self._stream = SideStream()
        self._finder = ConvBNFinder()
        self._called: set[nn.Module] = set()
        self._converter = InputConverter(InputConversion())
        self._recorders: Optional[RecorderManager] = None
        self._handles: List[RemovableHandle] = []
        self._speedups: Optional[AppliedSpeedups] = None
        self._original: Optional[OriginalModel] = None
        self.measure: Optional[Callable[[str, torch.device], ContextManager[None]]] = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Teacher:
        return self

    # Made: architecture and plan.

    def dry_run(self, paths: Mapping[str, str], sides: Sequence[int], everything: bool = False,
                partly: bool = False) -> DryRun:
        """Run the model once on a random image (:func:`mmsrd.recorders.dry_run`), and look for what can be fused.

        Args:
            paths: Modules that have to be called → config key that names each.
            sides: Sizes of the square image, tried in turn.
            everything: Whether all modules are recorded.
            partly: Whether paths may be missing.

        Returns:
            DryRun: The result; its ``image`` is in the student's pixels, before :attr:`image_size` is applied.

        Raises:
            TapError: A path does not exist or is not called.
            TeacherError: The model does not take images of ``size``.
        """
        size = self.image_size.size
        with self._finder.watch(trained_part(self.model)[1]):
            run = dry_run(self.model, paths, sides if size is None else [size], everything=everything,
                          partly=partly or size is not None, begin=self._finder.begin)
        for path in paths if size is not None else ():
            if run.failure is not None and not run.num_calls(path):
                raise TeacherError.at(f'{self.key}.size', size, f'{self.name} does not run on such images '
                                      f'({type(run.failure).__name__}: {run.failure})')
            if not partly:
                run.levels(path, paths[path])
        self._called = run.called
        run.image = round(run.image[0] / self.image_size.scale), round(run.image[1] / self.image_size.scale)
        return run

    def conversion_from(self, student: nn.Module, run: DryRun, paths: Mapping[str, str], channels: int
                        ) -> InputConversion:
        """Return how the student's batch becomes what this teacher takes.

        Args:
            student: The student.
            run: Dry run of the teacher.
            paths: Modules of the teacher that will be recorded → config key that names each.
            channels: Channels of the student's images.

        Raises:
            TeacherError: It takes another number of channels; only a single channel can be repeated.
        """
        conversion = conversion_for((self.key, self.name), (student, self.model), (channels, run.channels),
                                    self.swap_channels)
        return replace(conversion, image_size=self.sizes_for(run, paths, conversion.divisor))

    def sizes_for(self, run: DryRun, paths: Mapping[str, str], divisor: int) -> ImageSize:
        """Return the size of its images.

        Args:
            run: Dry run of the teacher.
            paths: Modules of the teacher that will be recorded → config key that names each.
            divisor: Number that divides the sides of the student's images.
        """
        return self.image_size

    def follow(self, plan: TeacherPlan) -> None:
        """Take a plan."""
        self.plan = plan
        self._converter = InputConverter(plan.conversion)

    # Ready: weights, recorders, speed-ups.

    def prepare(self, keep_original: bool = False) -> None:
        """Read the weights, record what is planned, fuse normalisation: once, when training is about to start.

        Args:
            keep_original: Whether to keep what :meth:`speed_up_by` needs, until :meth:`forget_original`.

        Raises:
            CheckpointError: The weights cannot be found or read, or are of another architecture.
        """
        if not self._ready:
            self.load_weights()
            if self.student_init is not None:
                self.student_init.read()
            self.record()
            self._original = OriginalModel(self.model) if keep_original else None
            self.fuse()
            self._ready = True

    def record(self) -> None:
        """Put recorders on what is planned; from now on a forward pass ends with the last of them.

        Raises:
            TeacherError: Nothing is planned.
        """
        recording = self.plan.recording
        if not recording.paths:
            raise TeacherError(f'{self.key}: no loss taps this teacher')
        if self._recorders is None:
            self._recorders = RecorderManager(self.model, recording.paths, recording.clones)
            # After the recording hooks, so that the output of the module is recorded.
            self._handles = [module.register_forward_hook(self._stop_if_complete)
                             for module in self._recorded_modules()]

    def restrict(self, paths: Collection[str]) -> None:
        """Record no more than the modules at ``paths``: other losses are not compared after all."""
        self.plan = replace(self.plan, recording=self.plan.recording.restrict(paths))
        if self._recorders is not None:
            self._recorders.remove()
            for handle in self._handles:
                handle.remove()
            self._recorders = None
            self.record()

    def fuse(self) -> None:
        """Fuse batch normalisation into convolutions, unless that changes the features."""
        pairs = self._finder.pairs(self._recorded_modules()) if self.inference.fold else []
        if not pairs:
            return
        images = torch.randn(2, self._converter.channels, *self.plan.recording.image,
                             generator=torch.Generator().manual_seed(0))
        images = images.to(next(self.model.parameters()).device)
        with autocast(images.device):
            change = fuse_conv_bn(self.model, pairs, lambda: self.forward(images, dummy_samples(images)))
        if change is not None:
            print_log(f'{self.key}: batch normalisation is not fused into convolutions, because it would change the '
                      f'features by {change:.1e}', logger='current')

    def _recorded_modules(self) -> set[nn.Module]:
        return {module for path, key in self.plan.recording.paths.items()
                for module in find_modules(self.model, path, key)}

    @no_compile
    def _stop_if_complete(self, module: nn.Module, args: Any, output: Any) -> None:
        recorders = self._recorders
        if recorders and recorders.is_recording and recorders.num_calls == self.plan.recording.num_calls:
            raise AllRecordedSignal

    def speed_up_by(self, inference: InferenceConfig, offloads: bool = False) -> None:
        """Undo all speed-ups, and apply others from the next step on.

        Args:
            inference: The speed-ups to apply.
            offloads: Whether its weights stay in host memory; False by default.
        """
        if self._speedups and self._speedups.offload:
            self._speedups.offload.remove()
        assert self._original is not None, 'it is kept for this'
        self._original.restore()
        self._device = self._speedups = None
        self.inference, self.offloads = inference, offloads
        self.fuse()

    def forget_original(self) -> None:
        """Let go of what :meth:`speed_up_by` needs."""
        self._original = None

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
            self.forget_original()
            if self._speedups and self._speedups.offload:
                self._speedups.offload.remove()
            self.model.to('meta')
            if self._device is not None and self._device.type == 'cuda':
                torch.cuda.empty_cache()  # to the device, once

    # A step.

    def features(self, inputs: Tensor, data_samples: Sequence[Any] | None) -> Features:
        """Return levels by path, from a forward pass that ends with the deepest recorded module.

        Args:
            inputs: The student's normalised batch (N, C, H, W).
            data_samples: The student's data samples.

        Raises:
            TeacherError: Called before :meth:`prepare` or after :meth:`release`.
            TapError: A module was not called.
        """
        return self.compute(inputs, data_samples, autocast_dtype(inputs.device))

    def forward_async(self, inputs: Tensor, data_samples: Sequence[Any] | None,
                      student_dtype: torch.dtype | None) -> Features:
        """Compute :meth:`features` on a stream of its own: read what is returned after :meth:`synchronize` only.

        Args:
            inputs: The student's normalised batch (N, C, H, W).
            data_samples: The student's data samples.
            student_dtype: Autocast dtype of the student, None for none.
        """
        work = functools.partial(self.compute, inputs, data_samples, student_dtype)
        return self._stream.run(work, inputs.device) if self.inference.stream else work()

    def synchronize(self) -> None:
        """Let what is queued on the device from now on wait for :meth:`forward_async`."""
        self._stream.synchronize()

    def compute(self, inputs: Tensor, data_samples: Sequence[Any] | None,
                student_dtype: torch.dtype | None) -> Features:
        """Compute :meth:`features` in order.

        Args:
            inputs: The student's normalised batch (N, C, H, W).
            data_samples: The student's data samples.
            student_dtype: Autocast dtype of the student; None for none.
        """
        if not self._ready:
            raise TeacherError(f'{self.key}: the teacher has no weights yet; call prepare() first')
        if self.released:
            raise TeacherError(f'{self.key}: the teacher was released when distillation ended')
        device = inputs.device
        dtype = teacher_dtype(self.inference, student_dtype)
        is_first = self._speedups is None
        if self._speedups is None:
            self.plan.conversion.image_size.check(self.key, inputs.size(-2), inputs.size(-1), self.plan.stride)
        # A validation in inference mode may come first, and tensors that are made in it cannot be updated later.
        with torch.inference_mode(False), torch.no_grad():
            if self._speedups is None:
                self._speedups = self._apply_speedups(device, dtype)
            # Weights that are stored in half precision need autocast also where the student has none (validation).
            dtype = dtype or self._speedups.stored_dtype
            self.move_to(device)
        measured = contextlib.nullcontext() if self.measure is None else self.measure('teacher', device)
        with autocast(device, dtype), measured:
            try:
                return self.forward(inputs, data_samples)
            except AssertionError as e:  # as models say it that are made for one size
                if is_first and inputs.shape[-2:] != self.plan.recording.image:
                    raise TeacherError(f'{self.key}: the teacher does not run with images of {tuple(inputs.shape[-2:])}'
                                       f', and did with {self.plan.recording.image} ({e}); if it takes one size only, '
                                       'name it by `size`') from e
                raise

    def _apply_speedups(self, device: torch.device, dtype: torch.dtype | None) -> AppliedSpeedups:
        """Make the model fast, before it moves to the device."""
        return AppliedSpeedups()

    @torch.no_grad()
    def forward(self, inputs: Tensor, data_samples: Sequence[Any] | None) -> Features:
        """Return levels by path for the student's batch, with the model as it is and where it is."""
        assert self._recorders is not None, 'record() comes first'
        images, data_samples = self._converter(inputs, data_samples)
        if self._speedups and self._speedups.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with self._recorders.recording():
            # No early end where a module is called more often than in the dry run, or less.
            offload = self._speedups.offload if self._speedups else None
            visits = offload.forward_pass() if offload else contextlib.nullcontext()
            with contextlib.suppress(AllRecordedSignal), visits:
                run_forward(self.model, self.plan.recording.forward, images, data_samples)
            return self._recorders.pop_outputs()
