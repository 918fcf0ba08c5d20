"""Models of timm as teachers: any of them for any student, with weights in the layouts that timm reads."""
from __future__ import annotations

import copy
import json
import math

import pytest
import timm
import torch
from helpers.hub import hub
from helpers.processes import ROOT, forked, python
from mmengine.registry import RUNNERS
from torch.nn import functional

import mmsrd
from mmsrd.compat import load_checkpoint_file
from mmsrd.errors import CheckpointError, ConfigError, MMSRDError, TeacherError
from mmsrd.teachers.libraries import build_library_model

save_file = pytest.importorskip('safetensors.torch').save_file  # pinned by tools/requirements.txt
VIT = 'vit_tiny_patch16_224'
KEY = 'distill.teacher.config'
MEAN, STD = torch.tensor([0.5, 0.5, 0.5]), torch.tensor([0.5, 0.5, 0.5])  # of this model, pixels of 0 to 1


def random_teacher(name, **more):
    return dict(teacher=dict(config=f'timm::{name}', checkpoint=None, allow_random=True), **more)


def attached(model, block):
    mmsrd.attach(model, block)
    return model


def small_vit(seed=5, **options):
    torch.manual_seed(seed)
    return timm.create_model(VIT, **options)


@pytest.fixture(scope='module')
def vit_file(tmp_path_factory):
    """Weights of a vision transformer: random, but the same in all tests."""
    path = tmp_path_factory.mktemp('timm') / 'vit.pth'
    torch.save(small_vit().state_dict(), path)
    return path


def test_the_patch_map_meets_the_nearest_stride(student, batch):
    """What teaches is timm's own map of the student's pixels, normalised as timm says."""
    model = attached(student, random_teacher(VIT))
    loss, = model.distiller.feature_losses
    assert [(pair.student, pair.strides) for pair in loss.pairs] == [(1, (16, 16))]
    assert loss.projectors[0].weight.shape[:2] == (192, 32)
    data = batch(model)
    model(**data)['loss_srd_neck'].backward()
    features, = model.distiller.teacher.features(data['inputs'], data['data_samples']).values()
    own = model.data_preprocessor
    pixels = data['inputs'] * own.std + own.mean
    pixels = pixels.flip(1) if not own._channel_conversion else pixels  # the dataset's are BGR
    expected = model.distiller.teacher.model.model.forward_intermediates(
        (pixels / 255 - MEAN.view(-1, 1, 1)) / STD.view(-1, 1, 1), indices=1, norm=True, intermediates_only=True)
    torch.testing.assert_close(features[-1], expected[-1], rtol=1e-3, atol=1e-3)  # sums in another order


@pytest.mark.parametrize(('name', 'levels'), [
    ('resnet10t', [(0, 2), (1, 3), (2, 4)]), ('regnety_002', [(0, 2), (1, 3), (2, 4)]),
    ('convnext_atto', [(0, 1), (1, 2), (2, 3)]), ('vit_small_patch14_dinov2', [(1, 0)])])
def test_levels_by_stride(student, batch, name, levels):
    model = attached(student, random_teacher(name))
    loss, = model.distiller.feature_losses
    assert [(pair.student, pair.teacher) for pair in loss.pairs] == levels
    assert model(**batch(model))['loss_srd_neck'].isfinite()


def test_patches_that_do_not_fill_the_image(vit_file):
    """It is resized to the nearest number of patches; the map covers the same part of the image."""
    model = build_library_model('timm::vit_tiny_patch16_224', KEY).eval()
    images = torch.rand(1, 3, 72, 104)  # 4.5 and 6.5 patches
    recorded = []
    model.backbone.register_forward_hook(lambda module, args, output: recorded.extend(output))
    model(images)
    assert recorded[0].shape[-2:] == (4, 6)
    model(functional.interpolate(images, (64, 96), mode='bilinear', align_corners=False))
    torch.testing.assert_close(recorded[0], recorded[1])


def test_a_block_in_the_middle(student, batch):
    """Tokens of one block, class token left out."""
    model = attached(student, random_teacher(VIT, losses=dict(neck=dict(
        type='SRDLoss', student='neck', teacher='model.blocks.6', levels=[(1, 0)], tokens='patch'))))
    data = batch(model)
    assert model(**data)['loss_srd_neck'].isfinite()
    features = model.distiller.teacher.features(data['inputs'], data['data_samples'])
    assert features['model.blocks.6'][0].shape == (2, 1 + 4 * 4, 192)


def weights_in(kind, folder):
    """The same weights in another layout; what the config's checkpoint says, or its config and that."""
    state = small_vit().state_dict()
    if kind == 'safetensors':
        save_file(state, folder / 'vit.safetensors')
        return VIT, str(folder / 'vit.safetensors')
    if kind == 'deit':  # as the authors of DeiT save them
        torch.save(dict(model=state), folder / 'vit.pth')
        return VIT, str(folder / 'vit.pth')
    if kind == 'url':
        torch.save(state, folder / 'vit.pth')
        return VIT, (folder / 'vit.pth').as_uri()
    assert kind == 'folder'  # as timm saves them for the hub
    model = small_vit()
    timm.models.save_for_hf(model, str(folder / 'hub'))
    return str(folder / 'hub'), 'auto'


