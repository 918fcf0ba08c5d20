"""Each teacher is evaluated on the student's validation set before training."""
from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from helpers.processes import ROOT, forked
from helpers.weights import load, same
from mmdet.evaluation import CocoMetric
from mmengine.evaluator import Evaluator
from mmengine.registry import EVALUATOR, METRICS
from torch import nn

from mmsrd.config.teacher_config import parse_teacher
from mmsrd.engine.evaluate_teacher import evaluate
from mmsrd.engine.hooks import teacher_check_hook
from mmsrd.engine.hooks.teacher_check_hook import near_chance
from mmsrd.errors import ConfigError, ConfigTypeError, UnknownKeyError
from mmsrd.teachers.class_names import num_classes

ONE_EPOCH = {'train_cfg.max_epochs': 1, 'train_cfg.val_interval': 9, 'log_level': 'INFO'}


def log_of(runner):
    return next(Path(runner.log_dir).glob('*.log')).read_text()


def found_by(runner):
    """What the check has written into the work directory."""
    path = Path(runner.work_dir, 'teacher_check.json')
    return list(json.loads(path.read_text()).values()) if path.is_file() else []


def test_the_figure_is_that_of_mmengine(make_runner, teacher, monkeypatch):
    """And a resume takes it from the file, unless the teacher's config has changed."""
    block, own = teacher
    expected = own.val()
    assert 0.2 < expected['coco/bbox_mAP'] < 0.98
    runner = make_runner('run', dict(teacher=block), **ONE_EPOCH)
    runner.train()
    assert found_by(runner) == [dict(images=4, of=4, metrics=pytest.approx(expected))]
    figure = f"distill.teacher on 4 images of the student's validation set: teacher/coco/bbox_mAP " \
        f'{expected["coco/bbox_mAP"]:.4g}'
    assert figure in log_of(runner)
    assert 'teacher/' not in next(Path(runner.log_dir).rglob('scalars.json')).read_text()
    evaluated = []
    monkeypatch.setattr(teacher_check_hook, 'evaluate', lambda *arguments: evaluated.append(arguments))
    again = make_runner('run', dict(teacher=block), **ONE_EPOCH, resume=True)
    again.train()
    assert figure in log_of(again)
    text = Path(block['config']).read_text()
    Path(block['config']).write_text(text.replace('bgr_to_rgb=False', 'bgr_to_rgb=True'))
    assert Path(block['config']).read_text() != text
    assert not evaluated
    make_runner('run', dict(teacher=block), **ONE_EPOCH).train()
    assert len(evaluated) == 1
    for mended in (dict(swap_channels=True), dict(scale=2.0)):
        make_runner('run', dict(teacher={**block, **mended}), **ONE_EPOCH).train()
    assert len(evaluated) == 3


def test_some_images(make_runner, teacher, coco, tmp_path):
    """They are spread over the set, and those that were not looked at are not counted as missed."""
    block, own = teacher
    annotations = json.loads((coco / 'annotations/val.json').read_text())
    annotations['images'] = annotations['images'][::2]  # of four
    kept = {image['id'] for image in annotations['images']}
    annotations['annotations'] = [box for box in annotations['annotations'] if box['image_id'] in kept]
    (tmp_path / 'two.json').write_text(json.dumps(annotations))
    two = make_runner('two', **{'val_dataloader.dataset.ann_file': str(tmp_path / 'two.json'),
                                'val_evaluator.ann_file': str(tmp_path / 'two.json'), 'model.type': 'KnowingFCOS',
                                'model.answers': str(coco / 'annotations/val.json')})
    expected = two.val()
    runner = make_runner('run', dict(teacher=dict(block, check=dict(images=2))), **ONE_EPOCH)
    runner.train()
    assert found_by(runner) == [dict(images=2, of=4, metrics=pytest.approx(expected))]
    assert "distill.teacher on 2 of 4 images of the student's validation set: " in log_of(runner)
    assert 'AP on a part is higher than on the whole set' in log_of(runner)
    assert expected['coco/bbox_mAP'] != pytest.approx(own.val()['coco/bbox_mAP'])


