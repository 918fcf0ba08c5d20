"""GFL r18w32 → GFL r18w8."""
_base_ = ['./gfl_r18w8_128.py', './composed_srd.py']
distill = dict(teacher=dict(
    config='{{ fileDirname }}/gfl_r18w32_128.py',
    checkpoint='work_dirs/gfl_r18w32_128/iter_1200.pth'))
