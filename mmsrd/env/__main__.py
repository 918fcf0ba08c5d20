"""``python -m mmsrd.env``: versions found, what each feature will use, what is missing; ``--check``: the device."""
import argparse
import sys

from . import report


def main() -> None:
    """Print the report, and with ``--check`` what the device computes; exit status 1 where something is wrong."""
    parser = argparse.ArgumentParser('python -m mmsrd.env', description='Versions, and what each feature will use.')
    parser.add_argument('--check', action='store_true', help='try losses and a teacher on this device')
    args = parser.parse_args()
    print(report())
    if args.check:
        from .check import report_check
        table, is_right = report_check()
        print(f'\n{table}')
        sys.exit(0 if is_right else 1)


if __name__ == '__main__':
    main()
