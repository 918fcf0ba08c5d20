"""Faster R-CNN r18w32 → Faster R-CNN r18w8."""
_base_ = ['./faster-rcnn_r18w8_128.py', './composed_srd.py']
distill = dict(teacher=dict(
    config='{{ fileDirname }}/faster-rcnn_r18w32_128.py',
    checkpoint='work_dirs/faster-rcnn_r18w32_128/iter_1200.pth'))
