"""The check that conftest.py puts on the arguments and results of all of the package's functions."""

import warnings

from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeClawDecorWarning, BeartypeDecorHintPep585DeprecationWarning

# Functions whose annotations beartype cannot check stay unchecked; and flax has hints that Python calls outdated.
warnings.filterwarnings("ignore", category=BeartypeClawDecorWarning)
warnings.filterwarnings("ignore", category=BeartypeDecorHintPep585DeprecationWarning)

# An int is accepted for a float, as in mypy.
typechecked = beartype(
    conf=BeartypeConf(is_pep484_tower=True, warning_cls_on_decorator_exception=BeartypeClawDecorWarning)
)
