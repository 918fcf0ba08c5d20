"""How the cost of distillation grows: with batch, image size, number of levels, channels, and processes."""
from __future__ import annotations

import dataclasses
import os
import socket
import statistics
import time
from typing import Any, Callable

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from harness import measure
from pairs import Case

from mmsrd.models.losses import SRDLoss

PROCESSES = (1, 2, 4)


def measure_scaling(case: Case, repeats: int, steps: int, save: Callable[[list[dict[str, Any]]], None]) -> None:
    """Give ``save`` the rows so far after each: ``what``, ``value``, and milliseconds.

    Whole steps where the batch or the image changes; elsewhere the loss alone, forward and backward, on features of
    the setting's pyramid.
    """
    rows: list[dict[str, Any]] = []

    def add(what: str, value: int, measured: dict[str, Any]) -> None:
        rows.append(dict(what=what, value=value, **measured))
        print(rows[-1], flush=True)
        save(rows)

    for factor in (0.5, 1, 2):
        changed = dataclasses.replace(case, batch=max(int(case.batch * factor), 1))
        add('batch', changed.batch, _steps(changed, repeats, steps))
    for factor in (0.5, 1, 1.5):
        changed = dataclasses.replace(case, height=int(case.height * factor), width=int(case.width * factor))
        add('image height', changed.height, _steps(changed, repeats, steps))
    for levels in (1, 2, 3, 5):
        add('levels', levels, loss_ms(case, levels, 256, repeats))
    for channels in (64, 256, 1024):
        add('channels', channels, loss_ms(case, 3, channels, repeats))
    for processes in PROCESSES:
        if case.device == 'cuda' and processes > torch.cuda.device_count():
            break
        add('processes', processes, processes_ms(case, processes, repeats))


def _steps(case: Case, repeats: int, steps: int) -> dict[str, Any]:
    plain, *others = measure(case, ['ours'], repeats, steps)
    failed = next((row['error'] for row in (*others, plain) if 'error' in row), None)
    if failed is not None:  # out of memory; a batch so small that the coarsest level has a single row
        return dict(error=failed)
    ours, = others
    return dict(plain_ms=plain['step_ms'], ours_ms=ours['step_ms'], step_ratio=ours['step_ratio'],
                loss_ms=ours['loss_ms'], teacher_ms=ours['teacher_ms'])


def _pyramid(case: Case, levels: int, channels: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Student and teacher maps of strides 8, 16, ..."""
    pairs = []
    for level in range(levels):
        stride = 8 * 2**level
        shape = (case.batch, channels, max(case.height // stride, 1), max(case.width // stride, 1))
        pairs.append((torch.randn(shape, device=case.device, requires_grad=True),
                      torch.randn(shape, device=case.device)))
    return pairs


def _timer(case: Case, levels: int, channels: int, sync: bool, backend: str = 'auto') -> Callable[[], float]:
    criterion, pairs = SRDLoss(sync=sync, backend=backend), _pyramid(case, levels, channels)

    def once() -> float:
        _wait(case)
        started = time.perf_counter()
        criterion(*zip(*pairs))[0].backward()
        _wait(case)
        for s, _ in pairs:
            s.grad = None
        return (time.perf_counter() - started) * 1e3

    once()
    return once


def _wait(case: Case) -> None:
    if case.device == 'cuda':
        torch.cuda.synchronize()


def loss_ms(case: Case, levels: int, channels: int, repeats: int) -> dict[str, float]:
    """Median milliseconds of the losses of ``levels`` levels in this process: ours, and differentiated by PyTorch."""
    torch.set_num_threads(case.threads)
    timers = [_timer(case, levels, channels, False, backend) for backend in ('auto', 'autograd')]
    turns = [[once() for once in timers] for _ in range(4 * repeats)]
    ours, autograd = (round(statistics.median(column), 3) for column in zip(*turns))
    return dict(loss_ms=ours, autograd_ms=autograd)


def processes_ms(case: Case, processes: int, repeats: int) -> dict[str, float]:
    """The loss of three levels in each of several processes at once, with shared statistics and without."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    with multiprocessing.get_context('spawn').Manager() as manager:
        out = manager.dict()
        multiprocessing.spawn(_process, (processes, port, dataclasses.asdict(case), repeats, out), processes)
        return dict(out)


def _process(rank: int, processes: int, port: int, case: dict[str, Any], repeats: int, out: Any) -> None:
    setting = Case(**case)
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    torch.set_num_threads(1)
    if setting.device == 'cuda':
        torch.cuda.set_device(rank)
    dist.init_process_group('nccl' if setting.device == 'cuda' else 'gloo', rank=rank, world_size=processes)
    for name, sync in (('synced_ms', True), ('alone_ms', False)):
        once = _timer(setting, 3, 256, sync)
        dist.barrier()
        result = round(statistics.median(once() for _ in range(repeats)), 3)
        if rank == 0:
            out[name] = result
    dist.destroy_process_group()