def test_training_is_not_changed_by_it(make_runner, teacher):
    weights = []
    for check in (None, False):
        runner = make_runner(f'check-{check}', dict(teacher=dict(teacher[0], check=check)), **ONE_EPOCH)
        runner.train()
        weights.append(runner.model.state_dict())
        assert len(found_by(runner)) == (check is None)
    assert same(*weights)


@pytest.mark.slow
def test_two_processes_find_what_one_finds(student_config, make_runner, teacher, tmp_path):
    """One of them has fewer batches than the other."""
    images = 3
    config = copy.deepcopy(student_config)
    config.merge_from_dict({**ONE_EPOCH, 'distill': dict(teacher=teacher[0]), 'runner_type': 'mmsrd.DistillRunner',
                            'val_dataloader.batch_size': 1, 'val_dataloader.dataset.indices': images,
                            'val_dataloader.sampler': dict(type='DefaultSampler', shuffle=False, round_up=False)})
    config.dump(str(tmp_path / 'student.py'))
    forked(ROOT / 'tools/train.py', tmp_path / 'student.py', '--launcher', 'pytorch', '--work-dir', tmp_path / 'run',
           processes=2, cwd=tmp_path)
    found, = json.loads((tmp_path / 'run/teacher_check.json').read_text()).values()
    alone = make_runner('alone', dict(teacher=dict(teacher[0], check=dict(images=images))),
                        **ONE_EPOCH, **{'val_dataloader.batch_size': 1})
    alone.train()
    assert [found] == found_by(alone)
    assert found['images'] == images
    assert (tmp_path / 'run/distill_report/index.html').read_text().count('<img') == 3 * 2  # half of the images


def relabelled(block, classes, tmp_path):
    """The teacher with other names of classes in its file."""
    content = load(block['checkpoint'])
    content['meta']['dataset_meta']['classes'] = classes
    torch.save(content, tmp_path / 'relabelled.pth')
    return dict(block, checkpoint=str(tmp_path / 'relabelled.pth'))


@pytest.mark.parametrize(('classes', 'message'), [
    (tuple('1023456789'), "distill.teacher: the teacher has the student's classes in another order: class 0 is '1' "
                          "for the teacher and '0' for the student"),
    (tuple('0123456abc'), 'distill.teacher: the teacher was trained on 10 classes, the student has 10 (only '
                          'the teacher has 3: a, b, c; only the student has 3: 7, 8, 9)')])
def test_other_classes(make_runner, teacher, tmp_path, classes, message):
    """They are named, and the teacher is evaluated where the user insists only."""
    block = relabelled(teacher[0], classes, tmp_path)
    runner = make_runner('run', dict(teacher=block), **ONE_EPOCH)
    runner.train()
    assert message in log_of(runner)
    assert not found_by(runner)
    runner = make_runner('forced', dict(teacher=dict(block, check=dict(images=4))), **ONE_EPOCH)
    runner.train()
    assert len(found_by(runner)) == 1


def test_another_number_of_classes(make_runner, teacher, tmp_path):
    """Also where the file has no names."""
    content = load(teacher[0]['checkpoint'])
    del content['meta']
    torch.save(content, tmp_path / 'nameless.pth')
    runner = make_runner('run', dict(teacher=dict(teacher[0], checkpoint=str(tmp_path / 'nameless.pth'))),
                         **{**ONE_EPOCH, 'model.bbox_head.num_classes': 12})
    runner.train()
    assert 'distill.teacher: the teacher has 10 classes, the student 12' in log_of(runner)
    assert not found_by(runner)


def test_an_evaluator_that_asks_for_more(make_runner, teacher):
    """Masks of a teacher that has boxes only."""
    runner = make_runner('run', dict(teacher=teacher[0]), **ONE_EPOCH, **{'val_evaluator.metric': ['bbox', 'segm'],
                                                                          'train_cfg.val_begin': 9})
    runner.train()
    assert "cannot be evaluated on the student's validation set (KeyError: 'segm is not in results')" in log_of(runner)
    assert runner.iter == 4


def test_a_library_model_has_no_figure(make_runner):
    block = dict(config='timm::resnet10t', checkpoint='auto', check=True)
    runner = make_runner('run', dict(teacher=block), **ONE_EPOCH)
    runner.model.distiller.teacher._ready = True  # there is no download here
    with pytest.raises(ConfigError, match=r'distill.teacher.check = 200: timm::resnet10t has features only'):
        runner.train()


