"""What the studies share: command line, order of trainings, and the table between two marks of a README."""
from __future__ import annotations

import os
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Sequence

import yaml
from command_line import parse
from launch import Launcher
from runs import ROOT, Job, read_lines, recorded, run
from runs import between as between

Records = Dict[Job, Dict[str, Any]]
ALONE, TEACHER = 'student alone', 'teacher'


@dataclass(frozen=True)
class Choice:
    """What the command line chose.

    Attributes:
        work_dir: Folder of the work directories.
        options: ``--cfg-options`` of every training.
        smoke: Whether trainings are cut short, to see that everything runs.
        parts: Data sets or settings.
        rows: Rows of the table; none for all.
        seeds: Seeds of the students.
    """

    work_dir: Path
    options: tuple[str, ...] = ()
    smoke: bool = False
    parts: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)

    def has(self, row: str) -> bool:
        """Whether this row is to be trained."""
        return not self.rows or row in self.rows


@dataclass(frozen=True)
class Study:
    """A table of trainings.

    Attributes:
        name: Of the results file, and of the work directories.
        readme: File with the table in it.
        parts: Data sets or settings to choose from, and whether a plain run has them.
        rows: Rows that ``--rows`` takes.
        seeds: Seeds of the README's table.
        students: Trainings of a choice, but for the teachers'.
        teacher_of: The training of a student's teacher and the checkpoint that it leaves; None for a student alone.
        table: Markdown of the records.
        shown: Row whose means the metafile beside the README has, its metric, a factor, and the metafile's names
            for task and metric.
        prepare: Makes the data where a command can.
        as_configured: Whether a training of that row is what its config says, so that the metafile counts it.
        for_gpus: Whether trainings are long: an interrupted one goes on where it was, and all scale their learning
            rate with the number of processes.
        estimate: What trainings will take, as lines for ``--dry-run``.
    """

    name: str
    readme: Path
    parts: dict[str, bool]
    rows: Sequence[str]
    seeds: tuple[int, ...]
    students: Callable[[Choice], list[Job]]
    teacher_of: Callable[[Job, Choice], tuple[Job, Path] | None]
    table: Callable[[Records], str]
    shown: tuple[str, str, float, str, str]
    prepare: Callable[[Choice], None] = field(default=lambda choice: None)
    as_configured: Callable[[Job], bool] = field(default=lambda job: True)
    for_gpus: bool = False
    estimate: Callable[[Sequence[Job], Choice], str] = field(default=lambda jobs, choice: '')

    @property
    def results(self) -> Path:
        """The file with the records of the README's table, from the root of the repository."""
        return Path('docs/results') / f'{self.name}.jsonl'

    def everything(self) -> list[Job]:
        """Every training that the README's table shows when it is recorded, of the table's seeds and of others."""
        seeds = {*self.seeds, *(record['seed'] for record in read_lines(ROOT / self.results))}
        choice = Choice(Path('work_dirs/studies') / self.name, parts=tuple(self.parts), seeds=tuple(sorted(seeds)))
        students = self.students(choice)
        return [*self._teachers(students, choice), *students]

    def report(self) -> str:
        """The README's table, from what is recorded."""
        return self.table(recorded(self.everything(), ROOT / self.results))

    def _teachers(self, students: Iterable[Job], choice: Choice) -> dict[Job, Path]:
        """Trainings of the teachers of these students, and the checkpoints that they leave."""
        return dict(found for job in students if (found := self.teacher_of(job, choice)) is not None)

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
                print(''.join(f'{job.dataset}, {job.row}, seed {job.seed}\n' for job in todo), end='')
                return
            self.prepare(choice)
            launcher = Launcher(args.processes, args.slurm, self.for_gpus)
            run(teachers, results, work_dir, args.jobs, args.gpus, needed, launcher)
            run(students, results, work_dir, args.jobs, args.gpus, launcher=launcher)
        print(self.table(recorded([*teachers, *students], results)))
        if results == self.results and not another:
            self.readme.write_text(self.with_table(self.readme.read_text(), self.report()))
            metafile = self.readme.with_name('metafile.yml')
            metafile.write_text(self.with_means(metafile.read_text()))

    def with_table(self, text: str, table: str) -> str:
        """A README's text with ``table`` in its place."""
        return between(text, f'<!-- table of tools/studies/{self.name}.py -->', table)

    def with_means(self, text: str) -> str:
        """A metafile's text with results, of what is recorded and of nothing else."""
        row, metric, scale, task, name = self.shown
        found: dict[str, list[dict[str, Any]]] = {}
        everything = self.everything()
        own = {job.config for job in everything}
        for job, record in recorded(everything, ROOT / self.results).items():
            if job.row == row and self.as_configured(job):
                found.setdefault(job.config, []).append(record)
        content = yaml.safe_load(text)
        for model in content['Models']:
            if model['Config'] not in own:  # of another study
                continue
            model.pop('Results', None)
            for key in ('Training Resources', 'Seeds', 'Date', 'Command'):
                model['Metadata'].pop(key, None)
            if records := found.get(model['Config']):
                mean = statistics.mean(scale * record['metrics'][metric] for record in records)
                model['Metadata'].update({
                    'Training Resources': records[-1]['device'], 'Seeds': len(records),
                    'Date': max(record['date'] for record in records),
                    'Command': f'python tools/studies/{self.name}.py'})
                model['Results'] = [dict(Task=task, Dataset=model['Metadata']['Training Data'].partition(',')[0],
                                         Metrics={name: round(mean, 2)})]
        dumped: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=200)
        return dumped


def of_row(records: Records, dataset: str, row: str) -> list[dict[str, Any]]:
    """Records of all seeds of a row."""
    return [record for job, record in records.items() if (job.dataset, job.row) == (dataset, row)]


def by_seed(records: Records, dataset: str, row: str, metric: str) -> dict[int, float]:
    """A metric of a row, for each seed that is recorded."""
    return {record['seed']: record['metrics'][metric]
            for record in sorted(of_row(records, dataset, row), key=lambda record: record['seed'])}


def gains(values: dict[int, float], alone: dict[int, float]) -> list[float]:
    """Differences seed by seed: runs of one seed share initial weights and data order."""
    return [value - alone[seed] for seed, value in values.items() if seed in alone]


def alignment(records: Records, dataset: str, row: str, loss: str) -> str:
    """Mean of the last alignment of a loss over the seeds of a row; nothing where it was not logged."""
    values = [record['alignment'][loss] for record in of_row(records, dataset, row) if loss in record['alignment']]
    return f'{statistics.mean(values):.2f}' if values else ''
