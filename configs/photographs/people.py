"""People in a subset of COCO: 2,636 training and 575 validation photographs, of which 90 % show one."""
_base_ = './coco_subset.py'
metainfo = dict(classes=('person',))
train_dataloader = dict(dataset=dict(metainfo=metainfo))
val_dataloader = dict(dataset=dict(metainfo=metainfo))
test_dataloader = val_dataloader
