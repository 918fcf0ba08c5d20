"""RTMDet-Ins r18w32 → RTMDet-Ins r18w8."""
_base_ = ['./rtmdet-ins_r18w8_128.py', './composed_srd.py']
distill = dict(teacher=dict(
    config='{{ fileDirname }}/rtmdet-ins_r18w32_128.py',
    checkpoint='work_dirs/rtmdet-ins_r18w32_128/iter_1200.pth'))
