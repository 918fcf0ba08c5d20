"""FCOS r18w32 → FCOS r18w8."""
_base_ = ['./fcos_r18w8_128.py', './composed_srd.py']
distill = dict(teacher=dict(
    config='{{ fileDirname }}/fcos_r18w32_128.py',
    checkpoint='work_dirs/fcos_r18w32_128/iter_1200.pth'))
