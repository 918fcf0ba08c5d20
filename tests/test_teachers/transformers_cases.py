"""Models of transformers as teachers; run by ``test_transformers_teachers.py`` where transformers can be imported."""
from __future__ import annotations

import os

import pytest
import torch
import transformers
from helpers.hub import hub
from helpers.processes import ROOT, python
from mmengine.config import Config
from tiny import build_detector
from torch import nn

import mmsrd
from mmsrd.errors import CheckpointError, TeacherError
from mmsrd.teachers.libraries import build_library_model
from mmsrd.utils.zoo import load_config

KEY, CHECKPOINT = 'distill.teacher.config', 'distill.teacher.checkpoint'
SMALL = {
    'dinov2': transformers.Dinov2Config(hidden_size=48, num_hidden_layers=3, num_attention_heads=3, image_size=70),
    'swin': transformers.SwinConfig(embed_dim=12, depths=[1, 1, 2, 1], num_heads=[1, 2, 3, 4]),
    'convnext': transformers.ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1]),
    'resnet': transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1]),
}
LEVELS = {'dinov2': [(1, 0)], 'swin': [(0, 1), (1, 2), (2, 3)], 'convnext': [(0, 1), (1, 2), (2, 3)],
          'resnet': [(0, 1), (1, 2), (2, 3)]}


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    """Folders as ``save_pretrained`` writes them, with random weights, and the models in them."""
    root = tmp_path_factory.mktemp('hub')
    torch.manual_seed(0)
    models = {name: transformers.AutoModel.from_config(config) for name, config in SMALL.items()}
    for name, model in models.items():
        model.save_pretrained(root / name)
        processor = transformers.BitImageProcessor(image_mean=[0.1, 0.2, 0.3], image_std=[0.5, 0.6, 0.7])
        processor.save_pretrained(root / name)
    return root, models


@pytest.mark.parametrize('name', SMALL)
def test_student_learns_from_it(student, batch, folders, name):
    root, models = folders
    mmsrd.attach(student, dict(teacher=dict(config=f'transformers::{root / name}', checkpoint='auto',
                                            inference=dict(fold=False))))  # with the weights as they are
    loss, = student.distiller.feature_losses
    assert [(pair.student, pair.teacher) for pair in loss.pairs] == LEVELS[name]
    student(**batch(student))['loss_srd_neck'].backward()
    teacher = student.distiller.teacher.model
    assert teacher.data_preprocessor.std.flatten().tolist() == pytest.approx([127.5, 153, 178.5])
    own = teacher.model.state_dict()
    shared = [key for key in models[name].state_dict() if key in own]
    assert len(shared) >= len(own) - 8  # normalisations of what four stages return
    assert all(torch.equal(own[key], models[name].state_dict()[key]) for key in shared)


