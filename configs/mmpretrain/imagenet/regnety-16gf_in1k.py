"""The teacher of the DeiT experiments, a model of timm behind MMPretrain's wrapper for such.

MMPretrain's own RegNet has no Y models (squeeze and excitation), and torchvision's has other weights; DeiT's file
is made for timm. Needs ``pip install timm``. Only the model is here: to evaluate or teach, not to train.
"""
default_scope = 'mmpretrain'
data_preprocessor = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True, num_classes=1000)
model = dict(type='TimmClassifier', model_name='regnety_160')
