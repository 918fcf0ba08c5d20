"""One process of a training with a strategy; arguments: folder, name, epochs, strategy as JSON, whether to resume,
balance of all losses or nothing."""
from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from mmengine.registry import RUNNERS
from weight_zero_worker import config_of

from mmsrd.engine.hooks.distill_hook import distiller_of
from mmsrd.utils.dist import init_gloo


def main() -> None:
    folder, name, epochs = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    torch.set_num_threads(1)
    init_gloo()
    config = config_of('mmpretrain', folder)
    config.work_dir = str(folder / name)
    config.experiment_name = config.visualizer.name = name
    config.train_cfg.max_epochs = epochs
    config.param_scheduler = dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=3)
    config.launcher = 'pytorch'
    config.runner_type = 'mmsrd.DistillFlexibleRunner'
    config.randomness = dict(seed=0, diff_rank_seed=True)  # weights are those of the first all the same
    config.strategy = json.loads(sys.argv[4])
    config.resume = sys.argv[5] == 'True'
    config.default_hooks.checkpoint = dict(type='CheckpointHook', interval=1, max_keep_ckpts=1)
    config.distill.device_check = 'always'  # its projectors are views of sharded weights
    for loss in config.distill.losses.values() if sys.argv[6] != 'None' else ():
        loss.pop('weight', None)
        loss.balance = float(sys.argv[6])
    runner = RUNNERS.build(config)
    runner.train()
    print('STUDENT', type(runner.model.module).__name__, distiller_of(runner).progress.iteration, flush=True)


if __name__ == '__main__':
    main()
