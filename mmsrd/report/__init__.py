"""The report on distilled trainings: their logs, figures and pictures as one HTML page."""
from .comparison import Comparison, Group, main_metric, scale_of
from .page import PAGE, distinct_names, write_report
from .run_log import NOTES, SPECTRA, ReportNotes, RunLog, Validation

__all__ = ['NOTES', 'PAGE', 'SPECTRA', 'Comparison', 'Group', 'ReportNotes', 'RunLog', 'Validation', 'distinct_names',
           'main_metric', 'scale_of', 'write_report']
