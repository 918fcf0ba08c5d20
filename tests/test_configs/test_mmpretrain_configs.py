"""Every config of configs/mmpretrain builds and takes optimisation steps with its teacher."""
from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from mmengine.config import Config
from mmengine.registry import RUNNERS
from torch import nn

from mmsrd.utils.zoo import config_path, zoo_weights

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / 'configs' / 'mmpretrain'
NAMES = sorted(f'{path.parent.name}/{path.stem}' for path in FOLDER.glob('*/*_*_*.py')
               if path.stem.startswith(('srd_', 'vkd_')))
PLAIN = sorted(f'{path.parent.name}/{path.stem}' for path in FOLDER.glob('*/*_*.py')
               if not path.stem.startswith(('srd', 'vkd')) and not path.stem.endswith('_base'))
TIMM = {'regnety-16gf': 'regnety_160.deit_in1k', 'resnet101-a1': 'resnet101.a1_in1k'}
"""Teachers of timm by their names in the configs' names."""
SIDES = {'imagenet': 224, 'cifar100': 32, 'fashion_mnist': 28, 'digits': 8, 'tiny_imagenet_40': 64}



def one_per_folder(names: list[str]) -> list[Any]:
    """All names as parameters, all but the last of each folder, whose teacher is no RegNetY, marked slow."""
    last = {name.split('/')[0]: name for name in names if '/vkd_' not in name}
    return [pytest.param(name, marks=[] if name in last.values() else [pytest.mark.slow]) for name in names]


def load(name: str) -> Config:
    return Config.fromfile(str(FOLDER / f'{name}.py'))


def shrink(config: Config, name: str, work_dir: Path) -> Config:
    """Two iterations on random images; models, losses and optimizer stay as they are."""
    folder = name.split('/')[0]
    side, grey = SIDES[folder], folder == 'fashion_mnist'
    (work_dir / 'data').mkdir()
    import cv2
    import numpy as np
    rng = np.random.default_rng(0)
    for i in range(4):
        cv2.imwrite(str(work_dir / 'data' / f'{i}.png'), rng.integers(0, 256, (side, side, 3), np.uint8))
    (work_dir / 'data.txt').write_text('\n'.join(f'{i}.png {i}' for i in range(4)))
    load_image = dict(type='LoadImageFromFile', color_type='grayscale' if grey else 'color')
    config.train_dataloader = dict(
        batch_size=2, num_workers=0, persistent_workers=False, sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(type='CustomDataset', data_root=str(work_dir), ann_file='data.txt', data_prefix='data',
                     classes=list('0123'), pipeline=[load_image, dict(type='PackInputs')]))
    config.train_cfg = dict(by_epoch=True, max_epochs=1)
    config.param_scheduler = None
    for key in ('val', 'test'):
        for part in ('dataloader', 'cfg', 'evaluator'):
            config[f'{key}_{part}'] = None
    if 'distill' in config:
        config.distill.teacher.checkpoint = None
        config.distill.teacher.allow_random = True
    config.work_dir = str(work_dir)
    config.log_level = 'ERROR'
    config.experiment_name = config.visualizer.name = name.replace('/', '-')
    config.randomness = dict(seed=0)
    return config


def test_the_configs_are_there():
    count = {folder: sum(name.startswith(f'{folder}/') for name in NAMES) for folder in SIDES}
    assert count == dict(imagenet=10, cifar100=13, fashion_mnist=2, digits=4, tiny_imagenet_40=2)


@pytest.mark.parametrize('name', NAMES)
def test_name_teacher_and_weights(name):
    config = load(name)
    teacher = config.distill.teacher
    named = name.split('d_backbone_')[1].split('_')[0]
    if named in TIMM:
        assert teacher.config == f'timm::{TIMM[named]}'
        assert TIMM[named] in timm.list_models(pretrained=True)
        return
    stem = config_path(teacher.config, 'k').stem
    assert named == stem.split('_')[0]
    if teacher.checkpoint == 'auto':
        assert zoo_weights(teacher.config, 'k').endswith('.pth')
    elif not teacher.checkpoint.startswith('https://'):
        # The file that the teacher's own config writes with the command of the README.
        epochs = Config.fromfile(teacher.config).train_cfg.max_epochs
        assert teacher.checkpoint.endswith(f'work_dirs/{stem}/epoch_{epochs}.pth')


