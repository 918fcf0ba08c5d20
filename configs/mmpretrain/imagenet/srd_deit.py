"""The published recipe for DeiT, from a convolutional teacher.

SRD's correlation form at eps 0 between the mean of the patch tokens after the last
normalisation and the teacher's pooled feature, weight 1; KL at T = 1 between the
distillation token's head and the teacher; the labels teach the class token alone.
Schedule and augmentation are the base's, for a batch of 1024, and those of the paper:
AdamW at 5e-4 × batch / 512 with decay 0.05, 20 of 300 epochs of warm-up, cosine to
5e-6 × batch / 512 (author file deit/main.py, commit 31e8477); its gradient clip is 15.
"""
_base_ = 'mmpretrain::deit/deit-tiny-distilled_4xb256_in1k.py'
model = dict(head=dict(type='mmsrd.DeiTDistillHead'))
optim_wrapper = dict(clip_grad=dict(max_norm=15.0))
runner_type = 'mmsrd.DistillRunner'
distill = dict(
    teacher=dict(config='timm::regnety_160.deit_in1k',
                 checkpoint='https://dl.fbaipublicfiles.com/deit/regnety_160-a5fe301d.pth'),
    losses=dict(
        tokens=dict(type='SRDLoss', student='backbone.ln1', teacher='model.s4', tokens='patch', pool=True,
                    form='correlation', alpha=4.0, eps=0, weight=1.0),
        logits=dict(type='KLDivLoss', student='head.layers.head_dist', teacher='model.head.fc', weight=1.0)))
