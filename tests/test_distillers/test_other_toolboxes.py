"""Models of other OpenMMLab toolboxes: the preset that fits, and a training step, where the toolbox is installed."""
from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.processes import ROOT, run_cases
from mmengine.config import Config
from mmengine.model import ImgDataPreprocessor
from mmengine.registry import RUNNERS, DefaultScope
from PIL import Image
from zoo_inputs import batch_for

import mmsrd
from mmsrd.distillers import preset_for
from mmsrd.teachers.build_model import build_model, initialise
from mmsrd.teachers.input_converter import InputConversion, InputConverter, PixelFormat
from mmsrd.utils.zoo import load_config

FOLDER = ROOT / 'configs/other_toolboxes'


def needs(package):
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f'{package} is not installed')


SEGFORMER = ('mmseg::segformer/segformer_mit-b0_8xb1-160k_cityscapes-1024x1024.py',
             'mmseg::segformer/segformer_mit-b1_8xb1-160k_cityscapes-1024x1024.py')
RTMPOSE = ('mmpose::body_2d_keypoint/rtmpose/coco/rtmpose-t_8xb256-420e_coco-256x192.py',
           'mmpose::body_2d_keypoint/rtmpose/coco/rtmpose-s_8xb256-420e_coco-256x192.py')
PSPNET = 'srd_backbone_pspnet-r50_pspnet-r18_80k_cityscapes.py'


@pytest.mark.parametrize(('pair', 'package', 'preset', 'losses'), [
    pytest.param(PSPNET, 'mmseg', 'segmentation', {'backbone', 'logits'}, marks=needs('mmseg')),
    pytest.param(SEGFORMER, 'mmseg', 'segmentation', {'backbone', 'logits'}, marks=needs('mmseg')),
    pytest.param('srd_backbone_td-hm-res50_td-hm-mbv2_210e_coco.py', 'mmpose', 'keypoints', {'backbone'},
                 marks=needs('mmpose')),
    pytest.param(RTMPOSE, 'mmpose', 'keypoints', {'backbone'}, marks=needs('mmpose')),
    pytest.param('srd_neck_yolov5-s_yolov5-n_300e_coco.py', 'mmyolo', 'detection', {'neck'}, marks=needs('mmyolo')),
    pytest.param('srd_neck_oriented-rcnn-swin-t_rotated-fcos-r50_1x_dota.py', 'mmrotate', 'detection', {'neck'},
                 marks=needs('mmrotate')),
])
def test_a_training_step(pair, package, preset, losses):
    """Every projector gets a gradient."""
    torch.manual_seed(0)
    config = load_config(pair[0] if isinstance(pair, tuple) else str(FOLDER / pair), 'student')
    teacher = pair[1] if isinstance(pair, tuple) else config.distill.teacher.config
    model = build_model(config, 'student').train()
    initialise(model)
    assert preset_for(model).name == preset
    distiller = mmsrd.attach(model, dict(teacher=dict(config=teacher, allow_random=True)))
    assert set(distiller.losses) == losses
    # Logits of a segmentor are made by its head, which runs with the whole model only.
    assert distiller.plan.teacher_plans[''].recording.forward == ('tensor' if 'logits' in losses else 'extract_feat')
    with DefaultScope.overwrite_default_scope(config.default_scope):
        result = model(**batch_for(package, model, config, 128), mode='loss')
    total, _ = model.parse_losses(result)
    total.backward()
    for loss in distiller.feature_losses:
        assert result[f'loss_srd_{loss.config.name}'].isfinite()
        assert all(p.grad is not None and p.grad.any() for p in loss.projectors.parameters())


