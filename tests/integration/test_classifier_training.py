"""The contract for classifiers: mixed pixels, other preprocessors, weight 0, resume; on real digits."""
from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from helpers.weights import load
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.structures import DataSample

import mmsrd
from mmsrd.errors import TeacherError

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / 'configs' / 'mmpretrain' / 'digits'
MIXES = dict(mixup=[dict(type='Mixup', alpha=0.8)], cutmix=[dict(type='CutMix', alpha=1.0)],
             both=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)])


def build(config: Config) -> torch.nn.Module:
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build({**copy.deepcopy(config.model), 'data_preprocessor': copy.deepcopy(
            config.data_preprocessor)})


def test_checkpoint_has_the_students_keys(make_classifier_runner, tmp_path):
    make_classifier_runner('alone').train()
    make_classifier_runner('one', 1).train()
    plain, ours = (load(tmp_path / name / 'epoch_2.pth') for name in ('alone', 'one'))
    assert list(ours['state_dict']) == list(plain['state_dict'])
    assert set(ours) - set(plain) == {'distiller'}


@pytest.mark.parametrize('mix', MIXES)
def test_the_teacher_sees_the_same_mixed_pixels(make_classifier_runner, mix):
    runner = make_classifier_runner(mix, 1, **{'model.train_cfg': dict(augments=MIXES[mix])})
    model, teacher = runner.model, runner.model.distiller.teacher
    teacher.prepare()
    seen = []
    teacher.model.backbone.register_forward_pre_hook(lambda module, args: seen.append(args[0].clone()))
    batch = next(iter(runner.train_dataloader))
    torch.manual_seed(0)
    processed = model.data_preprocessor(copy.deepcopy(batch), True)
    losses = model(**processed, mode='loss')
    pixels = processed['inputs'] * 90 + 73  # the student's own format
    plain = torch.stack(batch['inputs']).float() if isinstance(batch['inputs'], list) else batch['inputs'].float()
    assert not torch.allclose(pixels, plain, atol=1)
    expected = (pixels.flip(1) - torch.tensor([10.0, 60.0, 110.0]).view(3, 1, 1)) \
        / torch.tensor([50.0, 60.0, 70.0]).view(3, 1, 1)
    torch.testing.assert_close(seen[0], expected, rtol=1e-5, atol=1e-4)  # float32 pixels up to 255
    assert set(losses) == {'loss', 'loss_srd_feature', 'loss_srd_logits', 'srd_alignment_feature'}
    model.parse_losses(losses)[0].backward()
    assert all(p.grad is not None for p in model.parameters())


def test_grey_images(classifier_teacher):
    """Fashion-MNIST's models take one channel; a teacher for colour gets it three times, not the other way round."""
    folder = FOLDER.parent / 'fashion_mnist'
    grey = dict(config=str(folder / 'resnet20_fashion-mnist.py'), allow_random=True)
    student = Config.fromfile(str(folder / 'resnet8_fashion-mnist-1k.py'))
    model = build(student)
    distiller = mmsrd.attach(model, dict(teacher=grey))
    assert distiller.losses['feature'].pairs[0].channels == (32, 64)
    model = build(student)
    distiller = mmsrd.attach(model, dict(teacher=classifier_teacher))
    seen = []
    distiller.teacher.model.backbone.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape))
    samples = [DataSample().set_gt_label(i) for i in range(2)]
    assert 'loss_srd_feature' in model(inputs=torch.randn(2, 1, 28, 28), data_samples=samples, mode='loss')
    assert seen == [(2, 3, 28, 28)]
    colour = build(Config.fromfile(classifier_teacher['config']))
    with pytest.raises(TeacherError, match=r"distill.teacher.config = .*mnist.py.*images of 1 channels, and the "
                                           "student's have 3"):
        mmsrd.attach(colour, dict(teacher=grey))


def test_weights_of_timm_are_loaded(tmp_path):
    """A file as timm and the DeiT authors write it, for a teacher behind MMPretrain's wrapper."""
    import timm

    from mmsrd.config import PretrainedTeacherConfig
    from mmsrd.teachers import PretrainedTeacher
    name = 'resnet10t'
    torch.manual_seed(0)
    original = timm.create_model(name, num_classes=4).eval()
    torch.save(dict(model=original.state_dict(), epoch=3), tmp_path / 'timm.pth')
    (tmp_path / 'timm.py').write_text(
        "default_scope = 'mmpretrain'\n"
        f"model = dict(type='TimmClassifier', model_name={name!r}, num_classes=4)\n")
    teacher = PretrainedTeacher(PretrainedTeacherConfig(
        'k', str(tmp_path / 'timm.py'), str(tmp_path / 'timm.pth')))
    teacher.load_weights()
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(teacher.model(images), original(images))
