"""The student starts with the layers of neck and heads that the teacher has, too, where it is told to."""
from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
import torch
from helpers.weights import load, same
from mmdet.models import FCOS
from mmengine.config import Config
from mmengine.model import PretrainedInit
from mmengine.registry import MODELS, RUNNERS
from tiny import build_detector
from torch import nn

import mmsrd
from mmsrd.distillers import attach_distiller, read_block
from mmsrd.errors import ConfigError, TeacherError
from mmsrd.teachers import StudentInit


@MODELS.register_module()
class FCOSThatGoesOn(FCOS):
    """Draws its head's weights once more when its parts are initialised, as DETR does for its encoder and decoder."""

    def init_weights(self) -> None:
        super().init_weights()
        torch.nn.init.normal_(self.bbox_head.conv_cls.weight)


STILL = {'optim_wrapper.optimizer.lr': 0.0, 'train_cfg.max_epochs': 1, 'train_cfg.val_interval': 9}


def wider(student_config: Config, **head: object) -> Config:
    """The student with a backbone twice as wide, and ``head`` merged into its head."""
    config = copy.deepcopy(student_config)
    backbone = config.model.backbone
    backbone.base_channels *= 2
    config.model.neck.in_channels = [2 * width for width in config.model.neck.in_channels]
    config.model.bbox_head.update(head)
    return config


@pytest.fixture
def teacher(student_config, tmp_path) -> dict[str, str]:
    """A teacher whose neck and head are as wide as the student's."""
    config = wider(student_config)
    config.dump(str(tmp_path / 'wider.py'))
    torch.manual_seed(11)
    model = build_detector(config.model)
    model.init_weights()
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'wider.pth')
    return dict(config=str(tmp_path / 'wider.py'), checkpoint=str(tmp_path / 'wider.pth'))


