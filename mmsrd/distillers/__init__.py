"""The student's side: attach and detach, the plan, the distiller, feature losses, level matching, presets."""
from .attach_detach import CHILD, attach, attach_distiller, detach, set_aside
from .distiller import ProjectorDistiller
from .feature_loss import FeatureLoss
from .fingerprint import differences, fingerprint_of
from .level_matching import LevelPair, match_levels, match_shapes
from .plan import HEADER, DistillPlan, read_block, text_table
from .presets import Preset, preset_for
from .shared_classes import take_classes

__all__ = ['CHILD', 'HEADER', 'DistillPlan', 'FeatureLoss', 'LevelPair', 'Preset', 'ProjectorDistiller', 'attach',
           'attach_distiller', 'detach', 'differences', 'fingerprint_of', 'match_levels', 'match_shapes', 'preset_for',
           'read_block', 'set_aside', 'take_classes', 'text_table']
