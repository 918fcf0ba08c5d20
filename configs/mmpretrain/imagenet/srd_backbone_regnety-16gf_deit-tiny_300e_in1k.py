"""RegNetY-16GF → DeiT-Ti with plain patch embedding: its checkpoints are those of the stock distilled DeiT."""
_base_ = './srd_deit.py'