@pytest.mark.parametrize('kind', ['safetensors', 'deit', 'url', 'folder'])
def test_layouts(kind, tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'downloads'))
    name, checkpoint = weights_in(kind, tmp_path)
    model = build_library_model(f'timm::{name}', KEY)
    model.read_weights(checkpoint, 'distill.teacher.checkpoint')
    expected = small_vit().state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in model.model.state_dict().items())


def test_auto_is_the_librarys_download(tmp_path):
    """From a server that answers as the hub does, into an empty cache."""
    save_file(small_vit().state_dict(), tmp_path / 'model.safetensors')
    script = f'''
from mmsrd.teachers.libraries import build_library_model
model = build_library_model('timm::{VIT}.augreg_in21k_ft_in1k', '{KEY}')
model.read_weights('auto', 'distill.teacher.checkpoint')
print(float(model.model.head.weight.sum()))'''
    with hub(tmp_path) as (address, asked):
        done = python('-c', script, HF_ENDPOINT=address, HF_HOME=str(tmp_path / 'cache'))
    assert float(done.stdout.splitlines()[-1]) == float(small_vit().head.weight.sum())
    assert any(path.endswith('model.safetensors') for path in asked)


@pytest.mark.parametrize(('name', 'message'), [
    ('vit_tiny_patch16_22', "timm [0-9.]+ has no such model .did you mean 'vit_tiny_patch16_224'"),
    ('resnet18.a1_in1kk', "did you mean 'resnet18.a1_in1k'"),
    ('.', 'has no such model and the folder has no config.json')])
def test_unknown_models(student, name, message):
    with pytest.raises(TeacherError, match=message) as error:
        mmsrd.attach(student, random_teacher(name))
    assert str(error.value).startswith(f"{KEY} = 'timm::{name}': ")


def test_names_of_before():
    assert type(build_library_model('timm::tv_resnet34', KEY).model) is timm.models.ResNet


def test_damaged_safetensors(tmp_path):
    """For a teacher of a toolbox, too."""
    (tmp_path / 'damaged.safetensors').write_bytes(b'no tensors')
    with pytest.raises(CheckpointError, match=r"^k = '.*damaged.safetensors': cannot be read"):
        load_checkpoint_file(str(tmp_path / 'damaged.safetensors'), 'k')


@pytest.mark.parametrize(('content', 'message'), [
    (dict(state_dict={'backbone.weight': torch.zeros(1)}), 'timm cannot load these weights into vit_tiny_patch16_224'),
    ({'cls_token': torch.zeros(1, 1, 192)}, 'Missing key'), (b'no checkpoint', 'refused|cannot be read')])
def test_wrong_weights(student, tmp_path, content, message):
    path = tmp_path / 'wrong.pth'
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(CheckpointError, match=message) as error:
        mmsrd.attach(student, dict(teacher=dict(config=f'timm::{VIT}', checkpoint=str(path))))
    assert str(error.value).startswith('distill.teacher.checkpoint = ')
    assert len(str(error.value)) < 700


def test_an_image_size_that_it_cannot_take(student):
    with pytest.raises(ConfigError, match='must be divisible by window') as error:
        build_library_model('timm::maxvit_rmlp_pico_rw_256', KEY)(torch.zeros(1, 3, 128, 192))
    assert 'cannot take images of 128x192' in str(error.value)


def test_library_that_is_not_installed(student, monkeypatch):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(MMSRDError, match='timm is not installed; "pip install timm"'):
        mmsrd.attach(student, random_teacher(VIT))


def test_classifiers(make_classifier_runner, vit_file):
    """The feature is distilled; the logits are left out, because the teacher has other classes."""
    block = dict(teacher=dict(config=f'timm::{VIT}', checkpoint=str(vit_file)))
    model = attached(make_classifier_runner('timm').model, block)
    loss, = model.distiller.feature_losses
    assert (loss.config.name, loss.config.teacher, loss.config.pool) == ('feature', 'backbone', True)


def test_training_from_the_command_line(student_config, vit_file, tmp_path):
    student_config = copy.deepcopy(student_config)
    student_config.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1, val_interval=9)
    student_config.log_level = 'INFO'
    student_config.dump(str(tmp_path / 'student.py'))
    forked(ROOT / 'tools/train.py', tmp_path / 'student.py', '--teacher', f'timm::{VIT}', '--teacher-checkpoint',
           vit_file, '--work-dir', tmp_path / 'run', cwd=tmp_path)
    log, = (tmp_path / 'run').rglob('*.log')
    assert 'Teacher weights of timm::vit_tiny_patch16_224 loaded' in log.read_text()
    scalars = [json.loads(line) for line in next((tmp_path / 'run').rglob('scalars.json')).read_text().splitlines()]
    assert [math.isfinite(step['loss_srd_neck']) for step in scalars if 'loss' in step] == [True] * 4
    plain = RUNNERS.build({**student_config, 'work_dir': str(tmp_path / 'plain')}).model
    saved = torch.load(tmp_path / 'run' / 'epoch_1.pth', weights_only=False)
    assert set(saved['state_dict']) == set(plain.state_dict())
