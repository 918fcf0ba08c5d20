"""FCOS r18w32 → FCOS r18w8 on emoji."""
_base_ = ['./fcos_r18w8_emoji.py', './composed_srd.py']
distill = dict(teacher=dict(
    config='{{ fileDirname }}/fcos_r18w32_emoji.py',
    checkpoint='work_dirs/fcos_r18w32_emoji/iter_1200.pth'))
