"""``distill.labels=False`` from the data to the checkpoint: plain folders, averages, half precision, processes."""
from __future__ import annotations

import copy
import shutil
from pathlib import Path

import pytest
import torch
from helpers.processes import ROOT, forked
from helpers.weight_zero_worker import Bfloat16OptimWrapper
from helpers.weights import same
from mmengine.registry import RUNNERS

from mmsrd.compat import load_checkpoint_file
from mmsrd.datasets import ImageFolder
from mmsrd.errors import ConfigError
from mmsrd.utils.zoo import load_config

PIPELINE = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(64, 64)), dict(type='RandomFlip', prob=0.5),
            dict(type='PackDetInputs')]


def unlabelled(folder):
    return dict(_delete_=True, type='mmsrd.ImageFolder', data_root=str(folder), pipeline=PIPELINE)


@pytest.fixture
def block(distill):
    return dict(teacher=distill['teacher'], labels=False, report=False)


@pytest.fixture
def options(coco):
    return {'train_dataloader.dataset': unlabelled(coco / 'train'),
            'custom_hooks': [dict(type='EMAHook', momentum=0.1)],
            'optim_wrapper.type': Bfloat16OptimWrapper.__name__,
            'default_hooks.checkpoint': dict(type='CheckpointHook', interval=1, by_epoch=False)}


def test_a_folder_of_images(tmp_path, coco, monkeypatch):
    """Folders in it, and links to folders; no hidden files, of which macOS packs one beside each image."""
    for name in ('all/a/1.JPG', 'all/b/2.png', 'all/b/notes.txt', 'all/b/._2.png', 'all/__MACOSX/3.png', 'c/4.png'):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(b'')
    shutil.copy(next((coco / 'train').iterdir()), tmp_path / 'all/a/1.JPG')
    (tmp_path / 'all/linked').symlink_to(tmp_path / 'c')
    (tmp_path / 'all/above').symlink_to(tmp_path / 'all')
    data = ImageFolder(str(tmp_path / 'all'))
    assert [Path(entry['img_path']).relative_to(tmp_path / 'all').as_posix() for entry in data.load_data_list()] == [
        'a/1.JPG', 'b/2.png', 'linked/4.png']
    info = data.get_data_info(0)
    assert (info['img_path'], info['width'], info['height']) == (str(tmp_path / 'all/a/1.JPG'), 64, 64)
    (tmp_path / 'empty').mkdir()
    monkeypatch.setenv('HOME', str(tmp_path))
    with pytest.raises(ConfigError, match=r"data_root = '/.*/empty': there are no images in this folder"):
        ImageFolder('~/empty')
    with pytest.raises(ConfigError, match=r"data_root = '.*nowhere': there is no such folder"):
        ImageFolder(str(tmp_path / 'nowhere'))


@pytest.mark.parametrize(('name', 'annotations'), [
    ('mmdet::retinanet/retinanet_r18_fpn_1x_coco.py', False), ('mmdet::yolox/yolox_tiny_8xb8-300e_coco.py', True)])
def test_configs_of_the_zoo(name, annotations, block, coco, tmp_path):
    """As the guide has it: samplers ask for width and height, augmentations of a batch for boxes."""
    config = load_config(name, 'student')
    config.model.backbone.init_cfg = None
    labels = [dict(type='LoadAnnotations', with_bbox=True)] if annotations else []
    config.merge_from_dict({
        'train_dataloader.dataset': dict(_delete_=True, type='mmsrd.ImageFolder', data_root=str(coco / 'train'),
                                         pipeline=[PIPELINE[0], *labels, *PIPELINE[1:]]),
        'train_dataloader.num_workers': 0, 'train_dataloader.persistent_workers': False,
        'train_dataloader.batch_size': 4, 'train_cfg.max_epochs': 1, 'custom_hooks': [], 'log_level': 'ERROR',
        'param_scheduler': None, 'runner_type': 'mmsrd.DistillRunner', 'distill': block, 'work_dir': str(tmp_path),
        **{f'{split}_{part}': None for split in ('val', 'test') for part in ('cfg', 'dataloader', 'evaluator')}})
    config.visualizer.name = config.experiment_name = tmp_path.name
    runner = RUNNERS.build(config)
    runner.train()
    assert runner.iter == 2
    assert runner.message_hub.get_scalar('train/loss').current() != 0


