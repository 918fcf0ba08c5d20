"""Faster R-CNN r50 → FCOS r18."""
_base_ = ['./fcos_r18_256.py', './composed_srd.py']
distill = dict(teacher=dict(
    config='{{ fileDirname }}/faster-rcnn_r50_256.py',
    checkpoint='work_dirs/faster-rcnn_r50_256/iter_4800.pth'))
