"""FCOS of width 64 with two convolutions in each tower, on an FPN of strides 8, 16 and 32."""
model = dict(
    type='FCOS',
    data_preprocessor=dict(
        type='DetDataPreprocessor', mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=True, pad_size_divisor=32),
    neck=dict(type='FPN', out_channels=64, num_outs=3, norm_cfg=dict(type='BN')),
    bbox_head=dict(
        type='FCOSHead', in_channels=64, feat_channels=64, stacked_convs=2, strides=(8, 16, 32),
        regress_ranges=((-1, 64), (64, 128), (128, 1e8)), norm_cfg=dict(type='GN', num_groups=8), center_sampling=True,
        center_sample_radius=1.5, norm_on_bbox=True, centerness_on_reg=True,
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type='GIoULoss', loss_weight=1.0),
        loss_centerness=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0)),
    test_cfg=dict(nms_pre=300, min_bbox_size=0, score_thr=0.01, nms=dict(type='nms', iou_threshold=0.6),
                  max_per_img=100))
