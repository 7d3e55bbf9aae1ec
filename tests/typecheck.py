"""The type checker of the tests: beartype, which here takes an int for a float, as Python's type hints do (PEP 484)."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
