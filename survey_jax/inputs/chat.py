"""A tokenizer's chat template: it puts a prompt into a user's turn, on every day in the same words."""

import contextlib
import dataclasses
import datetime
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from survey_jax.common.errors import UserError

if TYPE_CHECKING:
    import transformers

    from survey_jax.inputs.token_cache import LazyTokenizer

SECONDS = 60.0  # that a template may take, on a busy machine too; it takes about a thousandth of one
_LONGEST = 100_000  # characters that a template may add to a turn
_REMEDY = "set config.data.chat to False, or config.data.chat_arguments to what the template needs"


@dataclasses.dataclass(frozen=True)
class Chat:
    """How a chat template is filled in. The settings are `data.chat_date` and `data.chat_arguments`.

    Attributes:
      date: the day, as YYYY-MM-DD, that templates are told which ask for today's date; "": they are refused.
      arguments: further variables of the template, such as {"enable_thinking": False}.
    """

    date: str = ""
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def check(self, tokenizer: "transformers.PreTrainedTokenizerBase | LazyTokenizer") -> None:
        """Raises UserError for a tokenizer whose template cannot ask questions.

        It is missing or fails, leaves out what it is given, takes too long, or says another thing each time.
        """
        if not tokenizer.chat_template:
            raise UserError("data.chat: this tokenizer has no chat template; set it to False or use an instruct model")
        found: list[str | Exception] = []

        def ask_twice() -> None:
            try:
                found.extend(self.user_turn(tokenizer, "Is tea good?") for _ in range(2))
            except Exception as error:  # raised below, by the thread that waits for this one
                found.append(error)

        thread = threading.Thread(target=ask_twice, daemon=True)  # a template without an end must not keep the process
        thread.start()
        thread.join(SECONDS)
        if not found or thread.is_alive():
            raise _refused(tokenizer, f"takes more than {SECONDS:g} seconds for a short question")
        if isinstance(found[-1], Exception):
            raise found[-1]
        if found[0] != found[1]:
            raise _refused(tokenizer, "says another thing each time it is asked")

    def user_turn(self, tokenizer: "transformers.PreTrainedTokenizerBase | LazyTokenizer", body: str) -> str:
        """`body` as a user's turn, up to where the model's reply begins.

        Raises UserError where the template fails, or leaves `body` out.
        """
        turn = [{"role": "user", "content": body}]
        try:
            with self._as_today():
                made = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True, **self.arguments)
                text = str(made)
        except Exception as error:  # a template is a program, and may end in any
            reason = " ".join(f"{error}".split()) or type(error).__name__
            raise _refused(tokenizer, f"fails: {reason[:200]}") from error
        if body.strip() not in text:
            raise _refused(tokenizer, f"leaves out or changes what is asked, {body.strip()[:40]!r}")
        if len(text) > len(body) + _LONGEST:
            raise _refused(tokenizer, f"adds {len(text) - len(body):,} characters to a question")
        return text

    @contextlib.contextmanager
    def _as_today(self) -> Iterator[None]:
        """Makes `date` what templates get from transformers' `strftime_now`, which takes no other day."""
        from transformers.utils import chat_template_utils

        date = self.date

        class Clock(datetime.datetime):
            @classmethod
            def now(cls, tz: datetime.tzinfo | None = None) -> "Clock":
                if not date:
                    raise ValueError("it tells today's date; set config.data.chat_date to a day, as YYYY-MM-DD")
                return cls.fromisoformat(date)

        kept = chat_template_utils.datetime
        chat_template_utils.datetime = Clock  # type: ignore[misc]
        try:
            yield
        finally:
            chat_template_utils.datetime = kept  # type: ignore[misc]


def _refused(tokenizer: "transformers.PreTrainedTokenizerBase | LazyTokenizer", what: str) -> UserError:
    return UserError(f"data.chat: the chat template of {tokenizer.name_or_path} {what}; {_REMEDY}")
