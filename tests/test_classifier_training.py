"""The contract for classifiers: mixed pixels, other preprocessors, weight 0, resume; on real digits."""
from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, RUNNERS, DefaultScope
from mmpretrain.structures import DataSample
from prepare_data import digits
from test_training import load, same

import mmsrd
from mmsrd.errors import TeacherError

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / 'configs' / 'mmpretrain' / 'digits'
MIXES = dict(mixup=[dict(type='Mixup', alpha=0.8)], cutmix=[dict(type='CutMix', alpha=1.0)],
             both=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)])


def build(config: Config) -> torch.nn.Module:
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build({**copy.deepcopy(config.model), 'data_preprocessor': copy.deepcopy(
            config.data_preprocessor)})


@pytest.fixture(scope='session')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('digits')
    assert digits(folder) == 1797
    return folder


@pytest.fixture(scope='session')
def teacher(tmp_path_factory):
    """Config file and weights of the digits teacher (random, the same in all tests), with BGR pixels of its own."""
    folder = tmp_path_factory.mktemp('teacher')
    config = Config.fromfile(str(FOLDER / 'resnet20_digits.py'))
    config.data_preprocessor = dict(mean=[10.0, 60.0, 110.0], std=[50.0, 60.0, 70.0], to_rgb=True, num_classes=10)
    config.dump(str(folder / 'teacher.py'))
    torch.manual_seed(3)
    torch.save(dict(state_dict=build(config).state_dict()), folder / 'teacher.pth')
    return dict(config=str(folder / 'teacher.py'), checkpoint=str(folder / 'teacher.pth'))


@pytest.fixture
def make_runner(data, teacher, tmp_path):
    """``make(name, weight_or_None, **overrides)``: two epochs of four iterations with mixup and crops."""

    def make(name, weight=None, **overrides):
        path = 'resnet8_digits-100.py' if weight is None else 'srd_backbone_resnet20_resnet8_digits-100.py'
        config = Config.fromfile(str(FOLDER / path))
        config.train_dataloader.batch_size = 25
        config.train_dataloader.dataset.data_root = str(data / 'train')
        for key in ('val', 'test'):
            config[f'{key}_dataloader'].dataset.data_root = str(data / 'val')
        config.train_cfg = dict(by_epoch=True, max_epochs=2, val_interval=5)
        config.model.train_cfg = dict(augments=MIXES['both'])
        config.default_hooks.checkpoint = dict(type='CheckpointHook', interval=1)
        config.work_dir = str(tmp_path / name)
        config.log_level = 'ERROR'
        config.experiment_name = config.visualizer.name = f'{tmp_path.name}-{name}'
        if weight is not None:
            config.distill.teacher = copy.deepcopy(teacher)
            config.distill.losses.feature.weight = 2.0 * weight
            config.distill.losses.logits.weight = weight
        config.merge_from_dict(overrides)
        return RUNNERS.build(config)

    return make


def test_weight_zero_is_the_baseline_bit_for_bit(make_runner):
    baseline = make_runner('alone').train()
    assert same(baseline.state_dict(), make_runner('zero', 0).train().state_dict())
    assert not same(baseline.state_dict(), make_runner('one', 1).train().state_dict())


def test_resume_gives_the_same_weights(make_runner, tmp_path):
    # MMEngine does not save random states, so nothing in the pipeline may be random.
    options = {'model.train_cfg': None, 'train_dataloader.dataset.pipeline': [
        dict(type='LoadImageFromFile'), dict(type='PackInputs')]}
    whole = make_runner('whole', 1, **options).train()
    checkpoint = str(tmp_path / 'whole' / 'epoch_1.pth')
    resumed = make_runner('resumed', 1, resume=True, load_from=checkpoint, **options).train()
    assert same(whole.state_dict(), resumed.state_dict())
    assert same(whole.distiller.state_dict(), resumed.distiller.state_dict())


def test_checkpoint_has_the_students_keys(make_runner, tmp_path):
    make_runner('alone').train()
    make_runner('one', 1).train()
    plain, ours = (load(tmp_path / name / 'epoch_2.pth') for name in ('alone', 'one'))
    assert list(ours['state_dict']) == list(plain['state_dict'])
    assert set(ours) - set(plain) == {'distiller'}


@pytest.mark.parametrize('mix', MIXES)
def test_the_teacher_sees_the_same_mixed_pixels(make_runner, mix):
    runner = make_runner(mix, 1, **{'model.train_cfg': dict(augments=MIXES[mix])})
    model, teacher = runner.model, runner.model.distiller.teacher
    teacher.load_weights()
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
    assert set(losses) == {'loss', 'loss_srd_feature', 'loss_srd_logits', 'srd_alignment/feature'}
    model.parse_losses(losses)[0].backward()
    assert all(p.grad is not None for p in model.parameters())


def test_grey_images(teacher):
    """Fashion-MNIST's models take one channel; a teacher for colour gets it three times, not the other way round."""
    folder = FOLDER.parent / 'fashion_mnist'
    grey = dict(config=str(folder / 'resnet20_fashion-mnist.py'), allow_random=True)
    student = Config.fromfile(str(folder / 'resnet8_fashion-mnist-1k.py'))
    model = build(student)
    distiller = mmsrd.attach(model, dict(teacher=grey))
    assert distiller.pairs['feature'][0].channels == (32, 64)
    model = build(student)
    distiller = mmsrd.attach(model, dict(teacher=teacher))
    seen = []
    distiller.teacher.model.backbone.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape))
    samples = [DataSample().set_gt_label(i) for i in range(2)]
    assert 'loss_srd_feature' in model(inputs=torch.randn(2, 1, 28, 28), data_samples=samples, mode='loss')
    assert seen == [(2, 3, 28, 28)]
    colour = build(Config.fromfile(teacher['config']))
    with pytest.raises(TeacherError, match=r"distill.teacher.config = .*mnist.py.*images of 1 channels, and the "
                                           "student's have 3"):
        mmsrd.attach(colour, dict(teacher=grey))


def test_weights_of_timm_are_loaded(tmp_path):
    """A file as timm and the DeiT authors write it, for a teacher behind MMPretrain's wrapper."""
    import timm

    from mmsrd.teacher import Teacher
    name = 'resnet10t'
    torch.manual_seed(0)
    original = timm.create_model(name, num_classes=4).eval()
    torch.save(dict(model=original.state_dict(), epoch=3), tmp_path / 'timm.pth')
    (tmp_path / 'timm.py').write_text(
        "default_scope = 'mmpretrain'\n"
        f"model = dict(type='TimmClassifier', model_name={name!r}, num_classes=4)\n")
    teacher = Teacher.from_config(str(tmp_path / 'timm.py'), str(tmp_path / 'timm.pth'))
    teacher.load_weights()
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(teacher.model(images), original(images))