def test_what_says_how_many_classes():
    """Not the preprocessor, nor a backbone that could have a classifier of its own."""
    model = nn.Module()
    for name, count in dict(data_preprocessor=1000, backbone=-1, rpn_head=1, head=10).items():
        part = nn.Module()
        part.num_classes = count
        model.add_module(name, part)
    assert num_classes(model) == 10
    del model.head
    assert num_classes(model) is None
    model.backbone.num_classes = -1
    model.head = nn.Module()
    model.head.task_heads = nn.ModuleDict(dict(colour=nn.Module(), kind=nn.Module()))
    model.head.task_heads.colour.num_classes = 3
    model.head.task_heads.kind.num_classes = 10
    assert num_classes(model) is None  # the loss says which of them it is on
    del model.head
    model.backbone.num_classes = 7
    assert num_classes(model) == 7


def test_near_chance_is_a_warning(make_runner, distill):
    """The fixture's teacher has random weights in its file."""
    distill['teacher'].pop('check')
    runner = make_runner('run', distill, **ONE_EPOCH)
    runner.train()
    assert 'WARNING - distill.teacher: coco/bbox_mAP = ' in log_of(runner)
    assert 'is near chance. Check the order of its classes' in log_of(runner)


@pytest.mark.parametrize(('metrics', 'classes', 'worst'), [
    ({'coco/bbox_mAP': 0.3, 'coco/bbox_mAP_50': 0.5}, 80, None), ({'coco/bbox_mAP': 0.019}, 80, 'coco/bbox_mAP'),
    ({'multi-label/mAP': 1.9}, 20, 'multi-label/mAP'), ({'multi-label/mAP': 40.0}, 20, None),
    ({'coco/bbox_mAP_s': 0.0, 'coco/bbox_mAP': 0.4}, 80, None), ({'coco/bbox_mAP': -1.0}, 80, None),
    ({'accuracy/top1': 14.9}, 10, 'accuracy/top1'), ({'accuracy/top1': 15.1}, 10, None),
    ({'accuracy/top1': 0.1}, None, None)])
def test_what_is_near_chance(metrics, classes, worst):
    assert near_chance(metrics, classes) == worst


def test_a_teacher_that_cannot_be_evaluated(make_runner, teacher):
    runner = make_runner('run', dict(teacher=teacher[0]), **ONE_EPOCH)

    def broken(batch):
        raise ValueError('no such key')

    runner.model.distiller.teacher.model.test_step = broken
    runner.train()
    assert 'cannot be evaluated on the student\'s validation set (ValueError: no such key)' in log_of(runner)
    assert not found_by(runner)


@METRICS.register_module(force=True)
class WholeSet(CocoMetric):
    """Wants to see all images."""

    def evaluate(self, size):
        assert size == 4, f'{size} of 4 images'
        return super().evaluate(size)


@METRICS.register_module(force=True)
class OfPersons(CocoMetric):
    """As MMPose's: takes all images of the file, and has no list of those to look at."""

    coco = None

    def __init__(self, **options):
        super().__init__(**options)
        del self.img_ids


@EVALUATOR.register_module(force=True)
class InParts(Evaluator):
    """Evaluates in its own way, as mmdet's MultiDatasetsEvaluator."""

    def evaluate(self, size):
        return super().evaluate(size)


def test_an_evaluator_of_several_sets(make_runner, teacher):
    runner = make_runner('run', dict(teacher=teacher[0]), **ONE_EPOCH, val_evaluator=dict(
        _delete_=True, type='InParts', metrics=dict(make_runner('other').cfg.val_evaluator)))
    runner.train()
    assert "cannot be evaluated on the student's validation set (NotImplementedError: InParts" in log_of(runner)
    assert not found_by(runner)


def test_a_metric_that_wants_the_whole_set(make_runner, teacher):
    runner = make_runner('run', dict(teacher=dict(teacher[0], check=dict(images=2))), **ONE_EPOCH,
                         **{'val_evaluator.type': 'WholeSet'})
    runner.train()
    assert "cannot be evaluated on the student's validation set (AssertionError: 2 of 4 images" in log_of(runner)
    assert runner.iter == 4


