"""Emoji on photographs, 128×128 (`tools/compose_emoji.py`), in the reduced setting."""
_base_ = './scenes_128.py'
data_root = 'data/composed_emoji/'
metainfo = dict(classes=(
    'u1f436', 'u1f431', 'u1f42d', 'u1f439', 'u1f430', 'u1f98a', 'u1f43b', 'u1f43c', 'u1f34e',
    'u1f34a', 'u1f34b', 'u1f349', 'u1f347', 'u1f353', 'u1f352', 'u1f351', 'u1f697', 'u1f695',
    'u1f699', 'u1f68c', 'u1f68e', 'u1f693', 'u1f691', 'u1f692'))
dataset = dict(data_root=data_root, metainfo=metainfo)
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = dict(dataset=dataset)
val_evaluator = dict(ann_file=data_root + 'annotations/val.json')
test_evaluator = val_evaluator