def test_maps_are_the_librarys(folders):
    """Patch tokens of the last layer, normalised, as the whole model returns them."""
    root, models = folders
    model = build_library_model(f'transformers::{root / "dinov2"}', KEY).eval()
    model.read_weights('auto', CHECKPOINT)
    recorded = []
    model.backbone.register_forward_hook(lambda module, args, output: recorded.extend(output))
    images = torch.rand(2, 3, 56, 84)  # 4×6 patches of 14
    with torch.no_grad():
        model(images)
        tokens = models['dinov2'].eval()(images).last_hidden_state[:, 1:]
    torch.testing.assert_close(recorded[0].flatten(2).transpose(1, 2), tokens, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('kind', ['folder', 'safetensors', 'bin'])
def test_weights_from_elsewhere(folders, tmp_path, kind):
    root, models = folders
    model = build_library_model(f'transformers::{root / "dinov2"}', KEY)
    torch.save(models['dinov2'].state_dict(), tmp_path / 'pytorch_model.bin')
    model.read_weights(str({'folder': root / 'dinov2', 'safetensors': root / 'dinov2/model.safetensors',
                            'bin': tmp_path / 'pytorch_model.bin'}[kind]), CHECKPOINT)
    own, expected = model.model.state_dict(), models['dinov2'].state_dict()
    assert all(torch.equal(own[key], value) for key, value in expected.items() if key in own)


def test_wrong_weights(folders, tmp_path):
    root, _ = folders
    model = build_library_model(f'transformers::{root / "dinov2"}', KEY)
    with pytest.raises(CheckpointError, match='keys are missing'):
        model.read_weights(str(root / 'resnet/model.safetensors'), CHECKPOINT)
    (tmp_path / 'config.json').write_text((root / 'dinov2/config.json').read_text())
    with pytest.raises(CheckpointError, match='no file named'):  # a folder without weights
        model.read_weights(str(tmp_path), CHECKPOINT)


@pytest.mark.parametrize(('name', 'message'), [
    ('.', 'transformers cannot build a backbone of it'), ('nobody/no-model', "couldn't connect|offline"),
    ('nothing', 'is not a local folder|cannot build')])
def test_models_that_are_not_there(student, name, message):
    with pytest.raises(TeacherError, match=message) as error:
        mmsrd.attach(student, dict(teacher=dict(config=f'transformers::{name}', checkpoint='auto')))
    assert str(error.value).startswith(f"{KEY} = 'transformers::{name}': ")


def test_statistics_that_are_not_known(folders, tmp_path):
    (tmp_path / 'config.json').write_text((folders[0] / 'resnet/config.json').read_text())
    model = build_library_model(f'transformers::{tmp_path}', KEY)
    assert model.data_preprocessor.mean.flatten().tolist() == pytest.approx([123.675, 116.28, 103.53])


def test_toolboxes_beside_it(student_config):
    """MMPretrain looks at transformers when it is imported, and MMDetection imports MMPretrain."""
    import mmpretrain.models
    assert issubclass(mmpretrain.models.ImageClassifier, nn.Module)
    assert build_detector(student_config.model).backbone


RESNET = dict(embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1],
              out_features=['stage2', 'stage3', 'stage4'])
NARROW = dict(d_model=32, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=32, decoder_ffn_dim=32,
              encoder_attention_heads=2, decoder_attention_heads=2, num_queries=10)
DETR = dict(NARROW, use_timm_backbone=False, use_pretrained_backbone=False, backbone=None)
RTDETR = dict(NARROW, encoder_in_channels=[16, 24, 32], feat_strides=[8, 16, 32], encoder_hidden_dim=32,
              decoder_in_channels=[32, 32, 32])


def rtdetr(kind):
    return kind(backbone_config=transformers.RTDetrResNetConfig(**RESNET), **RTDETR)


def detr(kind, **options):
    return kind(backbone_config=transformers.ResNetConfig(**RESNET), **DETR, **options)


DETECTORS = {
    'rt-detr': (lambda: rtdetr(transformers.RTDetrConfig), 'neck', [(0, 0), (1, 1), (2, 2)]),
    'rt-detr v2': (lambda: rtdetr(transformers.RTDetrV2Config), 'neck', [(0, 0), (1, 1), (2, 2)]),
    'detr': (lambda: detr(transformers.DetrConfig), 'neck', [(2, 0)]),
    'conditional detr': (lambda: detr(transformers.ConditionalDetrConfig), 'neck', [(2, 0)]),
    'deformable detr': (lambda: detr(transformers.DeformableDetrConfig), 'neck', [(0, 0), (1, 1), (2, 2)]),
    'yolos': (lambda: transformers.YolosConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=[64, 96],
        num_detection_tokens=10), 'backbone', [(1, 0)]),
}
"""Configuration, what the preset records, and levels of the student and the teacher that it pairs."""


@pytest.fixture
def detector(tmp_path):
    """Make a folder with random weights, as ``save_pretrained`` writes it, and the model."""

    def make(name):
        torch.manual_seed(0)
        model = transformers.AutoModelForObjectDetection.from_config(DETECTORS[name][0]()).eval()
        model.save_pretrained(tmp_path)
        return f'transformers::{tmp_path}', model

    return make


@pytest.mark.parametrize('name', DETECTORS)
def test_detectors_teach(student, batch, detector, name):
    config, _ = detector(name)
    _, path, levels = DETECTORS[name]
    mmsrd.attach(student, dict(teacher=dict(config=config, checkpoint='auto')))
    loss, = student.distiller.feature_losses
    assert (loss.config.teacher, [(pair.student, pair.teacher) for pair in loss.pairs]) == (path, levels)
    student(**batch(student))['loss_srd_neck'].backward()
    assert all(parameter.grad is not None for parameter in student.distiller.parameters())


