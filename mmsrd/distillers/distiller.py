"""``ProjectorDistiller``: recorders and teachers around the feature losses, acting through hooks of the student."""
from __future__ import annotations

import contextlib
from typing import Any, Mapping, Sequence, cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..compat.torch_versions import autocast, autocast_dtype, no_compile
from ..config import Progress
from ..errors import ConfigError, TapError
from ..recorders import AllRecordedSignal, RecorderManager, as_levels
from ..teachers import Features, StudentInit, Teacher, TeacherGroup
from ..utils.dist import unwrapped
from .balance import update_balances
from .device_check import DeviceCheck
from .feature_loss import FeatureLoss
from .finite_check import FiniteCheck
from .gradient_taps import GradientTaps
from .plan import DistillPlan, build_losses
from .student_batches import Batch, arguments_of, batches_of, split_by_batch
from .without_labels import UnlabelledForward

FP16_PATIENCE = 20
"""Steps in a row that may overflow under fp16: the loss scaler skips them and halves the scale."""


class ProjectorDistiller(nn.Module):
    """Adds distillation losses to what a student returns in ``mode='loss'``.

    A child of the student that acts through forward hooks. Its parameters are the projectors', not the teachers'.

    Args:
        planned: What is compared; losses and projectors are built from it. :meth:`connect` gives the models.

    Attributes:
        plan: As given.
        losses: The feature losses by name.
        teachers: The teachers, by name.
        recorders: Recorders of the student.
        handles: Hooks in the student, taken off by :func:`mmsrd.detach`.
        progress: Where training is.
    """

    def __init__(self, planned: DistillPlan) -> None:
        super().__init__()
        self.plan = planned
        self.losses = nn.ModuleDict({loss.config.name: loss for loss in build_losses(planned)})
        self.progress = Progress(planned.schedule)
        self.teachers = TeacherGroup()
        self.recorders = RecorderManager(self, {})
        self.handles: list[RemovableHandle | UnlabelledForward] = []
        self.finite = FiniteCheck()
        self.device_check = DeviceCheck(planned.device_check == 'always') if planned.device_check else None
        self._num_calls = planned.recording.num_calls
        self._seen: list[Any] = []
        self._batch: Batch | None = None
        self._taught: dict[str, Features] | None = None
        self._autocast: torch.dtype | None = None
        self._original = id(self)
        self._register_load_state_dict_pre_hook(_rename_old_keys)  # type: ignore[no-untyped-call]

    def connect(self, student: nn.Module, teachers: TeacherGroup) -> None:
        """Record what is planned of the student, and give the teachers their plans.

        Args:
            student: The student, without a distiller.
            teachers: The teachers that were planned with.
        """
        self.teachers = teachers
        teachers.keep_originals = self.device_check is not None
        self.recorders = RecorderManager(student, self.plan.recording.paths, self.plan.recording.clones)
        for name, teacher in teachers.items():
            teacher.follow(self.plan.teacher_plans[name])
            if teacher.plan.init_parts:
                teacher.student_init = StudentInit(student, teacher.model)

    @property
    def feature_losses(self) -> list[FeatureLoss]:
        """The feature losses in the order of the config."""
        return cast('list[FeatureLoss]', list(self.losses.values()))

    def describe(self) -> str:
        """Return the plan as text, with the losses and projectors that were built from it."""
        return self.plan.text([(loss.config.name, str(loss.criterion), loss.rows()) for loss in self.feature_losses])

    @property
    def teacher(self) -> Teacher:
        """The teacher, where there is one only: :attr:`mmsrd.teachers.TeacherGroup.only`."""
        return self.teachers.only

    def update_ema(self, student: nn.Module) -> None:
        """Let teachers that average the student take its new weights; called after each training iteration.

        Args:
            student: The student, or its wrapper for distributed training.
        """
        self.teachers.update_ema(unwrapped(student))

    def update_balances(self) -> None:
        """Take the last step's gradient norms into the balances, in all processes; the next loss pass would, too."""
        update_balances([loss.measured for loss in self.feature_losses if loss.measured is not None])

    def leave_out(self, loss: FeatureLoss) -> None:
        """Remove a loss; modules that no other loss needs are no longer recorded, and teachers removed.

        Args:
            loss: The loss; at least one other must remain.
        """
        config = loss.config
        del self.losses[config.name]
        paths = {other.config.teacher for other in self.feature_losses
                 if other.config.teacher_name == config.teacher_name}
        if paths:
            self.teachers[config.teacher_name].restrict(paths)
        else:
            del self.teachers[config.teacher_name]
        self.recorders.restrict({other.config.student for other in self.feature_losses})
        self._num_calls = {path: count for path, count in self._num_calls.items() if path in self.recorders.keys}

    @no_compile
    def before_student(self, student: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Forward pre-hook of the student: start recording in ``mode='loss'`` while distillation acts."""
        arguments = arguments_of(student, args, kwargs)
        inputs = arguments.get('inputs')
        if arguments.get('mode') == 'loss' and isinstance(inputs, Tensor) and self.device_check is not None:
            self.device_check.begin_step(inputs.device)
        if arguments.get('mode') == 'loss' and self._original == id(self) and torch.is_grad_enabled():
            for teacher in self.teachers.averages.values():
                teacher.begin(student)  # not before: all processes have the same weights once the student is wrapped
        if arguments.get('mode') == 'loss' and self._acts:
            self._forget_step()
            self.recorders.start()
            if isinstance(inputs, Tensor):
                self._batch = inputs, arguments.get('data_samples')
                self._autocast = autocast_dtype(inputs.device)
                if self.plan.teachers_first and inputs.dim() == 4:
                    self._taught = self._teach(self._batch)

    @property
    def _acts(self) -> bool:
        """Return whether this step distils; a copy of the student finds out by the teachers that all is over."""
        return self.progress.active and not (self._original != id(self) and self.teachers.released)

    def _forget_step(self) -> None:
        """Drop features and batch, so that no graph outlives the step."""
        self.teachers.synchronize()  # before their inputs are freed
        self.recorders.stop()
        self._seen.clear()
        self._batch = self._taught = self._autocast = None

    @no_compile
    def after_recorded(self, module: nn.Module, args: Any, output: Any) -> None:
        """Forward hook of recorded modules: start the teachers once all features are there.

        The student's head comes next: many small kernels that leave the device idle for a teacher.
        """
        if self.recorders.is_recording and self._autocast is None:
            # Accelerate, for one, switches autocast on within the student, and off before its hooks.
            with contextlib.suppress(TapError):  # it is raised, with its key, where the levels are compared
                self._autocast = autocast_dtype(as_levels(output, '', '')[0].device)
        if self.recorders.is_recording and self._batch is not None and self.recorders.num_calls == self._num_calls:
            if self._taught is None:
                self._taught = self._teach(self._batch)
            if self.plan.untrained is not None:
                raise AllRecordedSignal  # to UnlabelledForward

    def _teach(self, batch: Batch) -> dict[str, Features]:
        dtype = self._autocast or autocast_dtype(batch[0].device)
        check = self._check_for(batch[0].device)
        if check is None:
            if torch.is_grad_enabled():
                self.teachers.forget_originals()
        elif not check.has_checked_teachers:
            check.check_teachers(self.teachers, batch, dtype)
        return self.teachers.forward_async(*batch, dtype)

    def _check_for(self, device: torch.device) -> DeviceCheck | None:
        """Return the check that this step has to pass; a copy of the student has none."""
        check = self.device_check
        checks = check is not None and check.applies(device) and self._original == id(self)
        return check if checks and torch.is_grad_enabled() else None  # a validation loss may be of one process alone

    @no_compile
    def before_backbone(self, backbone: nn.Module, args: tuple[Any, ...]) -> None:
        """Forward pre-hook of the backbone that is trained: remember which images it sees."""
        if self.recorders.is_recording:
            images = args[0] if args else None
            self._seen.append(images)
            if isinstance(images, Tensor) and self._batch is not None and images.dim() != self._batch[0].dim():
                self._batch = images, None  # of groups of images (BaseReID)

    @no_compile
    def after_student(self, student: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any],
                      output: Any) -> dict[str, Any] | None:
        """Forward hook of the student, called also after an exception: add the ``loss_srd_*`` entries.

        Returns:
            dict: The student's losses and the distiller's in ``mode='loss'``; None (output unchanged) otherwise.
        """
        arguments = arguments_of(student, args, kwargs)
        try:
            if output is None or arguments.get('mode') != 'loss':
                return None
            if not isinstance(output, dict):
                raise ConfigError(f'{type(student).__name__} returns a {type(output).__name__} in mode=\'loss\'; '
                                  'distillation needs a dict of losses')
            inputs, samples = arguments['inputs'], arguments.get('data_samples')
            if self._acts:
                added = self.compute_losses(batches_of(student, inputs, samples, self._seen))
            elif self.progress.pauses:
                added = self._with_projectors(output)
            else:
                added = self.zero_losses(next(student.parameters()).device)
            if torch.is_grad_enabled():  # a validation loss is no step
                self._release_if_over()
                self.progress.iteration += 1
            return {**output, **added}
        finally:
            self._forget_step()

    def _release_if_over(self) -> None:
        """Free the teachers' memory after distillation; a copy of the student shares them and must not free them."""
        if self._original == id(self) and self.progress.over:
            self.teachers.release()

    def _with_projectors(self, output: dict[str, Any]) -> dict[str, Any]:
        """Let a loss of the student depend on the projectors, with factor zero: DDP wants to see all parameters."""
        for name, values in output.items():
            several = list(values) if isinstance(values, (list, tuple)) else [values]
            if 'loss' in name and several and isinstance(several[0], Tensor):
                first = several[0]
                zeros = torch.stack([loss.zero(first.device) for loss in self.feature_losses])
                several[0] = first + zeros.sum().to(first.dtype)
                return {name: several if isinstance(values, (list, tuple)) else several[0]}
        return {}

    def zero_losses(self, device: torch.device) -> dict[str, Tensor]:
        """Zeros in place of the losses, before distillation starts and after it has ended."""
        self.finite.flush()
        return {f'loss_srd_{loss.config.name}': loss.zero(device) for loss in self.feature_losses}

    def compute_losses(self, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Weighted losses and diagnostics for the student's recorded features.

        Args:
            batches: What the student has seen, in the order of its calls: a normalised batch (N, C, H, W) and its
                data samples; several of them for a semi-supervised detector, whose losses are averaged.

        Returns:
            dict: ``loss_srd_<name>`` (scalar with gradient) and ``srd_<log>_<name>`` (scalar).

        Raises:
            FeatureMismatchError: A recorded module was not called equally often for each batch.
            NonFiniteError: A loss is NaN or infinite; on an accelerator one step later.
        """
        student = {path: split_by_batch(levels, batches, f'{self.recorders.keys[path]} = {path!r}')
                   for path, levels in self.recorders.pop_outputs().items()}
        taught = [self._taught] if self._taught is not None else [self._teach(batch) for batch in batches]
        self.teachers.synchronize()
        sizes = [(images.size(-2), images.size(-1)) for images, _ in batches]
        device = batches[0][0].device
        check = self._check_for(device)
        if check is not None:
            for loss in self.feature_losses:
                loss.inspect = check.check_loss
        with contextlib.ExitStack() as stack:
            if self.device_check is not None:
                stack.enter_context(self.device_check.measure('losses', device))
            if self._autocast is not None and autocast_dtype(device) is None:
                stack.enter_context(autocast(device, self._autocast))
            entries = self._weighted_losses(student, taught, sizes, device)
        if check is not None:
            check.finish(device)
        return entries

    def _weighted_losses(self, student: Mapping[str, Sequence[Sequence[Tensor]]], taught: Sequence[dict[str, Features]],
                         sizes: Sequence[tuple[int, int]], device: torch.device) -> dict[str, Tensor]:
        """Compare features of each batch: those of the student by path, those of the teachers by name."""
        factor, trains = self.progress.factor, torch.is_grad_enabled()
        taps = None
        if trains and any(loss.measured is not None for loss in self.feature_losses):
            self.update_balances()
            taps = GradientTaps()
        entries: dict[str, Tensor] = {}
        described: dict[str, Tensor] = {}
        for loss in self.feature_losses:
            config = loss.config
            own = student[config.student]
            other = [features[config.teacher_name][config.teacher] for features in taught]
            # At weight 0 the student's graph is not touched at all: it trains bit for bit as without a teacher.
            weight, step = config.weight * factor, None
            loss.work_together(trains)
            with torch.set_grad_enabled(weight > 0 and trains):
                if taps is not None and weight > 0:
                    step = loss.measured.begin(weight) if loss.measured is not None else None
                    own = [taps.tap(levels, self.recorders.copies(config.student), step) for levels in own]
                value, logs = loss.over_batches(own, other, sizes)
            entry = value * weight if weight > 0 else loss.zero(value.device)
            if weight > 0:
                described[f'iteration {self.progress.iteration}: {loss.describe_non_finite(own, other, value)}'] = value
            if step is not None:
                entry = step.watch_loss(entry)
                logs = logs if loss.balance is None else {**logs, 'balance': step.factors.mean()}
            entries[f'loss_srd_{config.name}'] = entry
            entries.update({f'srd_{log}_{config.name}': logged for log, logged in logs.items()})
        fp16 = autocast_dtype(device) == torch.float16
        self.finite.check(described, FP16_PATIENCE if fp16 else 0)
        return entries


def _rename_old_keys(state: dict[str, Any], prefix: str, *args: Any) -> None:
    """Load hook of a distiller: version 0.1.0 has ``projectors.<loss>.…`` and ``criteria.<loss>.…``."""
    for part, new in (('projectors', 'projectors'), ('criteria', 'criterion')):
        start = f'{prefix}{part}.'
        for key in [key for key in state if key.startswith(start)]:
            name, _, rest = key[len(start):].partition('.')
            state[f'{prefix}losses.{name}.{new}.{rest}'] = state.pop(key)
