"""Mask R-CNN with heads of small layers and 32 regions of an image in training."""
_base_ = './faster_rcnn.py'
model = dict(
    type='MaskRCNN', data_preprocessor=dict(pad_mask=True),
    roi_head=dict(
        mask_roi_extractor=dict(
            type='SingleRoIExtractor', roi_layer=dict(type='RoIAlign', output_size=14, sampling_ratio=2),
            out_channels=256, featmap_strides=[8, 16, 32], finest_scale=24),
        mask_head=dict(
            type='FCNMaskHead', num_convs=1, in_channels=256, conv_out_channels=256, num_classes=10,
            loss_mask=dict(type='CrossEntropyLoss', use_mask=True, loss_weight=1.0))),
    train_cfg=dict(rcnn=dict(mask_size=28)),
    test_cfg=dict(rcnn=dict(mask_thr_binary=0.5)))
