"""RetinaNet r18w32 → RetinaNet r18w8."""
_base_ = ['./retinanet_r18w8_128.py', './composed_srd.py']
distill = dict(teacher=dict(
    config='{{ fileDirname }}/retinanet_r18w32_128.py',
    checkpoint='work_dirs/retinanet_r18w32_128/iter_1200.pth'))
