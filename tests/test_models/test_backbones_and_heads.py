"""The small backbones: sizes of the benchmark, shapes, mistakes; the parts of a distilled DeiT."""
from __future__ import annotations

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.structures import DataSample
from torch import nn

from mmsrd.errors import ConfigError
from mmsrd.models.backbones import CifarResNet, CifarVGG, CifarWideResNet, ConvStem
from mmsrd.models.backbones.cifar_shufflenet import ChannelShuffle
from mmsrd.models.heads.deit_distill_head import DeiTDistillHead

# Parameters with a classifier of 100 classes, counted in the benchmark's own models (HobbitLong/RepDistiller,
# models/, commit b84f547). The rounded numbers of papers agree: resnet20 0.27 M to resnet110 1.7 M with 10 classes
# (He et al. 2016, table 6); WRN-40-1 0.6 M and WRN-40-2 2.2 M with 10 classes (Zagoruyko and Komodakis 2016);
# resnet32x4 7.43 M, resnet8x4 1.23 M, ShuffleNetV2 1.36 M, WRN-40-2 2.26 M with 100, as distillation papers quote
# them. Per row: backbone, width and side of its last map for 32×32, parameters.
BENCHMARK = [
    (dict(type='mmsrd.CifarResNet', depth=20), 64, 8, 278_324),
    (dict(type='mmsrd.CifarResNet', depth=32), 64, 8, 472_756),
    (dict(type='mmsrd.CifarResNet', depth=56), 64, 8, 861_620),
    (dict(type='mmsrd.CifarResNet', depth=110), 64, 8, 1_736_564),
    (dict(type='mmsrd.CifarResNet', depth=8, widths=(32, 64, 128, 256)), 256, 8, 1_233_540),
    (dict(type='mmsrd.CifarResNet', depth=32, widths=(32, 64, 128, 256)), 256, 8, 7_433_860),
    (dict(type='mmsrd.CifarWideResNet', depth=16, widen_factor=2), 128, 8, 703_284),
    (dict(type='mmsrd.CifarWideResNet', depth=40, widen_factor=1), 64, 8, 569_780),
    (dict(type='mmsrd.CifarWideResNet', depth=40, widen_factor=2), 128, 8, 2_255_156),
    (dict(type='mmsrd.CifarVGG', depth=8), 512, 4, 3_965_028),
    (dict(type='mmsrd.CifarVGG', depth=13), 512, 4, 9_462_180),
    (dict(type='mmsrd.CifarMobileNetV2'), 1280, 2, 812_836),
    (dict(type='mmsrd.CifarShuffleNetV1'), 960, 4, 949_258),
    (dict(type='mmsrd.CifarShuffleNetV2'), 1024, 4, 1_355_528),
    # MMPretrain has the benchmark's ResNet50 already.
    (dict(type='ResNet_CIFAR', depth=50, out_indices=(3,), style='pytorch'), 2048, 4, 23_705_252),
]


def build(config):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(config)


@pytest.mark.parametrize(('config', 'width', 'side', 'parameters'), BENCHMARK)
def test_sizes_of_the_benchmark(config, width, side, parameters):
    backbone = build(config)
    backbone.init_weights()
    assert sum(p.numel() for p in backbone.parameters()) + (width + 1) * 100 == parameters
    out, = backbone(torch.randn(2, 3, 32, 32))
    assert out.shape == (2, width, side, side)
    out.square().mean().backward()
    assert all(p.grad is not None for p in backbone.parameters())


@pytest.mark.parametrize('groups', [2, 3])
def test_channels_are_shuffled_as_by_pytorch(groups):
    x = torch.randn(2, 12, 3, 5)
    assert torch.equal(ChannelShuffle(groups)(x), nn.ChannelShuffle(groups)(x))


def test_mobilenet_v1():
    """4.2 million parameters with 1000 classes (Howard et al. 2017, table 8); 4,231,976 by Keras's trainable count."""
    backbone = build(dict(type='mmsrd.MobileNetV1', out_indices=(1, 2, 3, 4)))
    assert sum(p.numel() for p in backbone.parameters()) + 1025 * 1000 == 4_231_976
    assert [tuple(x.shape[1:]) for x in backbone(torch.zeros(2, 3, 64, 64))] \
        == [(128, 16, 16), (256, 8, 8), (512, 4, 4), (1024, 2, 2)]


def test_stages_are_chosen_and_images_may_be_grey():
    backbone = CifarResNet(8, in_channels=1, out_indices=(0, -1))
    assert [x.shape[1] for x in backbone(torch.zeros(2, 1, 28, 28))] == [16, 64]


