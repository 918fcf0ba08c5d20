"""The student alone: backbone of width 8, 32 channels in neck and head."""
_base_ = './fcos_digits_base.py'
