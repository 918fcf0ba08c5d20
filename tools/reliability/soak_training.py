#!/usr/bin/env python
"""Run a whole training for thousands of iterations in two processes, and show that memory does not grow.

Image sizes differ from step to step, distillation starts after a tenth of the training and ends after nine tenths,
EMA, evaluation and checkpoints go on throughout. Every interval each process writes down what it holds; figures are
compared within the phases in which distillation acts and in which it does not.
"""
from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, Optional

import torch
from mmengine.config import Config
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from outcome import command
from prepare_data import digits
from records import append_line, read_lines
from soak import held, slopes
from tiny import ROOT
from trainings import output, start, wait

DIGITS = ROOT / 'configs' / 'mmpretrain' / 'digits'
EXACT = ('tensors', 'graphs', 'hooks', 'files', 'threads')
"""Figures that must not change within a phase; memory may by what allocators do."""


@HOOKS.register_module(force=True)
class HeldHook(Hook):
    """Writes what a process holds every ``interval`` iterations, before an evaluation."""

    priority = 'LOWEST'

    def __init__(self, interval: int, folder: str) -> None:
        self.interval = interval
        self.folder = Path(folder)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Optional[Any] = None,
                         outputs: Optional[Any] = None) -> None:
        """Write a record."""
        if self.every_n_train_iters(runner, self.interval):
            model = getattr(runner.model, 'module', runner.model)
            append_line(self.folder / f'held.{get_rank()}.jsonl', dict(iteration=runner.iter + 1, **held(model)))


def long_run(iterations: int, interval: int, folder: Path, work_dir: Path) -> Config:
    """A classifier of digits, whose steps take milliseconds."""
    config = Config.fromfile(str(DIGITS / 'srd_backbone_resnet20_resnet8_digits-100.py'))
    config.train_cfg = dict(type='IterBasedTrainLoop', max_iters=iterations, val_interval=interval)
    config.train_dataloader.update(num_workers=1, persistent_workers=True, batch_size=4,
                                   sampler=dict(type='InfiniteSampler', shuffle=True))
    config.train_dataloader.dataset.pipeline = [
        dict(type='LoadImageFromFile'), dict(type='RandomResizedCrop', scale=8), dict(type='RandomFlip', prob=0.5),
        dict(type='RandomChoiceResize', scales=[(8, 8), (8, 12), (16, 16), (20, 12)]), dict(type='PackInputs')]
    config.val_dataloader.update(num_workers=1, persistent_workers=True)
    for split, loader in (('train', config.train_dataloader), ('val', config.val_dataloader)):
        loader.dataset.data_root = str(folder / 'digits' / split)
    config.optim_wrapper.optimizer = dict(type='SGD', lr=1e-3, momentum=0.9)
    config.param_scheduler = []
    config.default_hooks.checkpoint = dict(type='CheckpointHook', interval=interval, by_epoch=False, max_keep_ckpts=1)
    config.default_hooks.logger.interval = interval
    config.log_processor = dict(by_epoch=False)
    config.custom_hooks = [dict(type='EMAHook', momentum=0.01),
                           dict(type='HeldHook', interval=interval, folder=str(folder))]
    config.distill.teacher = dict(config=str(DIGITS / 'resnet20_digits.py'), checkpoint=None, allow_random=True)
    config.distill.schedule = dict(start=iterations // 10, end=iterations * 9 // 10)
    config.work_dir = str(work_dir)
    config.experiment_name = config.visualizer.name = 'soak'
    return config


def phases(records: list[dict[str, Any]], iterations: int) -> dict[str, list[dict[str, Any]]]:
    """Records by what distillation did; the first of a phase is left out, as buffers are made or freed there."""
    limits = dict(before=(0, 0.1), during=(0.1, 0.9), after=(0.9, 1.0))
    return {name: [record for record in records if low * iterations < record['iteration'] <= high * iterations][1:]
            for name, (low, high) in limits.items()}


def trial(folder: Path, iterations: int, interval: int, processes: int) -> dict[str, Any]:
    """The whole training; what each process held in each phase."""
    digits(folder / 'digits')
    import mmpretrain.apis  # noqa: F401  before the processes are forked
    torch.set_num_threads(1)
    if any(wait(start(folder, folder / 'run', processes, None, functools.partial(long_run, iterations, interval)))):
        raise SystemExit(output(folder / 'run'))
    result: dict[str, Any] = dict(iterations=iterations, processes=processes)
    for rank in range(processes):
        for phase, records in phases(read_lines(folder / f'held.{rank}.jsonl'), iterations).items():
            spread = {key: max(r[key] for r in records) - min(r[key] for r in records) for key in EXACT}
            result[f'process {rank}, {phase}'] = dict(
                looks=len(records), spread=spread, first_mib=round(records[0]['memory_mib'], 1),
                last_mib=round(records[-1]['memory_mib'], 1),
                mib_per_1000=round(slopes(records)['memory_mib'], 2) if len(records) > 3 else None)
    return result


if __name__ == '__main__':
    command(__doc__, trial, {'iterations': 20_000, 'interval': 500, 'processes': 2})