@pytest.mark.parametrize('name', [name for name in DETECTORS if name != 'yolos'])
def test_the_decoder_does_not_run(student, batch, detector, name):
    mmsrd.attach(student, dict(teacher=dict(config=detector(name)[0], checkpoint='auto')))
    called = []
    inner = student.distiller.teacher.model.inner
    for part in ('encoder', 'decoder'):
        getattr(inner, part).register_forward_pre_hook(lambda module, args, part=part: called.append(part))
    student(**batch(student))
    assert set(called) == {'encoder'}


def test_weights_in_host_memory(student, batch, detector):
    """Each is taken to the device and back once, by one name."""
    config, _ = detector('rt-detr')
    inputs = batch(student)
    losses = []
    for offload in (False, True):
        distiller = mmsrd.attach(student, dict(teacher=dict(config=config, checkpoint='auto', offload=offload)))
        model = distiller.teacher.model
        assert not any(name.startswith('inner') for name in model.state_dict())
        places = {key: value.data_ptr() for key, value in model.state_dict(keep_vars=True).items()}
        for _ in range(2):
            losses.append(float(student(**inputs)['loss_srd_neck'].detach()))
        if offload:
            assert {key: value.data_ptr() for key, value in model.state_dict(keep_vars=True).items()} == places
        mmsrd.detach(student)
    assert losses[0] == losses[2]


@pytest.mark.parametrize('name', ['rt-detr', 'deformable detr', 'yolos'])
def test_maps_of_detectors_are_the_librarys(detector, name):
    """Against what the model itself returns, of images that are not square."""
    config, expected = detector(name)
    model = build_library_model(config, KEY).eval()
    model.read_weights('auto', CHECKPOINT)
    maps = {}
    for part in ('backbone', 'neck'):
        if hasattr(model, part):
            getattr(model, part).register_forward_hook(lambda m, args, output, part=part: maps.setdefault(part, output))
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        model(images)
        output = expected(images)
    if name == 'yolos':
        tokens = output.last_hidden_state[:, 1:-10]
        for row, column in ((0, 0), (1, 4), (3, 5)):
            torch.testing.assert_close(maps['backbone'][0][:, :, row, column], tokens[:, 6 * row + column])
        return
    assert [tuple(level.shape[2:]) for level in maps['backbone']] == [(8, 12), (4, 6), (2, 3)]
    encoded = output.encoder_last_hidden_state
    if name == 'rt-detr':
        assert len(maps['neck']) == 3
        assert all(torch.equal(own, other) for own, other in zip(maps['neck'], encoded))
    else:
        assert [tuple(level.shape[2:]) for level in maps['neck']] == [(8, 12), (4, 6), (2, 3), (1, 2)]
        torch.testing.assert_close(torch.cat([level.flatten(2) for level in maps['neck']], 2).transpose(1, 2), encoded)


def test_statistics_that_are_not_used(detector, tmp_path):
    """RT-DETR's processor has some and leaves pixels as they are."""
    config, _ = detector('rt-detr')
    transformers.RTDetrImageProcessor().save_pretrained(tmp_path)
    preprocessor = build_library_model(config, KEY).data_preprocessor
    assert preprocessor.mean.flatten().tolist() == [0, 0, 0]
    assert preprocessor.std.flatten().tolist() == [255, 255, 255]


@pytest.mark.parametrize('kind', ['safetensors', 'bin'])
def test_weights_of_detectors_from_files(detector, tmp_path, kind):
    config, expected = detector('rt-detr')
    model = build_library_model(config, KEY)
    torch.save(expected.state_dict(), tmp_path / 'weights.bin')
    model.read_weights(str(tmp_path / {'safetensors': 'model.safetensors', 'bin': 'weights.bin'}[kind]), CHECKPOINT)
    assert all(torch.equal(model.model.state_dict()[key], value) for key, value in expected.state_dict().items())


