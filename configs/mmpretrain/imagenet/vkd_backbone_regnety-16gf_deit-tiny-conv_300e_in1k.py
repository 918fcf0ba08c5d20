"""RegNetY-16GF → DeiT-Ti by VkD (published 78.3): smooth L1 behind an orthogonal projector, and KL at T = 1.

Losses of ``engine.py`` at commit 6f8a507 of github.com/roymiles/VkD: patch tokens and teacher are pooled, weights
are 1. The rest is as for SRD, but without gradient clipping; the authors train with batch 512 and 5 epochs of warm-up.
"""
_base_ = './srd_backbone_regnety-16gf_deit-tiny-conv_300e_in1k.py'
optim_wrapper = dict(clip_grad=None)
distill = dict(losses=dict(tokens=dict(
    _delete_=True, type='VkDLoss', student='backbone.ln1', teacher='model.s4', tokens='patch', pool=True,
    projector=dict(type='OrthogonalProjector'))))
