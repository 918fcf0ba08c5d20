"""Every COCO config builds from the installed zoo and takes one optimisation step with its teacher."""
from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from mmengine.config import Config
from mmengine.registry import RUNNERS

from mmsrd.utils.zoo import zoo_weights

FOLDER = Path(__file__).resolve().parents[2] / 'configs' / 'detection'
NAMES = sorted(path.stem for path in FOLDER.glob('srd_*.py'))
QUICK = 'srd_neck_faster-rcnn-r50_faster-rcnn-mbv2_1x_coco'
META = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')


def shrink(config: Config, coco: Path, work_dir: Path) -> Config:
    """One iteration on small composed images; models, losses and optimizer stay as they are."""
    side = 256 if config.model.type == 'DINO' else 128  # DINO picks 900 of its positions
    pipeline = [dict(type='LoadImageFromFile'),
                dict(type='LoadAnnotations', with_bbox=True, with_mask='mask_head' in str(config.model)),
                dict(type='Resize', scale=(side, side)), dict(type='PackDetInputs', meta_keys=META)]
    config.train_dataloader = dict(
        batch_size=2, num_workers=0, sampler=dict(type='InfiniteSampler', shuffle=False),
        dataset=dict(type='CocoDataset', data_root=f'{coco}/', ann_file='annotations/train.json',
                     data_prefix=dict(img='train/'), metainfo=dict(classes=tuple('0123456789')), pipeline=pipeline))
    config.train_cfg = dict(type='IterBasedTrainLoop', max_iters=1)
    config.param_scheduler = None
    for name in ('val', 'test'):
        for part in ('dataloader', 'cfg', 'evaluator'):
            config[f'{name}_{part}'] = None
    config.custom_hooks = []
    config.merge_from_dict({'model.backbone.init_cfg': None})  # nothing to download here
    config.distill.teacher.checkpoint = None
    config.distill.teacher.allow_random = True
    config.work_dir = str(work_dir)
    config.log_level = 'ERROR'
    return config


def test_the_configs_are_there():
    assert len(NAMES) == 13


@pytest.mark.parametrize('name', NAMES)
def test_name_and_weights(name):
    config = Config.fromfile(str(FOLDER / f'{name}.py'))
    assert config.distill.teacher.checkpoint == 'auto'
    teacher = config.distill.teacher.config
    if teacher.startswith('timm::'):
        assert teacher[len('timm::'):] in timm.list_models(pretrained=True)
    elif not teacher.startswith('transformers::'):  # of which only the hub knows the names
        assert zoo_weights(teacher, 'k').endswith('.pth')
    assert name.split('_')[0] == 'srd'
    assert set(config.distill) == {'teacher'}  # the preset does the rest


@pytest.mark.parametrize('name', [pytest.param(name, marks=[] if name == QUICK else [pytest.mark.slow])
                                  for name in NAMES if 'rtdetr' not in name])  # it is in transformers_cases.py
def test_one_step(name, coco, tmp_path):
    config = shrink(Config.fromfile(str(FOLDER / f'{name}.py')), coco, tmp_path)
    config.visualizer.name = config.experiment_name = name
    runner = RUNNERS.build(config)
    distiller = runner.model.distiller
    before = {k: v.clone() for k, v in distiller.state_dict().items()}
    runner.train()
    loss = runner.message_hub.get_scalar('train/loss_srd_neck').current()
    assert loss == loss
    # log 12 for unrelated features, more where a level has few rows
    assert 0 < loss < 2.48 + 0.75
    assert list(distiller.losses) == [name.split('_')[1]]
    after = distiller.state_dict()
    assert all(torch.isfinite(v).all() and not torch.equal(v, before[k]) for k, v in after.items())
