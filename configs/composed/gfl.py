"""GFL with one convolution in each tower: boxes are distributions over 17 distances for each edge."""
_base_ = './pyramid.py'
model = dict(
    type='GFL',
    bbox_head=dict(
        type='GFLHead', num_classes=10, in_channels=256, feat_channels=256, stacked_convs=1,
        norm_cfg=dict(type='GN', num_groups=8), reg_max=16,
        anchor_generator=dict(type='AnchorGenerator', octave_base_scale=4, scales_per_octave=1, ratios=[1.0],
                              strides=[8, 16, 32]),
        loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True, beta=2.0, loss_weight=1.0),
        loss_dfl=dict(type='DistributionFocalLoss', loss_weight=0.25),
        loss_bbox=dict(type='GIoULoss', loss_weight=2.0)),
    train_cfg=dict(assigner=dict(type='ATSSAssigner', topk=9), allowed_border=-1, pos_weight=-1, debug=False),
    test_cfg=dict(nms_pre=200, min_bbox_size=0, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5),
                  max_per_img=50))
