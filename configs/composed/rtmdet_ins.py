"""RTMDet-Ins with one convolution in each tower: masks by kernels of each object."""
_base_ = './pyramid.py'
model = dict(
    type='RTMDet', data_preprocessor=dict(pad_mask=True),
    bbox_head=dict(
        type='RTMDetInsSepBNHead', num_classes=10, in_channels=256, feat_channels=256, stacked_convs=1,
        share_conv=True, pred_kernel_size=1, norm_cfg=dict(type='BN'), act_cfg=dict(type='SiLU', inplace=True),
        anchor_generator=dict(type='MlvlPointGenerator', offset=0, strides=[8, 16, 32]),
        bbox_coder=dict(type='DistancePointBBoxCoder'),
        loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True, beta=2.0, loss_weight=1.0),
        loss_bbox=dict(type='GIoULoss', loss_weight=2.0),
        loss_mask=dict(type='DiceLoss', loss_weight=2.0, eps=5e-6, reduction='mean')),
    train_cfg=dict(
        assigner=dict(type='DynamicSoftLabelAssigner', topk=13), allowed_border=-1, pos_weight=-1, debug=False),
    test_cfg=dict(nms_pre=200, min_bbox_size=0, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.6),
                  max_per_img=50, mask_thr_binary=0.5))
