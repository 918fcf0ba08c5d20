"""One process that trains each combination three times: undistilled, at weight 0, and distilled.

Arguments: toolbox, folder of the test with data and teacher, file for the results, names of the combinations.
"""
from __future__ import annotations

import copy
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS, RUNNERS
from mmengine.runner import Runner  # noqa: F401  registers itself

from mmsrd.compat import load_checkpoint_file
from mmsrd.utils.dist import cpu_wrapper_cfg, init_gloo

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'tools' / 'reliability'))
from kill import equal
from tiny import tiny_student

DIGITS = ROOT / 'configs' / 'mmpretrain' / 'digits'
PIPELINE = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True), dict(type='PackDetInputs')]
OPTIONS: dict[str, dict[str, Any]] = {
    'nothing else': {},
    'EMA': {'custom_hooks': [dict(type='EMAHook', momentum=0.1)], 'default_hooks.checkpoint.interval': 1},
    'accumulation': {'optim_wrapper.accumulative_counts': 2},
    'clipping': {'optim_wrapper.clip_grad': dict(max_norm=0.1)},
    'AMP': {'optim_wrapper.type': 'Bfloat16OptimWrapper'},
    'activation checkpointing': dict(activation_checkpointing=['backbone.layer1']),
    'SyncBN': {'model.backbone.norm_cfg': dict(type='SyncBN', requires_grad=True)},
    'torch.compile': dict(compile=dict(backend='eager')),
    'schedule': {'distill.schedule': dict(start=1, end=2)},
    'interval': {'distill.schedule': dict(interval=2)},
}
"""What users combine with distillation, in both toolboxes."""
OWN_OPTIONS: dict[str, dict[str, dict[str, Any]]] = dict(
    mmdet={
        'per-parameter settings': {'optim_wrapper.paramwise_cfg': dict(norm_decay_mult=0.0, custom_keys=dict(
            backbone=dict(lr_mult=0.1)))},
        'backbone with_cp': {'model.backbone.with_cp': True},
        'efficient_conv_bn_eval': {'efficient_conv_bn_eval': ['backbone'], 'model.backbone.norm_eval': True},
        'PipelineSwitchHook': {'train_cfg.max_epochs': 2, 'custom_hooks': [dict(
            type='PipelineSwitchHook', switch_epoch=1, switch_pipeline=PIPELINE)]},
        'EMA of buffers': {'default_hooks.checkpoint.interval': 1, 'custom_hooks': [dict(
            type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.1, update_buffers=True, priority=49)]},
        'random image sizes': {'model.data_preprocessor.batch_augments': [
            dict(type='BatchSyncRandomResize', random_size_range=(64, 96), size_divisor=32, interval=2)]},
    },
    mmpretrain={
        'mixup and CutMix': {'model.train_cfg': dict(augments=[
            dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)])},
    })
"""What they combine in one toolbox."""


@OPTIM_WRAPPERS.register_module()
class Bfloat16OptimWrapper(OptimWrapper):
    """What AmpOptimWrapper does in bf16; MMEngine's refuses to run on a CPU."""

    def optim_context(self, model: torch.nn.Module) -> Any:
        return torch.autocast('cpu', torch.bfloat16)


def config_of(toolbox: str, folder: Path) -> Config:
    """A detector of four iterations in one process and two in two, or a classifier of four in each."""
    if toolbox == 'mmdet':
        config = tiny_student(folder / 'coco')
        losses: dict[str, Any] = dict(neck=dict(student='neck', teacher='neck'))
    else:
        config = Config.fromfile(str(DIGITS / 'resnet8_digits-100.py'))
        config.model.backbone = dict(type='ResNet', depth=18, base_channels=8)  # has stages and norm_cfg to set
        config.model.head.in_channels = 64
        config.train_dataloader.batch_size = 25 if not dist.is_initialized() else 13
        config.train_dataloader.dataset.data_root = str(folder / 'digits' / 'train')
        config.test_dataloader.dataset.data_root = str(folder / 'digits' / 'val')
        losses = dict(feature=dict(student='neck', teacher='neck'),
                      logits=dict(type='KLDivLoss', student='head.fc', teacher='head.fc'))
    config.train_cfg = dict(by_epoch=True, max_epochs=1)
    config.update(dict.fromkeys(('val_cfg', 'val_dataloader', 'val_evaluator')))
    config.log_level = 'ERROR'
    config.default_hooks.checkpoint = dict(type='CheckpointHook', interval=9, save_last=False)
    for name in ('train', 'test'):
        config[f'{name}_dataloader'].dataset.serialize_data = False
    config.distill = dict(teacher=dict(config=str(folder / toolbox / 'teacher.py'),
                                       checkpoint=str(folder / toolbox / 'teacher.pth')), losses=losses)
    return config


def train(config: Config, name: str, weight: float | None) -> tuple[dict[str, torch.Tensor], Any]:
    """Weights of the student afterwards, with those of its average where there is one; and the student."""
    config = copy.deepcopy(config)
    config.work_dir = str(Path(config.work_dir) / name)
    config.experiment_name = config.visualizer.name = f'{name} {weight}'
    if weight is None:
        config.pop('distill')
    else:
        config.runner_type = 'mmsrd.DistillRunner'
        for loss in config.distill.losses.values():
            loss.weight = weight
    if dist.is_initialized():
        config.launcher = 'pytorch'
        config.model_wrapper_cfg = cpu_wrapper_cfg(config)
    torch._dynamo.reset()  # it would take the graph of the run before: it does not look at hooks
    model = RUNNERS.build(config).train()
    model = model.module if is_model_wrapper(model) else model
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    averages = any(hook.type == 'EMAHook' for hook in config.get('custom_hooks') or ())
    if averages and int(os.environ.get('RANK', 0)) == 0:
        saved = load_checkpoint_file(f'{config.work_dir}/epoch_1.pth', 'test')
        weights.update({f'ema.{k}': v for k, v in saved['ema_state_dict'].items()})
    return weights, model


def check(toolbox: str, folder: Path, name: str) -> dict[str, Any]:
    """Three trainings of one combination."""
    config = config_of(toolbox, folder)
    config.work_dir = str(folder / 'work' / toolbox / name.replace(' ', '_'))
    config.merge_from_dict({**OPTIONS, **OWN_OPTIONS[toolbox]}[name])
    alone, _ = train(config, f'{name} alone', None)
    at_zero, idle = train(config, f'{name} zero', 0.0)
    distilled, student = train(config, f'{name} on', 2.0)
    values = [*distilled.values(), *student.distiller.state_dict().values()]
    return dict(
        name=name, at_zero_is_alone=equal(alone, at_zero), distilled_is_alone=equal(alone, distilled),
        projectors_are_idle=equal(idle.distiller.state_dict(), student.distiller.state_dict()),
        finite=all(bool(v.isfinite().all()) for v in values),
        checksum=float(sum(p.double().abs().sum() for p in student.parameters())))


def main() -> None:
    toolbox, folder, names = sys.argv[1], Path(sys.argv[2]), sys.argv[4:]
    out = Path(f'{sys.argv[3]}.{os.environ.get("RANK", 0)}')
    torch.set_num_threads(1)
    Config.pretty_text = property(repr)  # formatting configs for the logs takes half of the time
    if 'RANK' in os.environ:
        init_gloo()
    out.write_text(json.dumps([check(toolbox, folder, name) for name in names]))


if __name__ == '__main__':
    main()
