"""Whole runs through the runner: checkpoints, EMA, logs, schedules."""
from __future__ import annotations

import copy
import json
import runpy
import sys
from pathlib import Path
from types import ModuleType

import mmdet
import pytest
import torch
import torch.distributed as dist
from helpers.models import hooks_of
from helpers.weights import load, same, tensors_in
from mmengine.model import is_model_wrapper
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import MODEL_WRAPPERS, OPTIM_WRAPPER_CONSTRUCTORS

from mmsrd.engine import optimizer
from mmsrd.errors import ConfigError

EMA = dict(type='EMAHook', momentum=0.1)


@pytest.mark.parametrize('hooks', [[], [EMA], [dict(EMA, update_buffers=True, strict_load=True)]],
                         ids=['plain', 'ema', 'ema-buffers'])
def test_checkpoints_are_the_students(make_runner, distill, tmp_path, hooks):
    make_runner('alone', custom_hooks=hooks).train()
    runner = make_runner('run', distill, custom_hooks=hooks)
    runner.train()
    plain, ours = (load(tmp_path / name / 'epoch_2.pth') for name in ('alone', 'run'))
    assert list(ours['state_dict']) == list(plain['state_dict'])
    assert list(ours.get('ema_state_dict', {})) == list(plain.get('ema_state_dict', {}))
    assert set(ours) - set(plain) == {'distiller'}
    projectors = ours['distiller']['state_dict']
    assert list(projectors) == [f'losses.neck.projectors.{i}.weight' for i in range(3)]
    assert same(projectors, runner.model.distiller.state_dict())
    teacher_sizes = {v.shape for v in runner.model.distiller.teacher.model.state_dict().values() if v.dim() == 4}
    student_sizes = {v.shape for v in plain['state_dict'].values()}
    in_file = {v.shape for v in tensors_in(ours)}
    assert teacher_sizes - student_sizes
    assert not (teacher_sizes - student_sizes) & in_file  # no teacher weight anywhere in the file


@pytest.mark.parametrize('hooks', [[], [EMA]], ids=['plain', 'ema'])
def test_stock_init_detector_loads_the_checkpoint(make_runner, distill, tmp_path, hooks, student_config, caplog):
    from mmdet.apis import init_detector
    from mmengine.runner.checkpoint import load_state_dict
    make_runner('run', distill, custom_hooks=hooks).train()
    path = tmp_path / 'run' / 'epoch_2.pth'
    model = init_detector(copy.deepcopy(student_config), str(path), device='cpu')
    assert not hasattr(model, 'distiller')
    load_state_dict(model, load(path)['state_dict'], strict=True)  # MMEngine's own check of missing and unexpected
    assert same(model.state_dict(), load(path)['state_dict'])


def test_load_from_starts_with_fresh_projectors_and_no_missing_keys(make_runner, distill, tmp_path, caplog):
    make_runner('alone').train()
    path = tmp_path / 'alone' / 'epoch_2.pth'
    runner = make_runner('run', distill, load_from=str(path))
    fresh = copy.deepcopy(runner.model.distiller.state_dict())
    runner.load_or_resume()
    assert same(runner.model.state_dict(), load(path)['state_dict'])
    assert same(fresh, runner.model.distiller.state_dict())
    # caplog cannot see MMEngine's logger; ask what it asks.
    assert runner.model.load_state_dict(load(path)['state_dict']).missing_keys == []


def test_the_runner_trains_the_students_own_class(make_runner, distill):
    runner = make_runner('run', distill)
    assert type(runner.model).__name__ == 'FCOS'
    assert not is_model_wrapper(runner.model)
    runner.train()
    held = {id(p) for group in runner.optim_wrapper.param_groups for p in group['params']}
    assert all(id(p) in held for p in runner.model.distiller.parameters())
    assert all(id(p) in held for p in runner.model.parameters() if p.requires_grad)
    logged = set(runner.message_hub.log_scalars)
    assert {'train/loss_srd_neck', 'train/srd_alignment_neck'} <= logged
    total = runner.message_hub.get_scalar('train/loss').current()
    parts = sum(runner.message_hub.get_scalar(f'train/{k}').current()
                for k in ('loss_cls', 'loss_bbox', 'loss_centerness', 'loss_srd_neck'))
    assert total == pytest.approx(parts, rel=1e-5)


