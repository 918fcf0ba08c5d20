"""YOLOX r18w32 → YOLOX r18w8."""
_base_ = ['./yolox_r18w8_128.py', './composed_srd.py']
distill = dict(teacher=dict(
    config='{{ fileDirname }}/yolox_r18w32_128.py',
    checkpoint='work_dirs/yolox_r18w32_128/iter_1200.pth'))