def test_a_metric_that_counts_other_images_as_missed(make_runner, teacher):
    runner = make_runner('run', dict(teacher=dict(teacher[0], check=dict(images=2))), **ONE_EPOCH,
                         **{'val_evaluator.type': 'OfPersons'})
    evaluate(runner, runner.model.distiller.teacher, 2, torch.device('cpu'))
    assert 'OfPersons counts the images as missed that were not looked at' in log_of(runner)


@pytest.mark.parametrize('text', ['{"0a": {"images": 4, "met', '[1, 2]', '', '\x00' * 100])
def test_a_file_that_a_kill_has_cut_off(make_runner, teacher, text):
    """It is written anew."""
    runner = make_runner('run', dict(teacher=teacher[0]), **ONE_EPOCH)
    Path(runner.work_dir).mkdir(exist_ok=True)
    Path(runner.work_dir, 'teacher_check.json').write_text(text)
    runner.train()
    assert [found['images'] for found in found_by(runner)] == [4]


def test_a_disk_or_service_that_fails(make_runner, teacher, monkeypatch):
    class Service:
        def add_scalars(self, *args, **kwargs):
            raise ConnectionError('no route to host')

    def full(*args):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(teacher_check_hook, 'services', lambda runner: [Service()])
    monkeypatch.setattr(teacher_check_hook, 'write_whole', full)
    runner = make_runner('run', dict(teacher=teacher[0]), **ONE_EPOCH)
    runner.train()
    assert 'the check of the teacher failed (ConnectionError: no route to host). Training goes on' in log_of(runner)
    assert runner.iter == 4


def test_grey_images_and_a_teacher_of_colours(make_runner, teacher):
    """It sees them as it does in training: grey RGB."""
    block, own = teacher
    text = Path(block['config']).read_text()
    Path(block['config']).write_text(text.replace('bgr_to_rgb=False', 'bgr_to_rgb=True'))
    train, val = ([dict(type='LoadImageFromFile', color_type='grayscale'), *loader.dataset.pipeline[1:]]
                  for loader in (own.cfg.train_dataloader, own.cfg.val_dataloader))
    runner = make_runner('run', dict(teacher=block, report=dict(images=1)), **{
        **ONE_EPOCH, 'model.backbone.in_channels': 1, 'model.data_preprocessor.mean': [120.0],
        'model.data_preprocessor.std': [60.0], 'train_dataloader.dataset.pipeline': train,
        'val_dataloader.dataset.pipeline': val, 'train_cfg.val_interval': 1})
    runner.train()
    assert [found['metrics'] for found in found_by(runner)] == [pytest.approx(own.val())]
    assert 'cannot be evaluated' not in log_of(runner)
    assert 'could not be' not in log_of(runner)


def test_classifiers(make_classifier_runner):
    runner = make_classifier_runner('run', 1.0, **{'distill.teacher.check': True})
    runner.train()
    found, = found_by(runner)
    assert found['images'] == 200
    assert set(found['metrics']) == {'accuracy/top1'}


@pytest.mark.parametrize(('check', 'images'), [(None, None), (True, 200), (False, 0), ({}, 200),
                                               (dict(images=5), 5)])
def test_config(check, images):
    assert parse_teacher('k', dict(config='c', checkpoint='f', check=check)).check == images


@pytest.mark.parametrize(('check', 'kind', 'message'), [
    (3, ConfigTypeError, 'k.check = 3'), (dict(images=0), ConfigError, 'k.check.images = 0'),
    (dict(image=3), UnknownKeyError, "k.check: unknown key 'image'")])
def test_config_errors(check, kind, message):
    with pytest.raises(kind, match=message):
        parse_teacher('k', dict(config='c', checkpoint='f', check=check))


def test_files_of_the_metric_are_the_students(make_runner, teacher, tmp_path):
    runner = make_runner('run', dict(teacher=teacher[0], report=False), **ONE_EPOCH, **{
        'train_cfg.val_begin': 9, 'val_evaluator.outfile_prefix': str(tmp_path / 'results')})
    runner.train()
    assert len(found_by(runner)) == 1
    assert not list(tmp_path.glob('results*'))
