"""RetinaNet with one convolution in each tower, three anchors at each position."""
_base_ = './pyramid.py'
model = dict(
    type='RetinaNet',
    bbox_head=dict(
        type='RetinaHead', num_classes=10, in_channels=256, feat_channels=256, stacked_convs=1,
        norm_cfg=dict(type='GN', num_groups=8),
        anchor_generator=dict(type='AnchorGenerator', octave_base_scale=3, scales_per_octave=1, ratios=[0.7, 1.0, 1.5],
                              strides=[8, 16, 32]),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type='L1Loss', loss_weight=1.0)),
    train_cfg=dict(
        assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0, ignore_iof_thr=-1),
        sampler=dict(type='PseudoSampler'), allowed_border=-1, pos_weight=-1, debug=False),
    test_cfg=dict(nms_pre=200, min_bbox_size=0, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5),
                  max_per_img=50))
