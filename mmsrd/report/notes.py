"""``ReportNotes``: what a report shows that is not in a log."""
from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..utils.files import write_whole

NOTES = 'distill_report/report.json'
"""Where they are, seen from the work directory."""


@dataclass
class ReportNotes:
    """What the hook writes down for the page, and for one that is made of several runs afterwards.

    Attributes:
        title: Name of the training's config.
        header: Columns of the plan: what is compared with what.
        plan: Its rows.
        teachers: ``name``, ``config``, ``checkpoint``, and where they have been evaluated ``images`` and ``metrics``.
        columns: Whose predictions the pictures show.
        pictures: ``title``, and for each column a ``file`` beside the notes or a ``text``.
        baseline: Work directory of the student alone; empty for none.
    """

    title: str = ''
    header: list[str] = field(default_factory=list)
    plan: list[list[str]] = field(default_factory=list)
    teachers: list[dict[str, Any]] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    pictures: list[dict[str, Any]] = field(default_factory=list)
    baseline: str = ''

    @classmethod
    def read(cls, work_dir: Path) -> ReportNotes:
        """The notes of a work directory; empty ones where there are none."""
        path = work_dir / NOTES
        return cls(**json.loads(path.read_text(encoding='utf-8'))) if path.is_file() else cls()

    def write(self, work_dir: Path) -> None:
        """Write them into a work directory."""
        write_whole(work_dir / NOTES, json.dumps(asdict(self), indent=1) + '\n')

    def best_teacher(self, metric: str) -> dict[str, Any] | None:
        """The teacher that was best by a metric; None where none was evaluated."""
        known = [teacher for teacher in self.teachers if metric in teacher.get('metrics', {})]
        return max(known, key=lambda teacher: teacher['metrics'][metric], default=None)
