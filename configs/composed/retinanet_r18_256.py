"""RetinaNet with ResNet-18: the student of the full setting."""
_base_ = ['./retinanet.py', './scenes_256.py']
