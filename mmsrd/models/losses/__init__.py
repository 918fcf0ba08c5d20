"""Distillation losses, one a file; :mod:`~mmsrd.models.losses.functional` has their formulas."""
from .base_loss import BaseDistillLoss
from .binary_kl_div_loss import BinaryKLDivLoss
from .cwd_loss import CWDLoss
from .dist_loss import DISTLoss
from .feature_mse_loss import FeatureMSELoss
from .kl_div_loss import KLDivLoss
from .ld_loss import LDLoss
from .pkd_loss import PKDLoss
from .srd_loss import SRDLoss
from .vkd_loss import VkDLoss

__all__ = ['BaseDistillLoss', 'BinaryKLDivLoss', 'CWDLoss', 'DISTLoss', 'FeatureMSELoss', 'KLDivLoss', 'LDLoss',
           'PKDLoss', 'SRDLoss', 'VkDLoss']