def test_a_labelled_run_that_is_resumed_without(make_runner, block, options, tmp_path):
    """It is said what has changed."""
    options = {key: value for key, value in options.items() if key.startswith('default_hooks')}
    losses = dict(neck=dict(student='neck', teacher='neck'))
    make_runner('labelled', dict(block, labels=True, losses=losses), **options).train()
    make_runner('unlabelled', dict(block, losses=losses), resume=True, load_from=str(tmp_path / 'labelled/iter_4.pth'),
                log_level='INFO', **options).train()
    text = next((tmp_path / 'unlabelled').glob('*/*.log')).read_text()
    assert 'distill.labels was True and is now False' in text


def test_resumed(make_runner, block, options, tmp_path):
    """Bit for bit, from a plain folder, with an average, in half precision; the head stays as it was."""
    whole = make_runner('whole', block, **options)
    before = copy.deepcopy(whole.model.state_dict())
    whole.train()
    resumed = make_runner('resumed', block, resume=True, load_from=str(tmp_path / 'whole/iter_3.pth'), **options)
    resumed.train()
    assert whole.iter == resumed.iter == 8
    for part in (lambda model: model.state_dict(), lambda model: model.distiller.state_dict()):
        assert same(part(whole.model), part(resumed.model))
    after = whole.model.state_dict()
    assert before.keys() == after.keys()
    assert not torch.equal(before['backbone.conv1.weight'], after['backbone.conv1.weight'])
    saved = load_checkpoint_file(str(tmp_path / 'whole/iter_8.pth'), 'test')
    for state in (saved['state_dict'], saved['ema_state_dict']):
        assert {key.removeprefix('module.') for key in state} - {'steps'} == set(after)
    assert not same(saved['state_dict'], {k.removeprefix('module.'): v for k, v in saved['ema_state_dict'].items()})


def test_the_checkpoint_starts_a_training_with_labels(make_runner, block, options, tmp_path):
    make_runner('pretrained', block, **options).train()
    checkpoint = tmp_path / 'pretrained/iter_8.pth'
    runner = make_runner('trained', load_from=str(checkpoint))
    runner.load_or_resume()
    assert same(runner.model.state_dict(), load_checkpoint_file(str(checkpoint), 'test')['state_dict'])
    runner.train()


def test_two_processes_are_one(student_config, block, coco, tmp_path):
    """DistributedDataParallel waits for no parameter of the head, and the gradient is that of the whole batch."""
    config = copy.deepcopy(student_config)
    config.model.backbone.norm_eval, config.model.neck.norm_cfg = True, None  # statistics would be of half a batch
    config.runner_type, config.distill = 'mmsrd.DistillRunner', block
    config.train_dataloader.dataset = unlabelled(coco / 'train')
    config.train_dataloader.dataset.pop('_delete_')
    config.train_dataloader.dataset['pipeline'] = [step for step in PIPELINE if step['type'] != 'RandomFlip']
    config.optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01, momentum=0.9))
    config.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1, val_interval=9)
    config.randomness = dict(seed=0)
    config.update(dict.fromkeys(('val_cfg', 'val_dataloader', 'val_evaluator')))
    weights = {}
    for processes, batch_size in ((1, 4), (2, 2)):
        config.train_dataloader.batch_size = batch_size
        config.work_dir = str(tmp_path / f'{processes}')
        file = tmp_path / f'in_{processes}.py'
        config.dump(str(file))
        launcher = [] if processes == 1 else ['--launcher', 'pytorch']
        forked(ROOT / 'tools/train.py', file, *launcher, processes=processes, cwd=tmp_path)
        weights[processes] = load_checkpoint_file(str(tmp_path / f'{processes}/epoch_1.pth'), 'test')
    assert weights[1]['meta']['iter'] == weights[2]['meta']['iter'] == 2
    for name, value in weights[1]['state_dict'].items():
        # Sums over processes are added in another order: float32's rounding, over two steps.
        torch.testing.assert_close(weights[2]['state_dict'][name], value, rtol=1e-4, atol=1e-6,
                                   msg=lambda text, name=name: f'{name}: {text}')

