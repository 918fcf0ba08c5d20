"""With random augmentation a run that is resumed in the middle ends as one left alone, bit for bit."""
from __future__ import annotations

import json

import pytest
from helpers.weights import same

FLIPS = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True),
         dict(type='RandomFlip', prob=0.5), dict(type='PhotoMetricDistortion'), dict(type='PackDetInputs')]
"""PhotoMetricDistortion and RandomFlip draw from NumPy, samplers from PyTorch."""
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


CASES = {'epochs': ({**EPOCHS, 'randomness.seed': None}, loader(0), (3, 8)),
         'epochs, workers': (EPOCHS, loader(2), (3,)),
         'epochs, persistent workers': (EPOCHS, loader(3, True), (4, 8)), 'iterations': (INFINITE, loader(0), (6,)),
         'iterations, workers': (INFINITE, loader(2, True), (5,)),
         'iterations of a finite sampler': (ITERATIONS, loader(2), (8, 9))}
"""Checkpoints in the middle and at the end of passes over the data, before validations and elsewhere."""
SLOW = 'epochs, workers', 'epochs, persistent workers', 'iterations, workers', 'iterations of a finite sampler'


@pytest.mark.parametrize('name', [
    pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in CASES])
def test_random_augmentation(make_runner, distill, tmp_path, name):
    loop, loading, moments = CASES[name]
    options = options_of(loop, loading)
    whole = make_runner('whole', distill, **options)
    whole.train()
    for moment in moments:
        start = dict(resume=True, load_from=str(tmp_path / f'whole/iter_{moment}.pth'))
        resumed = make_runner(f'from_{moment}', distill, **start, **options)
        resumed.train()
        expected, found = losses(tmp_path / 'whole'), losses(tmp_path / f'from_{moment}')
        assert found
        assert found == {key: expected[key] for key in found}, moment
        equal = same(whole.model.state_dict(), resumed.model.state_dict())
        assert equal, moment


def test_without_it_other_images_come(make_runner, distill, tmp_path):
    """The comparison above can fail."""
    options = {**options_of({}, loader(0)), 'default_hooks.checkpoint': dict(type='CheckpointHook', interval=1)}
    whole = make_runner('whole', distill, **options)
    whole.train()
    resumed = make_runner('resumed', {**distill, 'exact_resume': False}, resume=True,
                          load_from=str(tmp_path / 'whole/epoch_1.pth'), **options)
    resumed.train()
    equal = same(whole.model.state_dict(), resumed.model.state_dict())
    assert not equal


def test_the_middle_of_an_epoch_that_begins_again(make_runner, distill, tmp_path):
    """Steps and schedules count as if the steps of the lost part had not been."""
    options = options_of({}, loader(0))
    make_runner('run', distill, **options, **{'train_cfg.max_epochs': 1}).train()
    options['train_dataloader.batch_size'] = 2
    options['optim_wrapper.accumulative_counts'] = 2  # MMEngine stops where more iterations come than it was told
    for moment in (3, 8):  # and from the end of an epoch, whose length is another now
        resumed = make_runner('resumed', distill, resume=True, load_from=str(tmp_path / f'run/iter_{moment}.pth'),
                              **options)
        resumed.train()
        assert resumed.iter == resumed.max_iters == 8


def test_iterations_go_on_about_where_they_were(make_runner, distill, tmp_path):
    """With batches of another size: what training has had is not loaded once more."""
    options = options_of(INFINITE, loader(0))
    make_runner('run', distill, **options).train()
    options['train_dataloader.batch_size'] = 2
    resumed = make_runner('resumed', distill, resume=True, load_from=str(tmp_path / 'run/iter_6.pth'), **options)
    loaded, dataset = [], type(resumed.train_dataloader.dataset)
    get = dataset.__getitem__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, '__getitem__', lambda self, i: loaded.append(i) or get(self, i))
        resumed.train()
    whole = make_runner('order', distill, **{**options, 'train_dataloader.batch_size': 1})
    order = [i for _, i in zip(range(12), iter(whole.build_dataloader(
        whole.cfg.train_dataloader, seed=whole.seed).sampler))]
    assert loaded[:6] == order[6:12]  # three batches, then a validation
    assert resumed.iter == 11


@pytest.mark.parametrize(('change', 'message'), [
    (loader(2), 'num_workers was 0 in the saved run and is 2 now'),
    ({'train_dataloader.batch_size': 2}, 'batches per epoch was 8 in the saved run and is 4 now; batch_size was 1'),
])
def test_another_run_begins_its_epoch_again(make_runner, distill, tmp_path, change, message):
    options = options_of({}, loader(0))
    make_runner('run', distill, **options, **{'train_cfg.max_epochs': 1}).train()
    runner = make_runner('resumed', distill, resume=True, load_from=str(tmp_path / 'run/iter_4.pth'),
                         **{**options, **change})
    warnings = []
    runner.logger.handlers[0].addFilter(lambda record: warnings.append(record.getMessage()) or True)
    runner.train()
    assert f'the random states of the checkpoint are not restored: {message}' in ' '.join(warnings)
