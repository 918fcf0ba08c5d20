"""ATSS r18w32 → ATSS r18w8."""
_base_ = ['./atss_r18w8_128.py', './composed_srd.py']
distill = dict(teacher=dict(
    config='{{ fileDirname }}/atss_r18w32_128.py',
    checkpoint='work_dirs/atss_r18w32_128/iter_1200.pth'))
