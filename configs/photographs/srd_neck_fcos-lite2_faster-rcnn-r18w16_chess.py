"""FCOS Lite2 → Faster R-CNN r18w16 on chess: detectors of two kinds."""
_base_ = './faster-rcnn_r18w16_chess.py'
runner_type = 'mmsrd.DistillRunner'
distill = dict(teacher=dict(
    config='{{ fileDirname }}/fcos_lite2_chess.py', checkpoint='work_dirs/fcos_lite2_chess/iter_1000.pth'))
