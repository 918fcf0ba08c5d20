"""RegNetY-16GF → DeiT-S with a convolutional stem, as published (82.1)."""
_base_ = './srd_backbone_regnety-16gf_deit-small_300e_in1k.py'
model = dict(backbone=dict(patch_cfg=dict(conv_type='mmsrd.ConvStem')))
