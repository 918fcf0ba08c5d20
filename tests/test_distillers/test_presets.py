"""What the presets choose: levels by stride across families, the last feature of any classifier."""
from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from helpers.models import build_zoo
from mmdet.structures import ReIDDataSample
from mmpretrain.structures import DataSample
from torch import nn

import mmsrd
from mmsrd.distillers import Preset, preset_for, read_block, text_table
from mmsrd.distillers.presets import choose_preset
from mmsrd.errors import ConfigError
from mmsrd.recorders import SIDES, dry_run
from mmsrd.registry import PRESETS
from mmsrd.teachers.build_model import build_model
from mmsrd.utils.zoo import load_config

RETINA = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'  # neck strides 8 to 128
FASTER = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'  # 4 to 64
DETR = 'mmdet::deformable_detr/deformable-detr_r50_16xb2-50e_coco.py'  # 8 to 64
YOLOF = 'mmdet::yolof/yolof_r50-c5_8xb8-1x_coco.py'  # 32 alone
MASK2FORMER = 'mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py'  # no neck; backbone 4 to 32
CENTERNET = 'mmdet::centernet/centernet_r18_8xb16-crop512-140e_coco.py'  # 4 alone
SSD = 'mmdet::ssd/ssd300_coco.py'  # 300×300 only


def preset_losses(name, student, teacher):
    """Losses that a preset chooses for two models."""
    preset = choose_preset(name, student, [SimpleNamespace(model=teacher, any_task=False)])
    runs = [dry_run(model, preset.paths(model), SIDES, model is student, preset.needs_everything, partly=True)
            for model in (student, teacher)]
    return preset.losses(*runs)


@pytest.fixture(scope='module')
def model():
    built = {}

    def get(name):
        if name not in built:
            built[name] = build_zoo(name)
        return built[name]

    return get


@pytest.mark.parametrize(('student', 'teacher', 'paths', 'levels'), [
    (RETINA, FASTER, ('neck', 'neck'), [(0, 1), (1, 2), (2, 3), (3, 4)]),
    (FASTER, RETINA, ('neck', 'neck'), [(1, 0), (2, 1), (3, 2), (4, 3)]),
    (DETR, RETINA, ('neck', 'neck'), [(0, 0), (1, 1), (2, 2), (3, 3)]),
    (YOLOF, FASTER, ('neck', 'neck'), [(0, 3)]),
    (MASK2FORMER, RETINA, ('backbone', 'neck'), [(1, 0), (2, 1), (3, 2)]),
    (RETINA, MASK2FORMER, ('neck', 'backbone'), [(0, 1), (1, 2), (2, 3)]),
    (CENTERNET, RETINA, ('neck', 'neck'), [(0, 0)]),  # no stride in common: the nearest
])
def test_detectors_share_levels_by_stride(model, student, teacher, paths, levels):
    loss, = preset_losses(None, model(student), model(teacher))
    assert (loss.student, loss.teacher) == paths
    assert loss.levels == levels
    assert (loss.weight, loss.balance) == (1.0, 1.0)


def test_resized_where_no_stride_is_shared(model):
    student = build_zoo(CENTERNET)
    distiller = mmsrd.attach(student, dict(teacher=dict(config=RETINA, allow_random=True)))
    pair, = distiller.losses['neck'].pairs
    assert pair.strides == (4, 8)


def test_a_model_of_one_image_size(model):
    """SSD takes any size in its backbone, but its six levels are those of 300×300."""
    loss, = preset_losses(None, model(SSD), model(RETINA))
    assert loss.levels[0] == (0, 0)
    assert len(loss.levels) >= 3


CLASSIFIERS = [
    ('resnet/resnet18_8xb32_in1k.py', 'neck', 'head.fc', (512,)),
    ('deit/deit-tiny_4xb256_in1k.py', 'backbone', 'head.layers.head', (192,)),
    ('deit/deit-tiny-distilled_4xb256_in1k.py', 'backbone', 'head.layers.head_dist', (192,)),
    ('swin_transformer/swin-tiny_16xb64_in1k.py', 'neck', 'head.fc', (768,)),
    ('mlp_mixer/mlp-mixer-base-p16_64xb64_in1k.py', 'neck', 'head.fc', (768,)),
    ('levit/levit-128s_8xb256_in1k.py', 'neck', 'head.head_dist.linear', (384,)),
    ('vgg/vgg11_8xb32_in1k.py', 'backbone.classifier.4', 'backbone.classifier.6', (4096,)),
    ('inception_v3/inception-v3_8xb32_in1k.py', 'backbone.avgpool', 'backbone.fc', (2048,)),
]


