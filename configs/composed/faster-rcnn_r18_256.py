"""Faster R-CNN with ResNet-18: the student of the full setting."""
_base_ = ['./faster_rcnn.py', './scenes_256.py']
