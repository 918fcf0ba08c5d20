"""What distillation costs in addition to the student: parameters, teacher FLOPs, memory; without training."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, TypeVar

import torch
from torch import Tensor, nn

try:
    from torch.utils.flop_counter import FlopCounterMode
except ModuleNotFoundError:  # before PyTorch 2.1
    FlopCounterMode = None

from mmsrd.distillers import ProjectorDistiller
from mmsrd.recorders import RecorderManager, dummy_samples, evaluating, trained_part
from mmsrd.teachers import Teacher

T = TypeVar('T')


@dataclass
class Costs:
    """Costs of one step; bytes are of float32."""

    projectors: int  # parameters that the projectors add
    teacher_weights: int = 0  # bytes of all teachers' weights and buffers
    # FLOPs of each teacher up to its deepest tap; a multiply-add counts 2; None before PyTorch 2.1
    flops_to_tap: dict[str, int | None] = field(default_factory=dict)
    # FLOPs of each teacher's whole forward pass, the heads included but no decoding; None where it fails without
    # annotations
    flops_whole: dict[str, int | None] = field(default_factory=dict)
    flops_student: int | None = None  # FLOPs of the student's forward pass, as ``flops_whole``
    features: int = 0  # bytes of the teachers' tapped features
    saved: int = 0  # bytes that the losses keep for the backward pass, what the student keeps anyway not counted

    @property
    def teachers_share(self) -> float | None:
        """FLOPs of the teachers over those of the student's step, whose backward pass costs two forward passes."""
        to_tap = [part for part in self.flops_to_tap.values() if part is not None]
        return sum(to_tap) / (3 * self.flops_student) if to_tap and self.flops_student else None

    @property
    def memory(self) -> int:
        """Expected extra bytes while the losses wait for backward; projectors with gradient and momentum."""
        return self.teacher_weights + self.features + self.saved + 3 * 4 * self.projectors


def measure_costs(student: nn.Module, inputs: Tensor) -> Costs:
    """Count by one forward pass of student and teachers, whose weights need not be loaded, of images (N, C, H, W)."""
    distiller: ProjectorDistiller = student.distiller  # type: ignore[assignment]
    samples = dummy_samples(inputs)
    costs = Costs(sum(p.numel() for p in distiller.parameters()))
    own, costs.flops_student = _student_levels(student, distiller, inputs, samples)
    features: dict[str, dict[str, list[Tensor]]] = {}
    for name, teacher in distiller.teachers.items():
        costs.teacher_weights += _bytes([*teacher.model.parameters(), *teacher.model.buffers()])
        features[name], costs.flops_to_tap[name] = _to_tap(teacher, inputs, samples)
        costs.flops_whole[name] = _whole(teacher.model, inputs, samples)
        costs.features += _bytes([level for levels in features[name].values() for level in levels])
    leaves = {path: [level.detach().requires_grad_() for level in levels] for path, levels in own.items()}
    known = {level.untyped_storage().data_ptr() for levels in leaves.values() for level in levels}
    for teacher_levels in features.values():
        known |= {level.untyped_storage().data_ptr() for levels in teacher_levels.values() for level in levels}
    known |= {p.untyped_storage().data_ptr() for p in distiller.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        pointer = tensor.untyped_storage().data_ptr()
        if pointer not in known:
            kept[pointer] = tensor  # held, so that its memory is not given to another
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        graphs = [loss(leaves[loss.config.student], features[loss.config.teacher_name][loss.config.teacher])
                  for loss in distiller.feature_losses]
    costs.saved = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    del graphs
    return costs


def _student_levels(student: nn.Module, distiller: ProjectorDistiller, inputs: Tensor,
                    samples: Any) -> tuple[dict[str, list[Tensor]], int | None]:
    # Recorders of its own: the distiller's forget what they recorded at the end of each forward pass.
    recorders = RecorderManager(student, distiller.recorders.keys, distiller.recorders.keys)
    try:
        with recorders.recording():
            flops = _whole(student, inputs, samples)
            return recorders.pop_outputs(), flops
    finally:
        recorders.remove()


def counted(work: Callable[[], T]) -> tuple[T, int | None]:
    """Return what ``work`` returns, and its FLOPs; None where PyTorch has no counter."""
    with torch.no_grad():
        if FlopCounterMode is None:
            return work(), None
        with FlopCounterMode(display=False) as counter:
            return work(), int(counter.get_total_flops())


def _to_tap(teacher: Teacher, inputs: Tensor, samples: Any) -> tuple[dict[str, list[Tensor]], int | None]:
    teacher.move_to(inputs.device)
    return counted(lambda: teacher.forward(inputs, samples))


def _whole(model: nn.Module, inputs: Tensor, samples: Any) -> int | None:
    part = trained_part(model)[1]
    with evaluating(model):
        try:
            return counted(lambda: part(inputs=inputs, data_samples=samples, mode='tensor'))[1]
        except Exception:  # a head may want annotations, after all that is recorded
            return None


def _bytes(tensors: list[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