@pytest.mark.parametrize('name', [name for name in NAMES if name.startswith('cifar100')])
def test_schedule_of_the_benchmark(name):
    config = load(name)
    small = re.search('mobilenet|shufflenet', name.rpartition('cifar100/')[2].split('_')[3]) is not None
    assert config.optim_wrapper.optimizer == dict(type='SGD', lr=0.01 if small else 0.05, momentum=0.9,
                                                  weight_decay=5e-4)
    assert config.train_cfg.max_epochs == 240
    assert config.param_scheduler.milestones == [150, 180, 210]
    assert config.train_dataloader.batch_size == 64
    assert config.train_dataloader.dataset.type == 'CIFAR100'


@pytest.mark.parametrize('name', one_per_folder(NAMES))
def test_steps(name, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)  # teachers are named from there
    runner = RUNNERS.build(shrink(load(name), name, tmp_path))
    distiller = runner.model.distiller
    before = {k: v.clone().detach() for k, v in distiller.named_parameters()}
    runner.train()
    last = {key: value.current() for key, value in runner.message_hub.log_scalars.items()}
    assert all(value == value and abs(value) < 1e3 for key, value in last.items() if 'loss' in key), last
    assert 'train/loss_srd_logits' in last
    after = distiller.named_parameters()
    assert all(torch.isfinite(v).all() and not torch.equal(v, before[k]) for k, v in after)


@pytest.mark.parametrize('name', one_per_folder(PLAIN))
def test_models_alone_build_with_stock_runner(name, tmp_path):
    config = shrink(load(name), name, tmp_path)
    assert 'runner_type' not in config
    runner = RUNNERS.build(config)
    runner.train()
    assert not hasattr(runner.model, 'distiller')
    assert isinstance(runner.model.head.fc, nn.Linear)


@pytest.mark.parametrize(('arch', 'teacher_width'), [('tiny', 192), ('small', 384)])
def test_settings_of_the_deit_experiments(arch, teacher_width, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    name = f'imagenet/srd_backbone_regnety-16gf_deit-{arch}-conv_300e_in1k'
    config = load(name)
    assert config.optim_wrapper.optimizer.lr == 5e-4 * 1024 / 512
    assert config.optim_wrapper.optimizer.weight_decay == 0.05
    assert config.optim_wrapper.clip_grad.max_norm == 15
    assert config.train_cfg.max_epochs == 300
    assert [s.get('eta_min') for s in config.param_scheduler] == [None, 5e-6 * 1024 / 512]
    runner = RUNNERS.build(shrink(config, name, tmp_path))
    loss = runner.model.distiller.losses['tokens'].criterion
    assert (loss.form, loss.alpha, loss.eps) == ('correlation', 4, 0)
    assert runner.model.distiller.losses['tokens'].projectors[0].weight.shape == (3024, teacher_width)
    pair, = runner.model.distiller.losses['tokens'].pairs
    assert pair.prefix_tokens == (2, 0)


@pytest.mark.parametrize(('arch', 'width'), [('tiny', 192), ('small', 384)])
def test_vkd_on_deit(arch, width, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    name = f'imagenet/vkd_backbone_regnety-16gf_deit-{arch}-conv_300e_in1k'
    distiller = RUNNERS.build(shrink(load(name), name, tmp_path)).model.distiller
    tokens = distiller.losses['tokens']
    assert type(tokens.criterion).__name__ == 'VkDLoss'
    assert (tokens.config.weight, tokens.config.pool, tokens.pairs[0].prefix_tokens) == (1, True, (2, 0))
    matrix, = tokens.projectors[0].matrices()
    assert matrix.shape == (3024, width)


def test_metafile_lists_what_exists():
    meta = yaml.safe_load((FOLDER / 'metafile.yml').read_text())
    listed = [model['Config'] for model in meta['Models']]
    assert sorted(listed) == sorted(f'configs/mmpretrain/{name}.py' for name in NAMES)
    assert all((ROOT / model['Config']).is_file() for model in meta['Models'])
