"""One optimisation step of unlike architectures with a teacher of another family; tools/check_zoo.py does them all."""
from __future__ import annotations

import pytest
from check_zoo import table
from zoo_cases import OTHER_TEACHER, configs_of, folders, pick, step

DETECTORS = [
    ('retinanet/retinanet_r18_fpn_1x_coco.py', 128),
    ('faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', 128),
    ('fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py', 128),
    ('detr/detr_r18_8xb2-500e_coco.py', 128),
    ('deformable_detr/deformable-detr_r50_16xb2-50e_coco.py', 128),
    ('mask2former/mask2former_r50_8xb2-lsj-50e_coco.py', 128),
    ('centernet/centernet_r18_8xb16-crop512-140e_coco.py', 128),
    ('yolox/yolox_nano_8xb8-300e_coco.py', 128),
    ('ssd/ssd300_coco.py', 300),
    ('solov2/solov2-light_r18_fpn_ms-3x_coco.py', 128),
    ('sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco.py', 128),
    ('pvt/retinanet_pvtv2-b0_fpn_1x_coco.py', 128),
    ('soft_teacher/soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco.py', 128),
]
CLASSIFIERS = [
    ('resnet/resnet18_8xb32_in1k.py', 64),
    ('deit/deit-tiny_4xb256_in1k.py', 224),
    ('swin_transformer/swin-tiny_16xb64_in1k.py', 224),
    ('convnext_v2/convnext-v2-nano_32xb32_in1k.py', 64),
    ('mobilenet_v3/mobilenet-v3-small_8xb128_in1k.py', 64),
    ('mlp_mixer/mlp-mixer-base-p16_64xb64_in1k.py', 224),
    ('conformer/conformer-tiny-p16_8xb128_in1k.py', 224),
    ('inception_v3/inception-v3_8xb32_in1k.py', 299),
    ('lenet/lenet5_mnist.py', 32),  # one channel; squeezes a batch of one
    ('spark/benchmarks/convnextv2-tiny_8xb256-coslr-300e_in1k.py', 64),  # layer-wise learning rates
]


def some(cases, *folders):
    """All cases as parameters, those of other folders marked slow."""
    return [pytest.param(*case, marks=[] if case[0].startswith(tuple(f'{folder}/' for folder in folders)) else [
        pytest.mark.slow]) for case in cases]


@pytest.mark.parametrize(('name', 'side'), some(DETECTORS, 'retinanet', 'detr', 'yolox'))
def test_detector(name, side):
    losses = step('mmdet', f'mmdet::{name}', OTHER_TEACHER['mmdet'], side)
    assert 0 < next(v for k, v in losses.items() if k.startswith('loss_srd_')) < 4 * 6


@pytest.mark.parametrize(('name', 'side'), some(CLASSIFIERS, 'resnet', 'deit', 'mobilenet_v3', 'lenet'))
def test_classifier(name, side):
    losses = step('mmpretrain', f'mmpretrain::{name}', OTHER_TEACHER['mmpretrain'], side)
    expected = {'loss_srd_feature', 'loss_srd_logits'}
    assert expected - ({'loss_srd_logits'} if 'lenet' in name else set()) < set(losses)  # it has ten classes only


def test_which_configs_are_picked():
    assert 'retinanet' in folders('mmdet')
    assert pick('mmdet', 'retinanet')[:2] == ['mmdet::retinanet/retinanet_r18_fpn_1x_coco.py',
                                              'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py']
    assert pick('mmpretrain', 'mae')[0] == 'mmpretrain::mae/benchmarks/vit-base-p16_8xb128-coslr-100e_in1k.py'
    assert pick('mmpretrain', 'llava') == []
    assert not any('_base_' in name for name in configs_of('mmdet', 'faster_rcnn'))


def test_the_table_tells_what_failed():
    common = dict(package='mmdet', config='mmdet::a/s.py', teacher='mmdet::a/t.py', folders=5)
    text = table([dict(common, folder='a', alone='ok', family='ok', other='ok'),
                  dict(common, folder='b', alone='ok', family='ok', other='ValueError: x|y'),
                  dict(common, folder='c', alone='MissingOpError: carafe'),
                  dict(common, folder='a', alone='ok', family='ok', other='TypeError: newer')])
    assert '3 of 5 folders tried; 2 train undistilled, and of these 0 with both' in text
    assert '| a | s.py | t.py | works | TypeError: newer |' in text
    assert r'| b | s.py | t.py | works | ValueError: x\|y |' in text
    assert '| c | s.py | MissingOpError: carafe |' in text
