"""RetinaNet r50 → RetinaNet r18."""
_base_ = ['./retinanet_r18_256.py', './composed_srd.py']
distill = dict(teacher=dict(
    config='{{ fileDirname }}/retinanet_r50_256.py',
    checkpoint='work_dirs/retinanet_r50_256/iter_4800.pth'))
