"""YOLOX's head, with one convolution in each tower, on the pyramid of the other detectors."""
_base_ = './pyramid.py'
model = dict(
    type='YOLOX',
    bbox_head=dict(
        type='YOLOXHead', num_classes=10, in_channels=256, feat_channels=256, stacked_convs=1, strides=(8, 16, 32),
        norm_cfg=dict(type='BN'), act_cfg=dict(type='Swish'),
        loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True, reduction='sum', loss_weight=1.0),
        loss_bbox=dict(type='IoULoss', mode='square', eps=1e-16, reduction='sum', loss_weight=5.0),
        loss_obj=dict(type='CrossEntropyLoss', use_sigmoid=True, reduction='sum', loss_weight=1.0)),
    train_cfg=dict(assigner=dict(type='SimOTAAssigner', center_radius=2.5)),
    test_cfg=dict(score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5), max_per_img=50))
