"""RegNetY-16GF → DeiT-Ti with a convolutional stem, as published (77.2)."""
_base_ = './srd_backbone_regnety-16gf_deit-tiny_300e_in1k.py'
model = dict(backbone=dict(patch_cfg=dict(conv_type='mmsrd.ConvStem')))
