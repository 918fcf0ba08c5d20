"""RegNetY-16GF → DeiT-S with plain patch embedding: its checkpoints are those of the stock distilled DeiT."""
_base_ = './srd_deit.py'
model = dict(backbone=dict(arch='deit-small'), head=dict(in_channels=384))