def test_auto_is_the_librarys_download(detector, tmp_path):
    """From a server that answers as the hub does, into an empty cache."""
    _, expected = detector('rt-detr')
    transformers.RTDetrImageProcessor().save_pretrained(tmp_path)
    script = f'''
from mmsrd.teachers.libraries import build_library_model
model = build_library_model('transformers::someone/rtdetr', '{KEY}')
model.read_weights('auto', '{CHECKPOINT}')
print(float(sum(value.double().sum() for value in model.model.state_dict().values())))'''
    with hub(tmp_path) as (address, asked):
        done = python('-c', script, HF_ENDPOINT=address, HF_HOME=str(tmp_path / 'cache'), HF_HUB_OFFLINE='0',
                      PYTHONPATH=os.environ['PYTHONPATH'])
    assert float(done.stdout.splitlines()[-1]) == float(sum(x.double().sum() for x in expected.state_dict().values()))
    assert any(path.endswith('model.safetensors') for path in asked)


def test_the_config_with_rtdetr(batch, detector):
    """A step of RTMDet-s, with a narrow teacher."""
    config = Config.fromfile(str(ROOT / 'configs/detection/srd_neck_rtdetr-r50_rtmdet-s_300e_coco.py'))
    config.model.backbone.init_cfg = None
    assert config.distill.teacher.config == 'transformers::PekingU/rtdetr_r50vd'
    config.distill.teacher.config = detector('rt-detr')[0]
    student = build_detector(config.model).train()
    mmsrd.attach(student, config.distill)
    loss, = student.distiller.feature_losses
    assert [(pair.student, pair.teacher) for pair in loss.pairs] == [(0, 0), (1, 1), (2, 2)]
    student.parse_losses(student(**batch(student)))[0].backward()
    assert all(parameter.grad is not None for parameter in student.distiller.parameters())


def test_a_detector_without_maps(detector, monkeypatch):
    config, _ = detector('detr')
    monkeypatch.setattr(transformers.DetrForObjectDetection, '__init__', no_parts)
    with pytest.raises(TeacherError, match=f'{KEY} = .* has no backbone and encoder whose maps could be recorded'):
        build_library_model(config, KEY)


def no_parts(self, config):
    transformers.DetrPreTrainedModel.__init__(self, config)
    self.model = nn.Linear(1, 1)


@pytest.fixture(scope='module')
def language_model(tmp_path_factory):
    """Folder of a BERT of one layer, with random weights and a vocabulary of letters."""
    folder = tmp_path_factory.mktemp('bert')
    vocabulary = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', '.', '?', *'abcdefghijklmnopqrstuvwxyz']
    (folder / 'vocab.txt').write_text('\n'.join(vocabulary))
    config = transformers.BertConfig(vocab_size=len(vocabulary), num_hidden_layers=1, num_attention_heads=2,
                                     intermediate_size=16)
    transformers.BertModel(config).save_pretrained(folder)
    transformers.BertTokenizerFast(str(folder / 'vocab.txt')).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize('name', ['grounding_dino/grounding_dino_swin-t_pretrain_obj365_goldg_cap4m.py',
                                  'glip/glip_atss_swin-t_a_fpn_dyhead_pretrain_obj365.py'])
def test_detectors_that_want_text(student, batch, language_model, name):
    """Their heads cannot run without it, and are not needed."""
    config = load_config(f'mmdet::{name}', KEY)
    config.model.language_model.name = language_model
    config.model.backbone.update(embed_dims=24, depths=[1, 1, 1, 1], init_cfg=None)
    config.model.neck.in_channels = [48, 96, 192]
    if 'lang_model_name' in config.model.bbox_head:
        config.model.bbox_head.lang_model_name = language_model
    mmsrd.attach(student, dict(teacher=dict(config=config, allow_random=True)))
    assert 'forward pass of the teacher: extract_feat' in student.distiller.describe()
    student(**batch(student))['loss_srd_neck'].backward()
    assert all(parameter.grad is not None for parameter in student.distiller.parameters())


def test_images_of_another_size(student, batch, folders):
    """At half the size its strides of 4 to 32 are 8 to 64 on the student's image."""
    teacher = dict(config=f'transformers::{folders[0] / "convnext"}', checkpoint='auto', scale=0.5)
    mmsrd.attach(student, dict(teacher=teacher))
    loss, = student.distiller.feature_losses
    assert [(pair.student, pair.teacher) for pair in loss.pairs] == [(0, 0), (1, 1), (2, 2)]
    assert torch.isfinite(student(**batch(student))['loss_srd_neck'])
