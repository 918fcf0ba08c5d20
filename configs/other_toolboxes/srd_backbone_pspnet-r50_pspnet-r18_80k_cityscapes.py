"""PSPNet R50 → R18, with MMSegmentation."""
_base_ = 'mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py'
runner_type = 'mmsrd.DistillRunner'
distill = dict(
    teacher=dict(config='mmseg::pspnet/pspnet_r50-d8_4xb2-80k_cityscapes-512x1024.py', checkpoint='auto'))
