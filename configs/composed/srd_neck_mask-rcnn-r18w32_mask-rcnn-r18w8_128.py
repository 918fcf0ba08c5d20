"""Mask R-CNN r18w32 → Mask R-CNN r18w8."""
_base_ = ['./mask-rcnn_r18w8_128.py', './composed_srd.py']
distill = dict(teacher=dict(
    config='{{ fileDirname }}/mask-rcnn_r18w32_128.py',
    checkpoint='work_dirs/mask-rcnn_r18w32_128/iter_1200.pth'))
