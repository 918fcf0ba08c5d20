"""FCOS with one convolution in each tower; groups are normalised there, as levels of different statistics share it."""
_base_ = './pyramid.py'
model = dict(
    type='FCOS',
    bbox_head=dict(
        type='FCOSHead', num_classes=10, in_channels=256, feat_channels=256, stacked_convs=1, strides=(8, 16, 32),
        regress_ranges=((-1, 32), (32, 64), (64, 1e8)), norm_cfg=dict(type='GN', num_groups=8), center_sampling=True,
        center_sample_radius=1.5, norm_on_bbox=True, centerness_on_reg=True,
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type='GIoULoss', loss_weight=1.0),
        loss_centerness=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0)),
    test_cfg=dict(nms_pre=200, min_bbox_size=0, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5),
                  max_per_img=50))
