"""Logits are compared, and classifiers taken over, only where the classes of teacher and student are the same."""
from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers.models import build_zoo
from helpers.weights import load, same
from mmengine.config import Config
from mmpretrain.structures import DataSample
from tiny import build_detector
from torch import nn

import mmsrd
from mmsrd.errors import ConfigError, ConfigTypeError, FeatureMismatchError
from mmsrd.teachers import StudentInit
from mmsrd.teachers.build_model import build_model
from mmsrd.teachers.class_names import configured_classes, match_classes, saved_classes
from mmsrd.teachers.student_init import classifiers_of

DIGITS = Path(__file__).parents[2] / 'configs/mmpretrain/digits'
OWN = tuple('0123456789')
ORDER = (1, 0, 2, 3, 4, 5, 6, 7, 9, 8)
OTHERS = dict(order=tuple(OWN[i] for i in ORDER), names=tuple('0123456abc'), capitals=('zero', *OWN[1:]))


@pytest.mark.parametrize(('teacher', 'student', 'counts', 'same_classes', 'order'), [
    (['cat', 'dog', 'cow'], ['both', 'box', 'disc'], (3, 3), False, None),
    (['cat', 'dog', 'cow'], ['dog', 'cow', 'cat'], (3, 3), False, (1, 2, 0)),
    (['traffic light', 'tench, Tinca tinca'], ['Traffic_Light', 'tench'], (2, 2), True, None),
    (['cat', 'dog'], ['cat', 'dog'], (2, 2), True, None),
    (['cat', 'dog'], ['cat', 'dog'], (2, 5), False, None),
    (['cat', 'dog'], ['cat'], (2, 1), False, None),
    (['a', 'a'], ['a', 'a'], (2, 2), True, None),
    (['+', '-', '*'], ['-', '*', '+'], (3, 3), False, (1, 2, 0)),
    (['C', 'C++', 'C#'], ['c#', 'c', 'c++ '], (3, 3), False, (2, 0, 1)),
    (['person, sitting', 'person, standing'], ['person, standing', 'person, sitting'], (2, 2), False, (1, 0)),
    (['crane', 'crane'], ['crane', 'crane, machine'], (2, 2), True, None),
    (None, ['cat', 'dog'], (2, 2), True, None), (None, ['cat', 'dog'], (3, 2), False, None),
    (['cat', 'dog'], None, (2, 2), True, None), (None, None, (None, 3), True, None)])
def test_names(teacher, student, counts, same_classes, order):
    match = match_classes(teacher, student, counts)
    assert (match.same, match.order) == (same_classes, order)
    assert match.known == (None not in (teacher, student) and not (teacher == student and len(set(counts)) > 1))
    assert bool(match.text) == (not match.known or not match.same)


@pytest.mark.parametrize('meta', [
    dict(dataset_meta=dict(classes=('a', 'b'))), dict(dataset_meta=dict(CLASSES=('a', 'b'))), dict(CLASSES=['a', 'b'])])
def test_names_in_a_checkpoint(meta):
    assert saved_classes(dict(meta=meta)) == ('a', 'b')


def test_names_in_a_config():
    dataset = dict(type='RepeatDataset', dataset=dict(type='CocoDataset', metainfo=dict(classes=('a', 'b'))))
    assert configured_classes(Config(dict(train_dataloader=dict(dataset=dataset)))) == ('a', 'b')
    assert configured_classes(Config(dict(model=dict()))) is None


@pytest.fixture
def classifier():
    """A digits student, and a function that attaches a teacher whose file has these names."""
    def model(name, seed):
        torch.manual_seed(seed)
        return build_model(Config.fromfile(str(DIGITS / name)), 'k')
    return model('resnet8_digits-100.py', 0), model('resnet20_digits.py', 1)


def block_of(teacher, classes, tmp_path, **block):
    torch.save(dict(state_dict=teacher.state_dict(), meta=dict(dataset_meta=dict(classes=classes))), tmp_path / 't.pth')
    return dict(teacher=dict(config=str(DIGITS / 'resnet20_digits.py'), checkpoint=str(tmp_path / 't.pth')), **block)


def forward(student, images):
    return student(images, [DataSample().set_gt_label(i % 10) for i in range(len(images))], mode='loss')


def test_logits_in_another_order_are_put_in_order(classifier, tmp_path):
    student, teacher = classifier
    student.dataset_meta = dict(classes=OWN)
    mmsrd.attach(student, block_of(teacher, OTHERS['order'], tmp_path))
    images = torch.randn(6, 3, 8, 8)
    value = forward(student, images)['loss_srd_logits']
    own, theirs = student(images, mode='tensor'), teacher.eval()(images, mode='tensor')
    theirs = torch.stack([theirs[:, OTHERS['order'].index(name)] for name in OWN], 1)
    expected = F.kl_div(own.log_softmax(1), theirs.log_softmax(1), log_target=True, reduction='batchmean')
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=0)  # normalisation is fused into the convolutions


