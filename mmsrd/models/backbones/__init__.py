"""Small backbones of the CIFAR-100 benchmark, MobileNetV1, and the convolutional stem of the DeiT experiments."""
from .cifar_resnet import CifarResNet
from .cifar_shufflenet import CifarShuffleNetV1, CifarShuffleNetV2
from .cifar_vgg import CifarVGG
from .cifar_wide_resnet import CifarWideResNet
from .conv_stem import ConvStem
from .mobilenet import CifarMobileNetV2, MobileNetV1

__all__ = ['CifarMobileNetV2', 'CifarResNet', 'CifarShuffleNetV1', 'CifarShuffleNetV2', 'CifarVGG',
           'CifarWideResNet', 'ConvStem', 'MobileNetV1']
