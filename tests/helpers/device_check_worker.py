"""One of two processes whose first step is checked, once for each thing that is wrong in the second.

Argument: file for what was found.
"""
from __future__ import annotations

import json
import sys
from typing import Any

import torch
import torch.distributed as dist

import mmsrd
from helpers.models import build_zoo
from mmsrd.models.losses import srd_loss
from mmsrd.ops.torch_backend import TorchBackend
from mmsrd.teachers import PretrainedTeacher

choose_backend, apply_speedups = srd_loss.choose_backend, PretrainedTeacher._apply_speedups
CONFIG = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'


class WrongGradient(TorchBackend):
    """Its gradient is a half too large."""

    def gradient(self, *args):  # type: ignore[no-untyped-def]
        return [gradient * 1.5 for gradient in super().gradient(*args)]


class Failing(TorchBackend):
    """Cannot be used on this device."""

    def moments(self):  # type: ignore[no-untyped-def]
        raise RuntimeError('out of memory')


def spoil(kind: type[TorchBackend]) -> Any:
    """Choose a wrong backend where any will do."""
    return lambda name, *levels: kind if name == 'auto' else choose_backend(name, *levels)


def apply_wrongly(self: PretrainedTeacher, *args: Any) -> Any:
    """Make the teacher fast, and wrong in half precision."""
    applied = apply_speedups(self, *args)
    if self.inference.precision != 'fp32':
        for parameter in self.model.neck.fpn_convs.parameters():
            parameter.data = -parameter.data
    return applied


def checked(rank: int) -> dict[str, Any]:
    """What the check has found in a first step."""
    student = build_zoo(CONFIG)
    teacher = dict(config=CONFIG, allow_random=True, inference=dict(precision='bf16', stream=False))
    distiller = mmsrd.attach(student, dict(
        teacher=teacher, losses=dict(neck=dict(student='neck', teacher='neck', levels=[2, 3])), device_check='always'))
    torch.manual_seed(rank)
    batch = (torch.randn(2, 3, 64, 64), None)
    distiller.recorders.start()
    student.neck(student.backbone(batch[0]))
    distiller.compute_losses([batch])
    return dict(findings=sorted(distiller.device_check.findings), precision=distiller.teacher.inference.precision,
                backends=[loss.criterion.backend for loss in distiller.feature_losses])


def main() -> None:
    torch.set_num_threads(1)
    dist.init_process_group('gloo')
    rank = dist.get_rank()
    found = {}
    for wrong in ('nothing', 'loss', 'failure', 'teacher'):
        kind = {'loss': WrongGradient, 'failure': Failing}.get(wrong)
        srd_loss.choose_backend = spoil(kind) if rank == 1 and kind is not None else choose_backend
        PretrainedTeacher._apply_speedups = apply_wrongly if rank == 1 and wrong == 'teacher' else apply_speedups
        found[wrong] = checked(rank)
    with open(f'{sys.argv[1]}.{rank}', 'w') as file:
        json.dump(found, file)
    dist.destroy_process_group()


if __name__ == '__main__':
    main()
