"""FCOS with ResNet-18: the student of the full setting."""
_base_ = ['./fcos.py', './scenes_256.py']
