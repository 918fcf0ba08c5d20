"""Student with a last stage as wide as the teacher's, so that it can do without a projector."""
_base_ = './resnet8_digits-100.py'
model = dict(backbone=dict(widths=(4, 4, 8, 64)), head=dict(in_channels=64))