def test_projectors_move_and_align(make_runner, distill):
    runner = make_runner('run', distill, **{'train_cfg.max_epochs': 12, 'train_cfg.val_interval': 50})
    before = copy.deepcopy(runner.model.distiller.state_dict())
    runner.train()
    after = runner.model.distiller.state_dict()
    assert all(not torch.equal(before[k], after[k]) for k in before)
    history, _ = runner.message_hub.get_scalar('train/srd_alignment_neck').data
    assert history[-8:].mean() > history[:8].mean() + 0.1  # 48 steps take it from about 0 to 0.3 and more


def test_logged_values_reach_the_scalars_file(make_runner, distill, tmp_path):
    make_runner('run', distill).train()
    text = next(Path(tmp_path).glob('run/*/vis_data/scalars.json')).read_text()
    assert text.count('"srd_alignment_neck"') == 8
    assert text.count('"loss_srd_neck"') == 8


def test_what_has_ended_is_not_logged(make_runner, distill, tmp_path):
    make_runner('run', {**distill, 'schedule': dict(end=4)}).train()
    lines = [json.loads(line) for line in next(Path(tmp_path).glob('run/*/vis_data/scalars.json')).open()]
    shown = {line['step']: 'srd_alignment_neck' in line for line in lines if 'loss_srd_neck' in line}
    assert shown == {step: step <= 4 for step in range(1, 9)}


def test_mmdetection_can_read_the_log(make_runner, distill, tmp_path, monkeypatch):
    """Its script skips what comes after a name with a slash in a line; it draws with seaborn, which need not be there.
    """
    monkeypatch.setitem(sys.modules, 'seaborn', ModuleType('seaborn'))
    path = Path(mmdet.__file__).with_name('.mim') / 'tools/analysis_tools/analyze_logs.py'
    make_runner('run', distill).train()
    log, = runpy.run_path(str(path))['load_json_logs']([next(Path(tmp_path).glob('run/*/vis_data/scalars.json'))])
    counts = [sum(len(epoch[name]) for epoch in log.values())
              for name in ('loss_cls', 'srd_alignment_neck', 'time', 'step')]
    assert counts == [8] * 4


def test_testing_needs_no_teacher_weights(make_runner, distill, tmp_path):
    make_runner('run', distill).train()
    distill['teacher']['checkpoint'] = '/gone/teacher.pth'
    runner = make_runner('test', distill, load_from=str(tmp_path / 'run' / 'epoch_2.pth'))
    assert 'coco/bbox_mAP' in runner.test()


def test_epochs_need_a_loop_that_counts_them(make_runner, distill):
    distill['schedule'] = dict(end=1, by_epoch=True)
    distill['teacher']['inference'] = dict(fold=False)  # which would run it before training
    runner = make_runner('run', distill, train_cfg=dict(
        _delete_=True, type='IterBasedTrainLoop', max_iters=2, val_interval=100))
    with pytest.raises(ConfigError, match='by_epoch = True: the train loop counts iterations'):
        runner.train()


def test_a_tapped_syncbn_module_survives_the_runners_conversion(make_runner, distill):
    distill['losses'] = dict(bn=dict(student='backbone.layer3.1.bn2', teacher='backbone.layer3.1.bn2'))
    runner = make_runner('run', distill, **{'model.backbone.norm_cfg': dict(type='SyncBN', requires_grad=True)})
    runner.train()
    assert runner.message_hub.get_scalar('train/loss_srd_bn').current() != 0


