"""In how many ways a run's language model is asked, and where the stack that suits it is kept."""

import dataclasses
from collections.abc import Sequence

from etils import epath

from survey_jax.common.errors import UserError
from survey_jax.inputs.prompts import TEMPLATES
from survey_jax.survey.splits.split import fingerprint
from survey_jax.survey.table import Answer

MAX_ORDERS = 1000  # in each of them the model is asked everything anew
FIT = "2"  # another number whenever a stack is fitted otherwise: saved ones are then fitted anew


@dataclasses.dataclass(frozen=True)
class Asking:
    """In how many ways the language model is asked, to take the mean.

    Attributes:
      orders: of the options; the run's own is one of them.
      templates: beside the run's own.
    """

    orders: int = 1
    templates: tuple[str, ...] = ()

    def check(self, own: str) -> None:
        """Raises UserError for no order, and a template that is unknown, the run's (`own`), or named twice."""
        if not 1 <= self.orders <= MAX_ORDERS:
            raise UserError(f"orders: {self.orders}; must be at least 1 and at most {MAX_ORDERS:,}")
        for i, name in enumerate(self.templates):
            if name not in TEMPLATES:
                raise UserError(f"templates: {name!r} is unknown; choose from {', '.join(TEMPLATES)}")
            if name == own or name in self.templates[:i]:
                raise UserError(f"templates: {name!r} is asked already; the run's own ({own}) need not be named")

    def text(self) -> str:
        """In words; "" for the run's own way alone."""
        orders = f"{self.orders} orders of the options" if self.orders > 1 else ""
        templates = f"the run's template and {', '.join(self.templates)}" if self.templates else ""
        return " in ".join(filter(None, (orders, templates)))


AS_TRAINED = Asking()


def stack_file(workdir: epath.Path, step: int, asking: Asking = AS_TRAINED) -> epath.Path:
    """Where a run keeps the stack of a checkpoint whose model is asked in these ways."""
    orders = f"_orders_{asking.orders}" if asking.orders > 1 else ""
    return workdir / "prediction" / f"{'_'.join([f'step_{step}{orders}', *asking.templates])}.json"


def stack_key(
    base_model: str, checkpoint: str, train: Sequence[Answer], valid: Sequence[Answer], asking: Asking = AS_TRAINED
) -> dict[str, str]:
    """What the stack of a checkpoint depends on."""
    rows = {"training rows": fingerprint(train), "validation rows": fingerprint(valid) if valid else "none"}
    asked = {"base model": base_model, "checkpoint": checkpoint, "asked in": asking.text() or "the run's own way"}
    return asked | rows | {"fit": FIT}
