"""Record what modules of a model return, by their paths; and the dry run that finds shapes."""
from .dry_run import SIDES, DryRun, Recording, dry_run
from .model_parts import (
    EXTRACT_FEAT,
    FORWARDS,
    channel_candidates,
    dummy_samples,
    evaluating,
    find_modules,
    fixed_sides,
    run_forward,
    trained_part,
    unique_paths,
)
from .output_recorder import AllRecordedSignal, OutputRecorder, RecorderManager, as_levels

__all__ = ['EXTRACT_FEAT', 'FORWARDS', 'SIDES', 'AllRecordedSignal', 'DryRun', 'OutputRecorder', 'RecorderManager',
           'Recording', 'as_levels', 'channel_candidates', 'dry_run', 'dummy_samples', 'evaluating', 'find_modules',
           'fixed_sides', 'run_forward', 'trained_part', 'unique_paths']