@pytest.mark.parametrize(('name', 'feature', 'logits', 'width'), CLASSIFIERS)
def test_classifiers(model, name, feature, logits, width):
    student = build_zoo(f'mmpretrain::{name}')
    distiller = mmsrd.attach(student, dict(
        teacher=dict(config='mmpretrain::resnet/resnet18_8xb32_in1k.py', allow_random=True)))
    assert distiller.losses['feature'].config.student == feature
    assert distiller.losses['logits'].config.student == logits
    assert distiller.losses['feature'].projectors[0].weight.shape == (512, *width)


@pytest.mark.parametrize(('name', 'logits'), [
    ('mmpretrain::deit/deit-tiny-distilled_4xb256_in1k.py', 'head'),
    ('mmpretrain::conformer/conformer-tiny-p16_8xb128_in1k.py', None), ('timm::levit_128s', None),
    ('mmpretrain::vgg/vgg11_8xb32_in1k.py', 'backbone.classifier.6'), ('timm::resnet10t', 'model.fc')])
def test_a_teacher_with_two_classifiers_teaches_what_it_predicts(model, name, logits):
    student = build_zoo('mmpretrain::resnet/resnet18_8xb32_in1k.py')
    distiller = mmsrd.attach(student, dict(teacher=dict(config=name, allow_random=True)))
    assert [loss.config.teacher for loss in distiller.feature_losses[1:]] == ([logits] if logits else [])


def test_a_wrapped_classifier_is_tapped_before_its_last_linear_layer(tmp_path):
    (tmp_path / 'timm.py').write_text(
        "default_scope = 'mmpretrain'\nmodel = dict(type='TimmClassifier', model_name='resnet10t', num_classes=5)\n")
    student = build_model(load_config(str(tmp_path / 'timm.py'), 'k'), 'k')
    assert preset_for(student).name == 'classification'
    distiller = mmsrd.attach(student, dict(teacher=dict(config=str(tmp_path / 'timm.py'), allow_random=True)))
    assert distiller.losses['feature'].config.student.startswith('model.global_pool')
    assert distiller.losses['logits'].config.student == 'model.fc'
    assert distiller.losses['feature'].pairs[0].student_shape == (1, 512)
    samples = [DataSample().set_gt_label(i) for i in range(3)]
    losses = student(inputs=torch.randn(3, 3, 64, 64), data_samples=samples, mode='loss')
    assert {'loss_srd_feature', 'loss_srd_logits'} < set(losses)


def test_classification_on_a_detector(model):
    with pytest.raises(ConfigError, match=r"preset = 'classification': the student RetinaNet is made for detection"):
        preset_losses('classification', model(RETINA), model(RETINA))


@pytest.mark.parametrize('head', ['MultiLabelLinearClsHead', 'ArcFaceClsHead'])
def test_no_logits_of_one_distribution(head):
    name = 'mmpretrain::resnet/resnet18_8xb32_in1k.py'
    config = load_config(name, 'k')
    config.model.head = dict(type=head, num_classes=1000, in_channels=512)
    distiller = mmsrd.attach(build_model(config, 'k'), dict(teacher=dict(config=name, allow_random=True)))
    assert list(distiller.losses) == ['feature']


def test_groups_of_images():
    """A network for re-identification gets them as (1, N, C, H, W)."""
    config = load_config('mmdet::reid/reid_r50_8xb32-6e_mot17train80_test-mot17val20.py', 'k')
    config.model.backbone.update(depth=18)
    config.model.head.in_channels = 512
    config.model.pop('init_cfg', None)
    student = build_model(config, 'k')
    teacher = dict(config='mmpretrain::resnet/resnet18_8xb32_in1k.py', allow_random=True)
    losses = dict(last=dict(student='backbone', teacher='backbone', pool=True))
    distiller = mmsrd.attach(student, dict(teacher=teacher, losses=losses))
    images = torch.randn(1, 4, 3, 256, 128)  # what its pooling is for
    sample = ReIDDataSample().set_gt_label(torch.tensor([0, 0, 1, 1]))
    losses = student(inputs=images, data_samples=[sample], mode='loss')
    taught = distiller.teacher.features(images[0], None)['backbone']
    value, _ = distiller.feature_losses[0](student.backbone(images[0]), taught)
    torch.testing.assert_close(losses['loss_srd_last'], value, rtol=1e-4, atol=1e-5)
    losses['loss_srd_last'].backward()
    assert student.backbone.conv1.weight.grad.any()
    # Its logits are made for its loss only.
    assert list(mmsrd.attach(build_model(config, 'k'), dict(teacher=teacher)).losses) == ['feature']


