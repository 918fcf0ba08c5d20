"""How a frozen model is made fast: precision, fused batch normalisation, offloading, compilation, a stream."""
from .fuse_conv_bn import ConvBNFinder, fuse_conv_bn
from .optimization import Optimized, optimize
from .precision import autocast_dtype, teacher_dtype
from .side_stream import SideStream

__all__ = ['ConvBNFinder', 'Optimized', 'SideStream', 'autocast_dtype', 'fuse_conv_bn', 'optimize', 'teacher_dtype']