@pytest.fixture
def one_gloo_process(tmp_path, monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '0')
    dist.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@MODEL_WRAPPERS.register_module()
class PlainWrapper(torch.nn.Module):
    """DistributedDataParallel refuses SyncBN on the CPU."""

    def __init__(self, module, **options):
        super().__init__()
        self.module = module


def test_modules_become_syncbn_once(make_runner, distill, one_gloo_process):
    """MMEngine converts when it wraps the model, when recorders are on the modules already."""
    path = 'backbone.layer3.1.bn2'
    distill['losses'] = dict(bn=dict(student=path, teacher=path))
    runner = make_runner('run', distill, launcher='pytorch', sync_bn='torch',
                         model_wrapper_cfg=dict(type='PlainWrapper'))
    student = runner.model.module.eval()  # SyncBN in training mode works on GPUs only
    assert isinstance(student.get_submodule(path), torch.nn.SyncBatchNorm)
    student.distiller.teachers.prepare(None)
    batch = student.data_preprocessor(next(iter(runner.build_dataloader(runner.cfg.train_dataloader))), True)
    assert student(**batch, mode='loss')['loss_srd_bn'] != 0
    assert runner.cfg.sync_bn == 'torch'


def test_end_by_epoch(make_runner, distill):
    distill['schedule'] = dict(end=1, by_epoch=True)
    distill['teacher']['inference'] = dict(fold=False)  # which would run it before training
    runner = make_runner('run', distill)
    calls = []
    runner.model.distiller.teacher.model.backbone.register_forward_hook(lambda *a: calls.append(runner.iter))
    runner.train()
    assert calls == [0, 1, 2, 3]
    history, _ = runner.message_hub.get_scalar('train/loss_srd_neck').data
    assert (history[:4] != 0).all()
    assert (history[4:] == 0).all()


@pytest.mark.parametrize('steps', [8, 120])
def test_hooks_stay_as_long_as_the_training(make_runner, distill, steps):
    """Also those of a run that is too short to be judged."""
    options = {'train_cfg': dict(_delete_=True, type='IterBasedTrainLoop', max_iters=steps, val_interval=500),
               'train_dataloader.sampler': dict(type='InfiniteSampler', shuffle=True), 'log_processor.by_epoch': False}
    runner = make_runner('run', {**distill, 'report': dict(images=0)},
                         custom_hooks=[dict(type='mmsrd.ProjectorDiagnosticsHook', interval=3)], **options)
    before = hooks_of(runner.model)
    runner.train()
    after = hooks_of(runner.model)
    # The teacher is outside of the student, so nothing else has come either.
    assert {place: len(hooks) for place, hooks in after.items()} == {
        place: len(hooks) for place, hooks in before.items()}


@pytest.mark.parametrize(('schedule', 'message'), [
    (dict(start=8), r'distill\.schedule\.start = 8: the training has 8 iterations, so nothing would be distilled'),
    (dict(start=2, by_epoch=True), r'distill\.schedule\.start = 2: the training has 2 epochs, so nothing would')])
def test_a_schedule_that_begins_after_the_training(make_runner, distill, schedule, message):
    with pytest.raises(ConfigError, match=message):
        make_runner('run', {**distill, 'schedule': schedule}).train()
    make_runner('shorter', {**distill, 'schedule': {**schedule, 'start': schedule['start'] - 1}}).train()


@pytest.mark.parametrize('kind', ['DistillReportHook', 'ProjectorDiagnosticsHook', 'DistillHook'])
def test_hooks_in_a_config_that_does_not_distil(make_runner, kind):
    runner = make_runner('run', custom_hooks=[dict(type=f'mmsrd.{kind}')])
    with pytest.raises(ConfigError, match="Runner does not distil, so mmsrd's hooks have nothing to look at; write"):
        runner.train()