def test_a_linear_probe_learns_from_the_logits_alone():
    config = load_config('mmpretrain::resnet/resnet18_8xb32_in1k.py', 'k')
    config.model.backbone.frozen_stages = 4
    probe = build_model(config, 'k').train()
    teacher = dict(config='mmpretrain::resnet/resnet34_8xb32_in1k.py', allow_random=True)
    distiller = mmsrd.attach(probe, dict(teacher=teacher))
    assert list(distiller.losses) == ['logits']
    samples = [DataSample().set_gt_label(i) for i in range(2)]
    losses = probe(inputs=torch.randn(2, 3, 64, 64), data_samples=samples, mode='loss')
    losses['loss_srd_logits'].backward()
    assert probe.head.fc.weight.grad.abs().max() > 0

    config.model.head.num_classes = 10
    with pytest.raises(ConfigError, match="'classification': finds nothing to distil: the student is frozen up to "
                                          "'neck', and the logits cannot be compared"):
        mmsrd.attach(build_model(config, 'k').train(), dict(teacher=teacher))


def test_what_was_chosen_is_a_table(model):
    student = build_zoo(RETINA)
    distiller = mmsrd.attach(student, dict(teacher=dict(config=FASTER, allow_random=True)))
    lines = distiller.describe().splitlines()
    assert lines[0] == f'Distillation from {FASTER} (FasterRCNN)'
    assert str(distiller.plan).splitlines()[1:3] == [
        '  forward pass of the teacher: extract_feat, up to the last recorded module', '  neck: SRDLoss(alpha=4.0)']
    assert str(distiller.plan).splitlines()[4].split()[-1] == 'auto'  # what that is, the built one says
    assert lines[3].split() == ['loss', 'weight', 'student', 'stride', 'shape', 'teacher', 'stride', 'shape',
                                'projector']
    assert lines[4].split() == ['neck', 'balance', '1', 'neck[0]', '8', '256x16x16', 'neck[1]', '8', '256x16x16',
                                '65.5', 'k']
    assert len(lines) == 8


def test_columns_have_one_width():
    assert text_table([('a', 'bb'), ('ccc', 'd')]) == 'a    bb\nccc  d'


def test_a_detector_without_maps():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = nn.Linear(3, 3)
            self.bbox_head = nn.Identity()

        def forward(self, inputs, data_samples=None, mode='tensor'):
            return self.backbone(inputs.mean((2, 3)))

    with pytest.raises(ConfigError, match=r"preset = 'detection': taps neck or backbone, and the student Odd has none"):
        preset_losses('detection', Odd(), Odd())


def test_a_neck_that_does_not_run_is_named(monkeypatch):
    """An operator for GPUs only (CARAFE) cannot run in a dry run on the CPU."""
    said = []
    monkeypatch.setattr('mmsrd.distillers.presets.print_log', lambda text, **options: said.append(text))
    student, teacher = build_zoo(RETINA), build_zoo(RETINA)

    def forward(*args):
        raise NotImplementedError('no implementation for the CPU')

    teacher.neck.forward = forward
    loss, = preset_losses(None, student, teacher)
    assert (loss.student, loss.teacher) == ('neck', 'backbone')
    text, = said
    assert "'backbone' of the teacher is compared instead of its neck, which did not run" in text
    assert 'no implementation for the CPU' in text


def test_frozen_levels_are_left_out(model):
    """A detector without neck whose first stages are frozen: comparing them would train nothing."""
    student = copy.deepcopy(model(MASK2FORMER))
    for name in ('conv1', 'bn1', 'layer1', 'layer2'):
        getattr(student.backbone, name).requires_grad_(False)
    loss, = preset_losses(None, student, model(RETINA))
    assert loss.levels == [(2, 1), (3, 2)]
    student.backbone.requires_grad_(False)
    with pytest.raises(ConfigError, match="preset = 'detection': finds nothing to distil: the student is frozen up to "
                                          "'backbone'"):
        preset_losses(None, student, model(RETINA))


class LastStage(Preset):
    """A preset of a user: the last stage of the backbone."""

    name = 'last_stage'

    def paths(self, model):
        return {'backbone': 'distill.preset'}

    def losses(self, student, teacher, teacher_name=''):
        return [self.loss('last', teacher_name, dict(type='PKDLoss'), student='backbone', teacher='backbone',
                          levels=[(-1, -1)])]


def test_a_preset_of_ones_own(monkeypatch):
    monkeypatch.setitem(PRESETS.module_dict, 'last_stage', LastStage)
    student = build_zoo(RETINA)
    distiller = mmsrd.attach(student, dict(preset='last_stage', teacher=dict(config=RETINA, allow_random=True)))
    pair, = distiller.losses['last'].pairs
    assert (pair.student, pair.teacher) == (3, 3)
    assert preset_for(student).name == 'detection'  # nothing says what the other one is for
    with pytest.raises(ConfigError, match=r"distill.preset = 'last': must be one of 'detection', .*'last_stage'"):
        read_block(dict(preset='last', teacher=dict(config=RETINA, allow_random=True)))