def test_a_preset_leaves_other_logits_out(classifier, tmp_path):
    """And the teacher then runs no further than its feature."""
    student, teacher = classifier
    student.dataset_meta = dict(classes=OWN)
    distiller = mmsrd.attach(student, block_of(teacher, OTHERS['names'], tmp_path))
    called = []
    distiller.teacher.model.head.fc.register_forward_hook(lambda *_: called.append(1))
    losses = forward(student, torch.randn(6, 3, 8, 8))
    assert [name for name in losses if name.startswith('loss_srd')] == ['loss_srd_feature']
    assert not called
    mmsrd.detach(student)
    student.backbone.requires_grad_(False)  # a linear probe, whose feature is not distilled either
    with pytest.raises(ConfigError, match=r"preset = 'classification': finds nothing to distil: only the logits could"):
        mmsrd.attach(student, block_of(teacher, OTHERS['names'], tmp_path))


def test_one_of_two_teachers_has_other_classes(classifier, tmp_path):
    """Nothing else of it would be compared, so it is left out."""
    student, teacher = classifier
    student.dataset_meta = dict(classes=OWN)
    student.backbone.requires_grad_(False)
    (tmp_path / 'b').mkdir()
    teachers = dict(a=block_of(teacher, OWN, tmp_path)['teacher'],
                    b=block_of(teacher, OTHERS['names'], tmp_path / 'b')['teacher'])
    assert list(mmsrd.attach(student, dict(teachers=teachers)).teachers) == ['a']
    assert 'loss_srd_a_logits' in forward(student, torch.randn(6, 3, 8, 8))


def test_without_labels_in_several_processes(classifier, tmp_path, monkeypatch):
    """DistributedDataParallel would wait for what the logits would have trained."""
    student, teacher = classifier
    student.dataset_meta = dict(classes=OWN)
    block = block_of(teacher, OTHERS['names'], tmp_path, labels=False)
    monkeypatch.setattr('mmsrd.distillers.shared_classes.num_processes', lambda sync: 2)
    with pytest.raises(ConfigError, match=r'labels = False: the preset compares logits, and .*; write `distill'):
        mmsrd.attach(student, block)
    monkeypatch.setattr('mmsrd.distillers.shared_classes.num_processes', lambda sync: 1)
    assert list(mmsrd.attach(student, block).losses) == ['feature']


LOGITS = dict(losses=dict(logits=dict(type='KLDivLoss', student='head.fc', teacher='head.fc')))


@pytest.mark.parametrize('names', ['names', 'capitals'])
def test_a_loss_of_the_config_on_other_logits_is_an_error(classifier, tmp_path, names):
    """Unless the teacher's classes are the same by other names."""
    student, teacher = classifier
    student.dataset_meta = dict(classes=OWN)
    block = block_of(teacher, OTHERS[names], tmp_path, **LOGITS)
    with pytest.raises(FeatureMismatchError, match=r'^distill\.losses\.logits: the teacher was trained on 10 classes, '
                                                   r'the student has 10 \(only the teacher has .*set `classes` of the'):
        mmsrd.attach(student, block)
    assert not hasattr(student, 'distiller')
    block['teacher']['classes'] = list(OWN)
    mmsrd.attach(student, block)
    assert forward(student, torch.randn(6, 3, 8, 8))['loss_srd_logits'] > 0


def test_logits_with_a_projector_may_be_of_any_classes(classifier, tmp_path):
    student, teacher = classifier
    student.dataset_meta = dict(classes=OWN)
    block = block_of(teacher, OTHERS['names'], tmp_path, **LOGITS)
    block['losses']['logits']['projector'] = dict(type='LinearProjector')
    mmsrd.attach(student, block)


