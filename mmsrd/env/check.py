"""``python -m mmsrd.env --check``: the device check without data, on random features in the shapes of COCO."""
from __future__ import annotations

import tempfile
import time
from functools import partial
from typing import Any, Callable, Iterator, NamedTuple

import torch
import torch.distributed as dist
from mmengine.logging import MMLogger
from torch import Tensor

from ..compat.torch_versions import autocast
from ..distillers import attach, text_table
from ..distillers.device_check import compare_with_reference, device_name
from ..models.losses import SRDLoss
from ..teachers.build_model import build_model
from ..utils.zoo import load_config

TEACHER = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'
"""Small teacher of the toolbox; its weights are random."""
SIDES = {True: (2, 256, 800, 1344), False: (1, 64, 160, 192)}
"""Images, channels, height and width on an accelerator, and on a CPU."""


class Row(NamedTuple):
    """One part of the check.

    Attributes:
        part: Description of what was tried.
        result: What was found.
        seconds: How long it took.
        is_right: Whether nothing has to be switched off.
    """

    part: str
    result: str
    seconds: float
    is_right: bool = True


def check_device() -> list[Row]:
    """Try losses, a teacher and the exchange between processes on this machine's device.

    Returns:
        list: A row for each part. A part that cannot be tried says why, and counts as right.
    """
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    dtypes = [torch.float32, torch.bfloat16, *([torch.float16] if device.type == 'cuda' else [])]
    rows = [Row('device', device_name(device), 0.0)]
    for dtype in dtypes:
        for form in ('elementwise', 'correlation'):
            rows.append(_timed(f'SRDLoss, {form}, {_name(dtype)}', partial(_loss, dtype, form, device)))
    for dtype in dtypes:
        rows.append(_timed(f'teacher, {_name(dtype)}', partial(_teacher, dtype, device)))
    rows.append(_timed('processes', partial(_processes, device)))
    return rows


def report_check() -> tuple[str, bool]:
    """Return the table of :func:`check_device`, and whether all is right."""
    MMLogger.get_instance('mmsrd.env', log_level='WARNING')  # no plans between the lines
    rows = check_device()
    lines = [('part', 'result', 'seconds'), *((row.part, row.result, f'{row.seconds:.1f}') for row in rows)]
    wrong = [row.part for row in rows if not row.is_right]
    verdict = f'Wrong on this device, and switched off in a training: {", ".join(wrong)}' if wrong else 'All right'
    return f'{text_table(lines)}\n\n{verdict}', not wrong


def _timed(part: str, run: Callable[[], tuple[str, bool]]) -> Row:
    started = time.perf_counter()
    try:
        result, is_right = run()
    except Exception as e:  # what cannot run here is what the check is for
        result, is_right = f'{type(e).__name__}: {" ".join(str(e).split())}'[:200], False
    return Row(part, result, time.perf_counter() - started, is_right)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).rpartition('.')[2]


def _levels(dtype: torch.dtype, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    images, channels, height, width = SIDES[device.type != 'cpu']
    generator = torch.Generator().manual_seed(0)
    for stride in (8, 16, 32, 64, 128):
        shape = images, channels, -(-height // stride), -(-width // stride)
        teacher, noise = (torch.randn(shape, generator=generator).to(device) for _ in range(2))
        yield (teacher + noise).to(dtype), teacher.to(dtype)


def _loss(dtype: torch.dtype, form: str, device: torch.device) -> tuple[str, bool]:
    criterion, levels = SRDLoss(form=form), list(_levels(dtype, device))
    result = compare_with_reference(criterion, levels)
    return f'{criterion.backend_for(levels)}: {result.wrong or result}', not result.wrong


def _teacher(dtype: torch.dtype, device: torch.device) -> tuple[str, bool]:
    try:
        config = load_config(TEACHER, 'teacher')
    except Exception as e:
        return f'not tried ({e})', True
    student = build_model(config, 'student').to(device)
    precision = {torch.float32: 'fp32', torch.bfloat16: 'bf16', torch.float16: 'fp16'}[dtype]
    distiller = attach(student, dict(teacher=dict(config=TEACHER, allow_random=True, inference=dict(
        precision=precision)), losses=dict(neck=dict(student='neck', teacher='neck')), device_check='always'))
    images, _, height, width = SIDES[device.type != 'cpu']
    check: Any = distiller.device_check
    half = None if dtype == torch.float32 else dtype
    with autocast(device, half):
        check.check_teachers(distiller.teachers, (torch.randn(images, 3, height, width, device=device), None), half)
    return '; '.join([*check.found, *(f'{key}: {what}' for key, what in check.findings.items())]), not check.findings


def _processes(device: torch.device) -> tuple[str, bool]:
    count = torch.cuda.device_count() if device.type == 'cuda' else 2
    backend = 'nccl' if device.type == 'cuda' else 'gloo'
    spawn: Any = torch.multiprocessing.spawn  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as folder:
        spawn(_exchange, (count, backend, f'file://{folder}/meeting'), nprocs=count)
    return f'{backend}, {count} process(es): a sum over all of them, and a loss with its gradient, are right', True


def _exchange(rank: int, count: int, backend: str, meeting: str) -> None:
    device = torch.device('cuda', rank) if backend == 'nccl' else torch.device('cpu')
    if backend == 'nccl':
        torch.cuda.set_device(device)
    dist.init_process_group(backend, meeting, rank=rank, world_size=count)
    total = torch.full((1000,), float(rank + 1), device=device)
    dist.all_reduce(total)
    expected = count * (count + 1) / 2
    if not bool((total == expected).all()):
        raise RuntimeError(f'the sum of {count} processes is {float(total[0])} instead of {expected}')
    _synchronised_loss(rank, count, device)
    dist.destroy_process_group()


def _synchronised_loss(rank: int, count: int, device: torch.device) -> None:
    """Compare the loss of this process's images, exchanged with the others, with that of all images in one process."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2 * count, 16, 8, 8, generator=generator).to(device) for _ in range(2))
    values, gradients = [], []
    for sync, images in (True, slice(2 * rank, 2 * rank + 2)), (False, slice(None)):
        own = student[images].clone().requires_grad_()
        loss, _ = SRDLoss(sync=sync)(own, teacher[images])
        loss.backward()
        assert own.grad is not None, 'the loss depends on it'
        values.append(loss.detach())
        gradients.append(own.grad if sync else count * own.grad[2 * rank:2 * rank + 2])  # averaged over processes later
    for what, (found, right) in dict(value=values, gradient=gradients).items():
        error = float((found - right).norm() / right.norm())
        if not error < 1e-4:  # as between the backends
            raise RuntimeError(f'the {what} of the loss of {count} processes differs by {error:.1e} from that of one')
