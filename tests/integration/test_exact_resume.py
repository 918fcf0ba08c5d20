"""With random augmentation a run that is resumed in the middle ends as one left alone, bit for bit."""
from __future__ import annotations

import json

import pytest
from helpers.weights import same

FLIPS = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True),
         dict(type='RandomFlip', prob=0.5), dict(type='PhotoMetricDistortion'), dict(type='PackDetInputs')]
"""PhotoMetricDistortion and RandomFlip draw from NumPy; the shuffling and dropout below from PyTorch."""
EPOCHS = {'train_cfg.max_epochs': 3, 'train_cfg.val_interval': 1}
ITERATIONS = {'train_cfg': dict(_delete_=True, type='IterBasedTrainLoop', max_iters=11, val_interval=3),
              'log_processor.by_epoch': False}
INFINITE = {**ITERATIONS, 'train_dataloader.sampler': dict(type='InfiniteSampler', shuffle=True)}


def loader(workers, persistent=False):
    return {f'{kind}_dataloader.{key}': value for kind in ('train', 'val')
            for key, value in dict(num_workers=workers, persistent_workers=persistent).items()}


def options_of(loop, loading):
    return {**loop, **loading, 'train_dataloader.dataset.pipeline': FLIPS, 'train_dataloader.batch_size': 1,
            'default_hooks.checkpoint': dict(type='CheckpointHook', interval=1, by_epoch=False)}


def losses(folder):
    """What was logged for each iteration, and the metrics of each validation."""
    path, = folder.glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {(line.get('iter'), line['step']): line.get('loss', line.get('coco/bbox_mAP')) for line in lines}


CASES = [('epochs', EPOCHS, loader(0), (3, 8, 13)), ('epochs, workers', EPOCHS, loader(2), (3, 8)),
         ('epochs, persistent workers', EPOCHS, loader(3, True), (4, 8, 16)),
         ('iterations', INFINITE, loader(0), (6, 7)), ('iterations, workers', INFINITE, loader(2, True), (5, 9)),
         ('iterations of a finite sampler', ITERATIONS, loader(2), (3, 8, 9))]


@pytest.mark.parametrize(('loop', 'loading', 'moments'), [case[1:] for case in CASES], ids=[c[0] for c in CASES])
def test_random_flips(make_runner, distill, tmp_path, loop, loading, moments):
    options = options_of(loop, loading)
    whole = make_runner('whole', distill, **options)
    whole.train()
    for moment in moments:
        name = f'from_{moment}'
        resumed = make_runner(name, distill, resume=True, load_from=str(tmp_path / f'whole/iter_{moment}.pth'),
                              **options)
        resumed.train()
        expected, found = losses(tmp_path / 'whole'), losses(tmp_path / name)
        assert found, moment
        assert found == {key: expected[key] for key in found}, moment
        assert same(whole.model.state_dict(), resumed.model.state_dict()), moment
