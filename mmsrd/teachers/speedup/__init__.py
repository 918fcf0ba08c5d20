"""How a frozen model is made fast: precision, fused batch normalisation, offloading, compilation, a stream."""
from .all_speedups import AppliedSpeedups, apply_speedups
from .fuse_conv_bn import ConvBNFinder, fuse_conv_bn
from .precision import store_weights, stores_weights, teacher_dtype
from .side_stream import SideStream

__all__ = ['AppliedSpeedups', 'ConvBNFinder', 'SideStream', 'apply_speedups', 'fuse_conv_bn', 'store_weights',
           'stores_weights', 'teacher_dtype']
