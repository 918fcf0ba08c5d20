"""Faster R-CNN with a ResNet-18 of width 16, trained from scratch, on chess."""
_base_ = ['../composed/faster_rcnn.py', './chess.py', './schedule_1500.py']
model = dict(
    data_preprocessor=dict(std=[127.5] * 3, bgr_to_rgb=True),
    backbone=dict(base_channels=16),
    neck=dict(in_channels=[32, 64, 128], out_channels=64),
    rpn_head=dict(in_channels=64, feat_channels=64),
    roi_head=dict(bbox_roi_extractor=dict(out_channels=64),
                  bbox_head=dict(num_classes=12, in_channels=64, fc_out_channels=128)),
    train_cfg=dict(rcnn=dict(sampler=dict(num=64))),
    test_cfg=dict(rpn=dict(max_per_img=100)))
