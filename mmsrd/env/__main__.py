"""``python -m mmsrd.env``: versions found, what each feature will use, what is missing."""
from . import report

if __name__ == '__main__':
    print(report())
