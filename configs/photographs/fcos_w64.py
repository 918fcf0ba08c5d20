"""FCOS of width 64 with two convolutions in each tower, on an FPN of strides 8, 16 and 32."""
_base_ = '../composed/fcos.py'
model = dict(
    data_preprocessor=dict(std=[127.5] * 3, bgr_to_rgb=True),
    neck=dict(out_channels=64),
    bbox_head=dict(
        in_channels=64, feat_channels=64, stacked_convs=2, regress_ranges=((-1, 64), (64, 128), (128, 1e8))),
    test_cfg=dict(nms_pre=300, score_thr=0.01, nms=dict(iou_threshold=0.6), max_per_img=100))