def test_unknown_names_are_said(classifier, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr('mmsrd.distillers.shared_classes.print_log', lambda text, **options: said.append(text))
    student, teacher = classifier
    mmsrd.attach(student, block_of(teacher, OWN, tmp_path))
    assert said == ['distill.teacher: the class names of the student are not known, so classes with the same index '
                    'are taken to be the same']
    assert 'loss_srd_logits' in forward(student, torch.randn(6, 3, 8, 8))


def test_several_anchors_and_background():
    """Channels of a dense head are the classes of each anchor; those of a softmax end with the background."""
    def reordered(width, order, anchors=1):
        pair = mmsrd.distillers.LevelPair(0, 0, (1, width), (1, width))
        loss = mmsrd.FeatureLoss(mmsrd.config.LossConfig('x', dict(type='BinaryKLDivLoss'), 'x', 'x'), [pair])
        fits = loss.reorder_classes(order, anchors, torch.device('cpu'))
        return loss.class_order.tolist() if fits else None
    assert reordered(3, (2, 0, 1)) == [2, 0, 1]
    assert reordered(6, (2, 0, 1), anchors=2) == [2, 0, 1, 5, 3, 4]
    assert reordered(6, (2, 0, 1)) is None  # of a softmax over other classes
    assert reordered(24, (2, 0, 1), anchors=3) is None  # YOLOv3 predicts boxes in the same channels
    assert reordered(4, (2, 0, 1)) == [2, 0, 1, 3]
    assert reordered(5, (2, 0, 1)) is None


def test_several_tasks(classifier, tmp_path):
    """Which of them are the same is not known."""
    student, teacher = classifier
    kind = type('MultiTaskHead', (type(student.head),), {})
    student.head.__class__ = kind
    distiller = mmsrd.attach(student, block_of(teacher, OWN, tmp_path))
    assert list(distiller.losses) == ['feature']


@pytest.mark.parametrize(('name', 'path', 'expected'), [
    ('retinanet/retinanet_r18_fpn_1x_coco.py', 'bbox_head', {'retina_cls'}),
    ('fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py', 'bbox_head', {'conv_cls'}),
    ('faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', 'roi_head.bbox_head', {'fc_cls', 'fc_reg'}),
    ('faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', 'rpn_head', set()),
    ('mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py', 'roi_head.mask_head', {'conv_logits'}),
    ('gfl/gfl_r50_fpn_1x_coco.py', 'bbox_head', {'gfl_cls'}),
    ('yolox/yolox_tiny_8xb8-300e_coco.py', 'bbox_head', {f'multi_level_conv_cls.{i}' for i in range(3)}),
    ('yolo/yolov3_mobilenetv2_8xb24-320-300e_coco.py', 'bbox_head', {f'convs_pred.{i}' for i in range(3)}),
    ('rtmdet/rtmdet_tiny_8xb32-300e_coco.py', 'bbox_head', {f'rtm_cls.{i}' for i in range(3)}),
    ('ssd/ssd300_coco.py', 'bbox_head', {f'cls_convs.{i}.0' for i in range(6)}),  # a number of anchors for each level
    ('autoassign/autoassign_r50-caffe_fpn_1x_coco.py', 'bbox_head', {'conv_cls', 'center_prior'}),
    ('centernet/centernet_r18_8xb16-crop512-140e_coco.py', 'bbox_head', {'heatmap_head.2'}),
    ('deformable_detr/deformable-detr_r50_16xb2-50e_coco.py', 'bbox_head', {'cls_branches.0'})])  # shared by all
def test_which_layers_are_classifiers(name, path, expected):
    head = build_zoo(f'mmdet::{name}').get_submodule(path)
    assert set(classifiers_of(head, path)) == {f'{path}.{layer}' for layer in expected}


@pytest.mark.parametrize('kind', ['order', 'names', None])
def test_a_detector_keeps_its_own_classifier(make_runner, student_config, distill, tmp_path, kind):
    still = {'optim_wrapper.optimizer.lr': 0.0, 'train_cfg.max_epochs': 1, 'train_cfg.val_interval': 9,
             'log_level': 'INFO'}
    make_runner('alone', **still).train()
    torch.manual_seed(5)
    teacher = build_detector(student_config.model)
    teacher.init_weights()
    state = teacher.state_dict()
    meta = dict(dataset_meta=dict(classes=OTHERS.get(kind, OWN)))
    torch.save(dict(state_dict=state, meta=meta), tmp_path / 'teacher.pth')
    student_config.dump(str(tmp_path / 'student.py'))
    runner = make_runner('run', dict(teacher=dict(config=str(tmp_path / 'student.py'), check=False,
                                                  checkpoint=str(tmp_path / 'teacher.pth')), report=False), **still)
    runner.train()
    alone, ours = (load(tmp_path / name / 'epoch_1.pth')['state_dict'] for name in ('alone', 'run'))
    classifier = {name for name in ours if name.startswith('bbox_head.conv_cls.')}
    assert classifier
    assert same({name: ours[name] for name in classifier},
                {name: (state if kind is None else alone)[name] for name in classifier})
    assert torch.equal(ours['bbox_head.conv_reg.weight'], state['bbox_head.conv_reg.weight'])
    log = next(Path(runner.log_dir).glob('*.log')).read_text()
    assert ('the student keeps its own bbox_head.conv_cls' in log) == (kind is not None)


def test_classifiers_before_and_after_their_weights_are_read():
    def detector(seed):
        torch.manual_seed(seed)
        head = nn.ModuleDict(dict(conv_cls=nn.Conv2d(8, 5, 1), conv_reg=nn.Conv2d(8, 4, 1)))
        head.num_classes = 5
        return nn.ModuleDict(dict(backbone=nn.Conv2d(3, 8, 1), bbox_head=head))
    for late in (False, True):
        student, teacher = detector(0), detector(1)
        before = student['bbox_head']['conv_cls'].weight.clone()
        init = StudentInit(student, teacher)
        if late:
            init.read()
        init.leave_out_classifiers()
        if not late:
            init.read()
        init.apply()
        assert str(init) == 'bbox_head (1 of 2 layers)'
        assert torch.equal(student['bbox_head']['conv_cls'].weight, before)
        assert torch.equal(student['bbox_head']['conv_reg'].weight, teacher['bbox_head']['conv_reg'].weight)


@pytest.mark.parametrize(('classes', 'kind'), [('cat', ConfigTypeError), ([1, 2], ConfigTypeError),
                                               ([], ConfigTypeError)])
def test_mistakes_in_the_key(student, distill, classes, kind):
    distill['teacher']['classes'] = classes
    with pytest.raises(kind, match=r'distill\.teacher\.classes = '):
        mmsrd.attach(student, distill)
