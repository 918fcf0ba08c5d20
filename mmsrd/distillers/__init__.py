"""The student's side: attach and detach, the distiller, feature losses, level matching, presets."""
from .attach_detach import CHILD, attach, attach_distiller, detach
from .build_distiller import DistillSetup
from .feature_loss import FeatureLoss
from .level_matching import LevelPair, match_levels, match_shapes
from .projector_distiller import ProjectorDistiller
from .resume_check import differences, fingerprint_of
from .summary import summary, text_table

__all__ = ['CHILD', 'DistillSetup', 'FeatureLoss', 'LevelPair', 'ProjectorDistiller', 'attach', 'attach_distiller',
           'detach', 'differences', 'fingerprint_of', 'match_levels', 'match_shapes', 'summary', 'text_table']
