"""A study: its command line, the order of its trainings, and its table between two marks of a README."""
from __future__ import annotations

import os
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterable, NamedTuple, Sequence

import pandas as pd
import yaml
from command_line import parse
from launch import Launcher
from runs import ROOT, Job, between, read_lines, recorded, run
from tables import ALONE as ALONE
from tables import TEACHER as TEACHER
from tables import frame

# Options of a config with a teacher: the student alone; a smoke run, which downloads no weights; all trainings on GPUs.
UNDISTILLED = 'distill=None', 'runner_type=Runner'
UNTAUGHT = 'distill.teacher.checkpoint=None', 'distill.teacher.allow_random=True'
ON_GPUS = 'auto_scale_lr.enable=True', 'default_hooks.checkpoint.max_keep_ckpts=1'


@dataclass(frozen=True)
class Choice:
    """Choices of the command line."""

    work_dir: Path  # folder of the work directories
    options: tuple[str, ...] = ()  # ``--cfg-options`` of every training
    smoke: bool = False  # whether trainings are cut short, to see that everything runs
    parts: tuple[str, ...] = ()  # data sets or settings
    rows: tuple[str, ...] = ()  # rows of the table; none for all
    seeds: tuple[int, ...] = (0,)  # seeds of the students

    def has(self, row: str) -> bool:
        """Return whether this row is to be trained."""
        return not self.rows or row in self.rows


class Shown(NamedTuple):
    """Entry of the metafile beside a study's README: a row's mean of a metric, and its names for task and metric."""

    row: str
    metric: str
    scale: float
    task: str
    name: str