def inherited(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What a student can have of a teacher whose backbone has another width."""
    return {name: value for name, value in parameters(state).items()
            if name.startswith(('neck.', 'bbox_head.')) and not re.match(r'neck\.lateral_convs\.\d\.conv', name)}


def parameters(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """All but the statistics that move also at a learning rate of zero."""
    return {name: value for name, value in state.items() if 'running' not in name and 'num_batches' not in name}


def own(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What stays the student's."""
    return {name: value for name, value in parameters(state).items() if name not in inherited(state)}


def test_the_preset_starts_with_the_teachers_layers(make_runner, teacher, tmp_path):
    kind = {'model.type': 'FCOSThatGoesOn'}
    make_runner('alone', **STILL, **kind).train()
    make_runner('run', dict(teacher=teacher), **STILL, **kind).train()
    plain, ours = (load(tmp_path / name / 'epoch_1.pth')['state_dict'] for name in ('alone', 'run'))
    taught = load(teacher['checkpoint'])['state_dict']
    assert same(inherited(ours), inherited(taught))
    assert not same(inherited(plain), inherited(taught))
    assert list(ours) == list(plain)
    assert same(own(ours), own(plain))


@pytest.mark.parametrize('block', [dict(teacher=dict(init_student=False)),
                                   dict(losses=dict(neck=dict(student='neck', teacher='neck', balance=1.0)))],
                         ids=['switched off', 'losses of its own'])
def test_otherwise_it_starts_as_it_would_alone(make_runner, teacher, block):
    plain = make_runner('alone').model
    plain.init_weights()
    runner = make_runner('run', {**block, 'teacher': {**teacher, **block.get('teacher', {})}})
    runner.model.distiller.teachers.prepare()
    runner._init_model_weights()
    assert same(runner.model.state_dict(), plain.state_dict())


def test_what_is_loaded_comes_first(make_runner, student, teacher, tmp_path):
    start = tmp_path / 'start.pth'
    torch.save(dict(state_dict=student.state_dict()), start)
    runner = make_runner('run', dict(teacher=teacher), load_from=str(start), **{**STILL, 'log_level': 'INFO'})
    runner.train()
    assert 'layers); a checkpoint that is loaded next replaces what it has' in \
        next(Path(runner.log_dir).glob('*.log')).read_text()
    assert same(parameters(load(tmp_path / 'run' / 'epoch_1.pth')['state_dict']), parameters(student.state_dict()))


def test_with_losses_of_its_own_and_a_strategy(student_config, teacher, tmp_path):
    config = copy.deepcopy(student_config)
    config.merge_from_dict(STILL)
    config.update(work_dir=str(tmp_path), runner_type='mmsrd.DistillFlexibleRunner', experiment_name=tmp_path.name,
                  distill=dict(teacher=dict(teacher, init_student=True),
                               losses=dict(neck=dict(student='neck', teacher='neck'))))
    config.visualizer.name = tmp_path.name
    config.train_cfg = dict(by_epoch=True, max_epochs=1, val_interval=9)
    RUNNERS.build(config).train()
    assert same(inherited(load(tmp_path / 'epoch_1.pth')['state_dict']),
                inherited(load(teacher['checkpoint'])['state_dict']))


def test_a_built_model_keeps_its_weights_unless_asked(student, teacher):
    before = copy.deepcopy(student.state_dict())
    mmsrd.attach(student, dict(teacher=teacher))
    assert same(student.state_dict(), before)
    mmsrd.detach(student)
    mmsrd.attach(student, dict(teacher=dict(teacher, init_student=True)))
    assert same(inherited(student.state_dict()), inherited(load(teacher['checkpoint'])['state_dict']))
    assert same(own(student.state_dict()), own(before))


def test_which_layers(student_config):
    student = build_detector(student_config.model)
    alike = StudentInit(student, build_detector(wider(student_config).model))
    levels = len(student.neck.fpn_convs)
    # Convolutions and normalisations; only the lateral convolutions differ.
    laterals = len(student.neck.lateral_convs)
    assert alike.parts['neck'] == (2 * levels + laterals, 2 * (levels + laterals))
    layers = alike.parts['bbox_head'][1]
    assert alike.parts == {'neck': alike.parts['neck'], 'bbox_head': (layers, layers)}
    assert str(alike).endswith(f'bbox_head ({layers} of {layers} layers)')
    other_classes = StudentInit(student, build_detector(wider(student_config, num_classes=3).model))
    assert other_classes.parts['bbox_head'] == (layers - 1, layers)
    deeper = StudentInit(student, build_detector(wider(student_config, stacked_convs=5).model))
    assert list(deeper.parts) == ['neck']
    config = wider(student_config)
    anchors = dict(type='AnchorGenerator', ratios=[1.0], scales=[8], strides=[8, 16, 32])
    config.model.bbox_head = dict(type='ATSSHead', num_classes=10, anchor_generator=anchors,
                                  in_channels=config.model.bbox_head.in_channels)
    assert list(StudentInit(student, build_detector(config.model)).parts) == ['neck']
    for kind in ('Pretrained', PretrainedInit, 'mmengine.model.PretrainedInit'):  # as configs in pure Python are saved
        student.init_cfg = dict(type=kind, checkpoint='own.pth')
        assert not StudentInit(student, build_detector(wider(student_config).model)).parts
    student.init_cfg = None
    student.neck.init_cfg = dict(type='Pretrained', checkpoint='own.pth')
    assert list(StudentInit(student, build_detector(wider(student_config).model)).parts) == ['bbox_head']


def test_two_stages():
    """A teacher that has a mask head, too."""
    def detector(**masks: nn.Module) -> nn.Module:
        heads = nn.ModuleDict(dict(bbox_head=nn.Linear(4, 2), **masks))
        return nn.ModuleDict(dict(backbone=nn.Conv2d(3, 4, 1), rpn_head=nn.Conv2d(4, 1, 1), roi_head=heads))
    init = StudentInit(detector(), detector(mask_head=nn.Conv2d(4, 1, 1)))
    assert init.parts == {'rpn_head': (1, 1), 'roi_head.bbox_head': (1, 1)}


def test_an_initialised_model_is_left_alone(make_runner, student, teacher):
    assert student.is_init
    runner = make_runner('run', dict(teacher=teacher))
    distiller = attach_distiller(student, read_block(dict(teacher=teacher)))
    assert distiller.teacher.student_init is None
    assert runner.model.distiller.teacher.student_init is not None


def test_nothing_alike(student, distill):
    distill['teacher']['init_student'] = True
    with pytest.raises(TeacherError, match='distill.teacher.init_student = True: the student FCOS and the teacher FCOS '
                                           'have no layer of the same kind and shape'):
        mmsrd.attach(student, distill)
    distill['teacher'].pop('init_student')
    mmsrd.attach(student, dict(teacher=distill['teacher']))  # by default there is just nothing to start with


def test_a_student_that_reads_a_file(student, distill):
    student.init_cfg = dict(type='Pretrained', checkpoint='coco.pth')
    distill['teacher']['init_student'] = True
    with pytest.raises(TeacherError, match=r'or the student reads its weights from a file \(`init_cfg`\)'):
        mmsrd.attach(student, distill)


def test_parameters_of_the_detector_itself():
    """DINO and Deformable DETR have their level embeddings outside of encoder and decoder."""
    def detector(width: int, levels: int = 4) -> nn.ModuleDict:
        model = nn.ModuleDict(dict(backbone=nn.Conv2d(3, width, 1), encoder=nn.Linear(8, 8)))
        model.level_embed = nn.Parameter(torch.randn(levels, 8))
        return model

    student, teacher = detector(2), detector(4)
    init = StudentInit(student, teacher)
    assert init.parts == {'encoder': (1, 1), 'level_embed': (1, 1)}
    assert not torch.equal(student.level_embed, teacher.level_embed)
    init.read()
    init.apply()
    assert torch.equal(student.level_embed, teacher.level_embed)
    assert StudentInit(student, detector(4, levels=5)).parts == {'encoder': (1, 1)}


def test_one_teacher_only(student, teacher):
    teachers = dict(a=dict(teacher, init_student=True), b=dict(teacher, init_student=True))
    with pytest.raises(ConfigError, match='distill.teachers: init_student=True in a and b'):
        mmsrd.attach(student, dict(teachers=teachers))
    teachers['a'].pop('init_student')
    mmsrd.attach(student, dict(teachers=teachers))
    assert same(inherited(student.state_dict()), inherited(load(teacher['checkpoint'])['state_dict']))