def test_initial_weights_are_those_of_he():
    torch.manual_seed(0)
    backbone = CifarResNet(32, (64, 64, 128, 256))
    backbone.init_weights()
    convolution = next(m for m in backbone.stages[2].modules() if isinstance(m, nn.Conv2d))
    # fan_out = 256·3·3; 128·256·9 samples put the standard deviation within 1 %.
    assert float(convolution.weight.detach().std()) == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.01)


@pytest.mark.parametrize(('make', 'message'), [
    (lambda: CifarResNet(21), r'depth = 21: CifarResNet has 6n \+ 2 layers: 8, 14'),
    (lambda: CifarResNet(2), 'depth = 2:'),
    (lambda: CifarResNet(20, (16, 32)), r'widths = \(16, 32\): must be four numbers'),
    (lambda: CifarResNet(20, out_indices=(3,)), r'out_indices = \(3,\): must be indices of the 3 stages of CifarRes'),
    (lambda: CifarWideResNet(20, 2), r'depth = 20: CifarWideResNet has 6n \+ 4'),
    (lambda: CifarVGG(12), 'depth = 12: CifarVGG has depths 8, 11'),
    (lambda: ConvStem(3, 8, 7, 7), 'kernel_size = 7'),
    (lambda: ConvStem(3, 8, 16, 8), 'stride = 8'),
])
def test_wrong_arguments(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_conv_stem_in_a_stock_backbone():
    backbone = build(dict(type='DistilledVisionTransformer', arch='deit-tiny', img_size=64, patch_size=16,
                          patch_cfg=dict(conv_type='mmsrd.ConvStem')))
    assert isinstance(backbone.patch_embed.projection, ConvStem)
    class_token, distillation_token = backbone(torch.randn(2, 3, 64, 64))[0]
    assert class_token.shape == distillation_token.shape == (2, 192)
    # 7·7·3·64 + 2·(3·3·64·64) + three normalisations + 8·8·64·192 + bias, where a patch embedding has 16·16·3·192.
    assert sum(p.numel() for p in backbone.patch_embed.parameters()) == 9408 + 73728 + 384 + 786432 + 192


@pytest.fixture
def deit():
    torch.manual_seed(0)
    model = build(dict(
        type='ImageClassifier', data_preprocessor=dict(num_classes=7),
        backbone=dict(type='DistilledVisionTransformer', arch='deit-tiny', img_size=32, patch_size=16),
        head=dict(type='mmsrd.DeiTDistillHead', num_classes=7, in_channels=192,
                  loss=dict(type='CrossEntropyLoss'))))
    nn.init.normal_(model.head.layers.head.weight)
    nn.init.normal_(model.head.layers.head_dist.weight)
    return model


def test_labels_teach_the_class_token_only(deit):
    images, labels = torch.randn(3, 3, 32, 32), torch.tensor([0, 3, 6])
    samples = [DataSample().set_gt_label(int(i)) for i in labels]
    loss = deit(inputs=images, data_samples=samples, mode='loss')['loss']
    class_token, _ = deit.backbone(images)[-1]
    head = deit.head.layers.head
    torch.testing.assert_close(loss, nn.functional.cross_entropy(head(class_token), labels))
    loss.backward()
    assert head.weight.grad.abs().sum() > 0
    assert deit.head.layers.head_dist.weight.grad.abs().sum() == 0  # zero, not None: DDP waits for it


def test_evaluation_is_the_mean_of_both_heads(deit):
    assert isinstance(deit.head, DeiTDistillHead)
    deit.eval()
    images = torch.randn(2, 3, 32, 32)
    class_token, distillation_token = deit.backbone(images)[-1]
    layers = deit.head.layers
    mean = (layers.head(class_token) + layers.head_dist(distillation_token)) / 2
    torch.testing.assert_close(deit.head(deit.backbone(images)), mean)
    predicted = deit(inputs=images, data_samples=[DataSample(), DataSample()], mode='predict')
    torch.testing.assert_close(torch.stack([p.pred_score for p in predicted]), mean.softmax(1))


def test_stock_deit_loads_the_checkpoint(deit):
    stock = build(dict(
        type='ImageClassifier', data_preprocessor=dict(num_classes=7),
        backbone=dict(type='DistilledVisionTransformer', arch='deit-tiny', img_size=32, patch_size=16),
        head=dict(type='DeiTClsHead', num_classes=7, in_channels=192, loss=dict(type='CrossEntropyLoss'))))
    stock.load_state_dict(deit.state_dict())
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(stock.eval().head(stock.backbone(images)), deit.eval().head(deit.backbone(images)))
