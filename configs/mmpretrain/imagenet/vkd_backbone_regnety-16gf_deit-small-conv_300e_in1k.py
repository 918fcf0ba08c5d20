"""RegNetY-16GF → DeiT-S by VkD (published 82.3)."""
_base_ = './vkd_backbone_regnety-16gf_deit-tiny-conv_300e_in1k.py'
model = dict(backbone=dict(arch='deit-small'), head=dict(in_channels=384))
