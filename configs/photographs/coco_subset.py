"""A subset of COCO: 2,636 training and 575 validation photographs, 80 classes, longer side 320."""
_base_ = './photographs_256.py'
data_root = 'data/coco_subset_320/'
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
test_evaluator = val_evaluator
