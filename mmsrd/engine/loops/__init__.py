"""Train loops of MMEngine that resume exactly."""
from .resumable_loops import ResumableEpochLoop, ResumableIterLoop, ResumableLoop, resumable
from .resume_state import ResumeState

__all__ = ['ResumableEpochLoop', 'ResumableIterLoop', 'ResumableLoop', 'ResumeState', 'resumable']
