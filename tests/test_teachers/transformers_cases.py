"""Models of transformers as teachers; run by ``test_transformers_teachers.py`` where transformers can be imported."""
from __future__ import annotations

import pytest
import torch
import transformers
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
