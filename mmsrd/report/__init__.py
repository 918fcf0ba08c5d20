"""The report on distilled trainings: their logs, figures and pictures as one HTML page."""
from .comparison import Comparison, Group, main_metric
from .notes import NOTES, ReportNotes
from .run_log import RunLog, Validation
from .write_report import PAGE, names_of, write_report

__all__ = ['NOTES', 'PAGE', 'Comparison', 'Group', 'ReportNotes', 'RunLog', 'Validation', 'main_metric', 'names_of',
           'write_report']
