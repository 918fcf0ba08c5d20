"""What the detectors of this folder share: ResNet-18 and an FPN of strides 8, 16 and 32, normalised by batch."""
model = dict(
    data_preprocessor=dict(
        type='DetDataPreprocessor', mean=[127.5] * 3, std=[60.0] * 3, bgr_to_rgb=False, pad_size_divisor=32),
    backbone=dict(
        type='ResNet', depth=18, base_channels=64, num_stages=4, out_indices=(1, 2, 3), frozen_stages=-1,
        norm_cfg=dict(type='BN', requires_grad=True), norm_eval=False, style='pytorch'),
    neck=dict(type='FPN', in_channels=[128, 256, 512], out_channels=256, num_outs=3, norm_cfg=dict(type='BN')))