def test_signals_are_handled_without_distillation(make_runner):
    """That hook needs none."""
    runner = make_runner('run', custom_hooks=[dict(type='mmsrd.PreemptionHook')], **{'train_cfg.max_epochs': 1})
    runner.train()
    assert runner.iter == 4


def test_a_hook_of_the_config_is_not_registered_twice(make_runner, distill):
    """An average of the student would follow it twice in each step."""
    distill['teacher'] = dict(ema=dict(momentum=0.5))
    averages = []
    for name, hooks in (('plain', []), ('twice', [dict(type='mmsrd.DistillHook')])):
        runner = make_runner(name, distill, custom_hooks=hooks)
        runner.train()
        averages.append(runner.model.distiller.teacher.state())
    assert same(*averages)


def rates_of_projectors(runner):
    """Learning rates with which the projectors are trained."""
    wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    own = {id(parameter) for parameter in runner.model.distiller.parameters()}
    assert own
    return {group['lr'] for group in wrapper.param_groups for parameter in group['params'] if id(parameter) in own}


@pytest.mark.parametrize(('keys', 'factor'), [
    ({'neck': dict(lr_mult=0.1)}, 1), ({'distiller': dict(lr_mult=0.5), 'neck': dict(lr_mult=0.1)}, 0.5),
    ({'backbone': dict(lr_mult=0.1)}, 1)])
def test_settings_of_the_student_are_not_those_of_projectors(make_runner, distill, keys, factor):
    """A loss may have the name of a part of the student; MMEngine looks for keys anywhere in a parameter's name."""
    runner = make_runner('run', distill, **{'optim_wrapper.paramwise_cfg': dict(custom_keys=keys)})
    assert rates_of_projectors(runner) == {factor * runner.cfg.optim_wrapper.optimizer.lr}
    assert runner.cfg.optim_wrapper.paramwise_cfg.custom_keys == keys


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class WeightsOfLayers(DefaultOptimWrapperConstructor):
    """Takes parameters of modules that have a ``weight``, as MMYOLO's for YOLOv5 does."""

    def add_params(self, params, module, **kwargs):
        params += [dict(params=[layer.weight]) for layer in module.modules()
                   if isinstance(getattr(layer, 'weight', None), torch.nn.Parameter)]


@pytest.mark.parametrize(('projector', 'missing'), [('OrthogonalProjector', 3), ('LinearProjector', 0)])
def test_an_optimizer_that_leaves_projectors_out(make_runner, distill, monkeypatch, projector, missing):
    said = []
    monkeypatch.setattr(optimizer, 'print_log', lambda text, **_: said.append(text))
    distill['losses']['neck']['projector'] = dict(type=projector)
    runner = make_runner('run', distill, **{'optim_wrapper.constructor': 'WeightsOfLayers',
                                            'optim_wrapper.paramwise_cfg': dict(norm_decay_mult=1.0)})
    runner.build_optim_wrapper(runner.optim_wrapper)
    assert sum(text.count('distiller.losses.neck.projectors') for text in said) == missing


def test_test_time_augmentation_with_the_toolboxs_script(make_runner, distill):
    """It puts the student into another model, which is tested and not trained."""
    wrapped = make_runner('alone').cfg.model
    runner = make_runner('run', distill, model=dict(_delete_=True, type='DetTTAModel', tta_cfg=dict(
        nms=dict(type='nms', iou_threshold=0.5), max_per_img=10), module=wrapped), **{
        'test_dataloader.dataset.pipeline': [dict(type='LoadImageFromFile'), dict(type='TestTimeAug', transforms=[
            [dict(type='Resize', scale=(64, 64), keep_ratio=True)], [dict(type='RandomFlip', prob=1.0)],
            [dict(type='LoadAnnotations', with_bbox=True)],
            [dict(type='PackDetInputs', meta_keys=(
                'img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip', 'flip_direction'))]])]})
    assert 'coco/bbox_mAP' in runner.test()
