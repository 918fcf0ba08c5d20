"""One of several processes whose first step is checked; in the second something is wrong.

Arguments: what is wrong, file for what was found.
"""
from __future__ import annotations

import json
import sys

import torch
import torch.distributed as dist

import mmsrd
from helpers.models import build_zoo
from mmsrd.models.losses import srd_loss
from mmsrd.ops.torch_backend import TorchBackend
from mmsrd.teachers import PretrainedTeacher

CONFIG = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'


class WrongGradient(TorchBackend):
    """Its gradient is a half too large."""

    def gradient(self, *args):  # type: ignore[no-untyped-def]
        return [gradient * 1.5 for gradient in super().gradient(*args)]


class Failing(TorchBackend):
    """Cannot be used on this device."""

    def moments(self):  # type: ignore[no-untyped-def]
        raise RuntimeError('out of memory')


def main() -> None:
    wrong, out = sys.argv[1:]
    torch.set_num_threads(1)
    dist.init_process_group('gloo')
    rank = dist.get_rank()
    if rank == 1 and wrong == 'loss':
        real = srd_loss.choose_backend
        srd_loss.choose_backend = lambda name, *levels: WrongGradient if name == 'auto' else real(name, *levels)
    if rank == 1 and wrong == 'failure':
        real = srd_loss.choose_backend
        srd_loss.choose_backend = lambda name, *levels: Failing if name == 'auto' else real(name, *levels)
    if rank == 1 and wrong == 'teacher':
        apply = PretrainedTeacher._apply_speedups

        def spoil(self, *args):  # type: ignore[no-untyped-def]
            applied = apply(self, *args)
            if self.inference.precision != 'fp32':
                for parameter in self.model.neck.fpn_convs.parameters():
                    parameter.data = -parameter.data
            return applied

        PretrainedTeacher._apply_speedups = spoil
    student = build_zoo(CONFIG)
    teacher = dict(config=CONFIG, allow_random=True, inference=dict(precision='bf16', stream=False))
    distiller = mmsrd.attach(student, dict(
        teacher=teacher, losses=dict(neck=dict(student='neck', teacher='neck', levels=[2, 3])), device_check='always'))
    torch.manual_seed(rank)
    batch = (torch.randn(2, 3, 64, 64), None)
    distiller.recorders.start()
    student.neck(student.backbone(batch[0]))
    distiller.compute_losses([batch])
    found = dict(findings=sorted(distiller.device_check.findings), precision=distiller.teacher.inference.precision,
                 backends=[loss.criterion.backend for loss in distiller.feature_losses])
    with open(f'{out}.{rank}', 'w') as file:
        json.dump(found, file)
    dist.destroy_process_group()


if __name__ == '__main__':
    main()