@dataclass(frozen=True)
class Study:
    """A table of trainings."""

    name: str  # of the results file, and of the work directories
    readme: Path  # file with the table in it
    parts: dict[str, bool]  # data sets or settings to choose from, and whether a plain run has them
    rows: Sequence[str]  # rows that ``--rows`` takes
    seeds: tuple[int, ...]  # seeds of the README's table
    students: Callable[[Choice], list[Job]]  # trainings of a choice, but for the teachers'
    # the training that another one needs, of a student's teacher for instance, and the checkpoint that it leaves
    teacher_of: Callable[[Job, Choice], tuple[Job, Path] | None]
    table: Callable[[pd.DataFrame], str]  # Markdown of the results
    shown: Shown  # what the metafile shows
    prepare: Callable[[Choice], None] = lambda choice: None  # makes the data where a command can
    # whether a training of that row is what its config says, so that the metafile counts it
    as_configured: Callable[[Job], bool] = lambda job: True
    # whether trainings are long: an interrupted one goes on where it was, and all scale their learning rate with the
    # number of processes
    for_gpus: bool = False
    # what trainings will take, as lines for ``--dry-run``
    estimate: Callable[[Sequence[Job], Choice], str] = lambda jobs, choice: ''

    @property
    def results(self) -> Path:
        """The file with the records of the README's table, from the root of the repository."""
        return Path('docs/results') / f'{self.name}.jsonl'

    def everything(self) -> list[Job]:
        """Every training that the README's table shows when it is recorded, of the table's seeds and of others."""
        seeds = {*self.seeds, *(record['seed'] for record in read_lines(ROOT / self.results))}
        choice = Choice(Path('work_dirs/studies') / self.name, parts=tuple(self.parts), seeds=tuple(sorted(seeds)))
        students = self.students(choice)
        return list(dict.fromkeys([*self._teachers(students, choice), *students]))

    def recorded(self) -> dict[Job, dict[str, Any]]:
        """The newest record of each training that the README's table shows."""
        return recorded(self.everything(), ROOT / self.results)

    def report(self) -> str:
        """The README's table, from what is recorded."""
        return self.table(frame(self.recorded()))

    def _before(self, job: Job, choice: Choice) -> tuple[Job, Path] | None:
        """The training that one needs; a teacher's needs none."""
        return None if job.row == TEACHER else self.teacher_of(job, choice)

    def _teachers(self, students: Iterable[Job], choice: Choice) -> dict[Job, Path]:
        """Trainings that these need, and the checkpoints that they leave; each after those that it needs itself."""
        needed: dict[Job, Path] = {}
        for job in students:
            found = self._before(job, choice)
            if found is not None:
                needed.update({**self._teachers([found[0]], choice), found[0]: found[1]})
        return needed

    def _depth(self, job: Job, choice: Choice) -> int:
        """Return how many trainings have to come before one, one after the other."""
        found = self._before(job, choice)
        return 0 if found is None else 1 + self._depth(found[0], choice)

    def main(self, doc: str | None, argv: Sequence[str] | None = None) -> None:
        """Train what is chosen and not recorded yet, print the table, renew it in the README."""
        args = parse(doc, argv, self.parts, self.rows, self.seeds, str(self.results), self.for_gpus)
        os.chdir(ROOT)
        work_dir = args.work_dir or Path('work_dirs/studies', 'smoke' if args.smoke else '', self.name)
        another = bool(args.work_dir or args.cfg_options or args.smoke)
        results = args.results or (work_dir / 'results.jsonl' if another else self.results)
        choice = Choice(work_dir, tuple(args.cfg_options), args.smoke,
                        tuple(args.parts), tuple(args.rows), tuple(args.seeds))
        students = self.students(choice)
        teachers = list(self._teachers(students, choice))
        if not args.report_only:
            done = recorded([*teachers, *students], results)
            wanted = self._teachers((job for job in students if job not in done), choice)

            def needed(job: Job) -> bool:  # asked anew once another command may have trained it
                return job in wanted and not wanted[job].is_file()

            if args.dry_run:
                todo = [job for job in [*teachers, *students] if job not in done or needed(job)]
                print(self.estimate(todo, choice), end='')
                print(''.join(f'{job}\n' for job in todo), end='')
                return
            self.prepare(choice)
            launcher = Launcher(args.processes, args.slurm, self.for_gpus)
            depths = {job: self._depth(job, choice) for job in teachers}
            for jobs in (*([job for job in teachers if depths[job] == depth] for depth in sorted({*depths.values()})),
                         students):
                run(jobs, results, work_dir, args.jobs, args.gpus, needed, launcher)
        print(self.table(frame(recorded([*teachers, *students], results))))
        if results == self.results and not another:
            self.readme.write_text(self.with_table(self.readme.read_text(), self.report()))
            metafile = self.readme.with_name('metafile.yml')
            metafile.write_text(self.with_means(metafile.read_text()))

    def with_table(self, text: str, table: str) -> str:
        """A README's text with ``table`` in its place."""
        return between(text, f'<!-- table of tools/studies/{self.name}.py -->', table)

    def with_means(self, text: str) -> str:
        """A metafile's text with results, of what is recorded and of nothing else."""
        shown, found = self.shown, self.recorded()
        own = {job.config for job in self.everything()}
        content = yaml.safe_load(text)
        for model in content['Models']:
            if model['Config'] not in own:  # of another study
                continue
            model.pop('Results', None)
            for key in ('Training Resources', 'Seeds', 'Date', 'Command'):
                model['Metadata'].pop(key, None)
            if records := [record for job, record in found.items() if (job.config, job.row) == (
                    model['Config'], shown.row) and self.as_configured(job)]:
                mean = statistics.mean(shown.scale * record['metrics'][shown.metric] for record in records)
                model['Metadata'].update({
                    'Training Resources': records[-1]['device'], 'Seeds': len(records),
                    'Date': max(record['date'] for record in records),
                    'Command': f'python tools/studies/{self.name}.py'})
                model['Results'] = [dict(Task=shown.task, Dataset=model['Metadata']['Training Data'].partition(',')[0],
                                         Metrics={shown.name: round(mean, 2)})]
        dumped: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=200)
        return dumped
