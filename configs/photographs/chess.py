"""Chess pieces on a board: 231 training and 58 validation photographs, 12 classes (jsansao/ChessPiecesv23)."""
_base_ = './photographs_256.py'
data_root = 'data/chess_416/'
metainfo = dict(classes=(
    'black-bishop', 'black-king', 'black-knight', 'black-pawn', 'black-queen', 'black-rook', 'white-bishop',
    'white-king', 'white-knight', 'white-pawn', 'white-queen', 'white-rook'))
train_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
val_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
test_evaluator = val_evaluator