@needs('mmseg')
@pytest.mark.parametrize('swaps', [True, False])
def test_pixels_of_a_segmentor(swaps):
    """Its preprocessor has names of its own for the order of channels and for the padding."""
    from mmseg.models import SegDataPreProcessor
    generator = torch.Generator().manual_seed(0)
    images = [torch.randint(0, 256, (3, 40, 56), generator=generator, dtype=torch.uint8)]
    statistics = dict(mean=[123.7, 116.3, 103.5], std=[58.4, 57.1, 57.4])
    student = SegDataPreProcessor(**statistics, bgr_to_rgb=swaps)
    teacher = ImgDataPreprocessor(mean=[120.0, 110.0, 100.0], std=[50.0, 60.0, 70.0], bgr_to_rgb=True)
    converter = InputConverter(InputConversion.between(PixelFormat(student), PixelFormat(teacher)))
    assert converter.conversion.swap != swaps
    seen = student(dict(inputs=[image.clone() for image in images], data_samples=None), False)['inputs']
    own = teacher(dict(inputs=[image.clone() for image in images]), False)['inputs']
    torch.testing.assert_close(converter(seen, None)[0], own, rtol=1e-5, atol=2e-4)
    assert PixelFormat(SegDataPreProcessor(**statistics, pad_val=7)).pad_value == 7


@pytest.mark.slow
@needs('mmseg')
def test_a_segmentor_is_trained_and_reported(tmp_path):
    """By the config's runner, on four images of two classes; checked as a teacher is."""
    generator = np.random.default_rng(0)
    for folder in ('img', 'ann'):
        (tmp_path / 'data' / folder).mkdir(parents=True)
    for i in range(4):
        mask = np.kron(generator.integers(0, 2, (4, 4)), np.ones((16, 16))).astype(np.uint8)
        Image.fromarray(mask).save(tmp_path / f'data/ann/{i}.png')
        Image.fromarray(np.stack([mask * 200] * 3, 2)).save(tmp_path / f'data/img/{i}.jpg')
    config = Config.fromfile(str(FOLDER / PSPNET))
    teacher = load_config(config.distill.teacher.config, 'teacher')
    for model in (config.model, teacher.model):
        model.decode_head.num_classes = model.auxiliary_head.num_classes = 2
        model.data_preprocessor.size = (64, 64)
        model.pretrained = None
    dataset = dict(type='BaseSegDataset', data_root=str(tmp_path / 'data'), metainfo=dict(
        classes=('a', 'b'), palette=[[255, 0, 0], [0, 255, 0]]), data_prefix=dict(img_path='img', seg_map_path='ann'),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')])
    loader = dict(batch_size=2, num_workers=0, dataset=dataset, sampler=dict(type='DefaultSampler', shuffle=False))
    config.train_dataloader = config.val_dataloader = config.test_dataloader = loader
    config.train_cfg = dict(type='IterBasedTrainLoop', max_iters=2, val_interval=2)
    config.work_dir = str(tmp_path / 'run')
    config.default_hooks.checkpoint = dict(type='CheckpointHook', by_epoch=False, interval=2)
    teacher.dump(str(tmp_path / 'teacher.py'))
    with DefaultScope.overwrite_default_scope('mmseg'):
        torch.save(dict(state_dict=build_model(teacher, 'teacher').state_dict()), tmp_path / 'teacher.pth')
    config.distill = dict(report=dict(images=2), teacher=dict(config=str(tmp_path / 'teacher.py'),
                                                              checkpoint=str(tmp_path / 'teacher.pth')))
    runner = RUNNERS.build(config)
    runner.train()
    log = next(Path(runner.log_dir).glob('*.log')).read_text()
    assert 'could not be' not in log
    assert 'teacher/mIoU' in log
    page = (tmp_path / 'run/distill_report/index.html').read_text()
    assert page.count('<img') == 2 * 3
    assert 'mIoU by iteration' in page
    saved = torch.load(tmp_path / 'run/iter_2.pth', weights_only=True)['state_dict']
    assert not any('distiller' in key for key in saved)


@pytest.mark.skipif(importlib.util.find_spec('mmseg') is not None, reason='it is found here')
def test_segmentors_in_a_process_of_their_own(tmp_path):
    assert run_cases('mmseg', 'test_distillers/test_other_toolboxes.py', tmp_path) == 4
