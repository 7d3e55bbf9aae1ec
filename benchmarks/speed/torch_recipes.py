"""PyTorch, transformers and PEFT: as the paper does it (a), and tuned by someone who cares (b).

A worker of benchmarks.speed; `python -m benchmarks.speed.torch_recipes SPECIFICATION` is not for people.

a   every prompt padded to 256 tokens, 8 a step; attention over the padding; the whole vocabulary's logits at every
    position; softmax over the options' at the answer position, KL, AdamW.
b   as many examples a step as this project's recipes. Batches of prompts of one length (sorted, dynamic padding on the
    right: causal attention never sees it, so no mask is needed and the fused kernel serves); only the letters' rows of
    the head, at the answer position; fused AdamW; in evaluation inference mode.
b8  b with the 8 examples a step of a.

With dtype "bfloat16" matrix products run under autocast; frozen weights are stored in bfloat16 by b, which saves
casting them at every step. Trained weights are float32.
"""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import peft
import torch
import transformers

from benchmarks.speed import speed_data
from benchmarks.speed.speed_data import Job, Round
from benchmarks.speed.speed_worker import CORES, fingerprint, mean_kl, serve
from survey_jax.inputs.prompts import Prompt, Prompter


@dataclasses.dataclass(frozen=True)
class How:
    """A recipe.

    Attributes:
      examples: a step.
      eval_batch: prompts at once in evaluation; eval_rows: so many of the job's, spread over their lengths.
      pad: every prompt to this length; 0: to the longest of its batch.
      steps: in a round, for each of the driver's.
      compiled: torch.compile.
    """

    examples: int
    eval_batch: int
    eval_rows: int
    pad: int = 0
    steps: int = 1
    compiled: bool = False

    @property
    def tuned(self) -> bool:
        return not self.pad


TUNED = How(examples=48, eval_batch=16, eval_rows=192)
RECIPES = {
    "a": How(examples=8, eval_batch=8, eval_rows=24, pad=speed_data.LONGEST),
    "b": TUNED,
    "b8": dataclasses.replace(TUNED, examples=8, steps=4),
    "b_compile": dataclasses.replace(TUNED, compiled=True),
}
TEMPLATE = "paper"
MODULES = {name: f"{name}_proj" for name in speed_data.EVERYTHING}
LR, CLIP, ALPHA = 1e-5, 1.0, 16.0


class TorchRecipe:
    """A worker's recipe, see `speed_worker.Recipe`.

    Args:
      spec: "recipe", "dtype", "job", "data", "folder" (the model as a Hugging Face directory).
    """

    def __init__(self, spec: dict[str, Any]):
        self.spec, self.how, self.job = spec, RECIPES[spec["recipe"]], speed_data.JOBS[spec["job"]]
        self.half = spec["dtype"] == "bfloat16"

    def load(self) -> dict[str, Any]:
        torch.set_num_threads(CORES)
        torch.manual_seed(0)
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(self.spec["folder"])
        self.answers = speed_data.read_rows(self.spec["data"], self.job)
        self.prompts, self.letters = speed_data.encode(Prompter(self.tokenizer, TEMPLATE), self.answers)
        frozen = "bfloat16" if self.half and self.how.tuned and (self.job.rank or not self.job.train) else "float32"
        self.causal = transformers.AutoModelForCausalLM.from_pretrained(
            self.spec["folder"], dtype=frozen, attn_implementation="sdpa"
        )
        self.causal.requires_grad_(self.job.train and not self.job.rank)
        if self.job.train and self.job.rank:
            self.causal = with_adapters(self.causal, self.job)
        self.causal.train(self.job.train)
        self.trained = [p for p in self.causal.parameters() if p.requires_grad]
        self.inner, self.head = self.causal.model, self.causal.lm_head.weight
        if self.how.compiled:
            self.inner = torch.compile(self.inner, dynamic=True)
        self.batches = self._batches()
        return {"trained": sum(p.numel() for p in self.trained), "options": len(self.letters)}

    def first(self) -> dict[str, Any]:
        """The losses of all templates, so that each of ours can be compared."""
        losses, asked = {}, {}
        rows = [p.answer for p in speed_data.checked(self.prompts)]
        for template in ("paper", "question_first", "group_last"):
            encoded, _ = speed_data.encode(Prompter(self.tokenizer, template), rows)
            asked[template] = fingerprint(encoded)
            losses[template] = self._one_step(encoded) if self.job.train else mean_kl(encoded, self._predict(encoded))
        return {"losses": losses, "asked": asked, "compile_s": None}

    def prepare(self) -> None:
        """An optimizer whose moments are there, as after its first step."""
        if not self.job.train:
            return
        self.optimizer = torch.optim.AdamW(self.trained, lr=LR, weight_decay=0.0, fused=self.how.tuned or None)
        for parameter in self.trained:
            parameter.grad = torch.zeros_like(parameter)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def round(self, number: int, steps: int) -> dict[str, Any]:
        if not self.job.train:
            prompts = self.batches[0]
            begin = time.perf_counter()
            self._predict(prompts)
            return self._told([prompts], [time.perf_counter() - begin], self.how.eval_batch)
        count = steps * self.how.steps
        used = [self.batches[(number * count + i) % len(self.batches)] for i in range(count)]
        seconds = []
        for prompts in used:
            begin = time.perf_counter()
            self._train(prompts)
            seconds.append(time.perf_counter() - begin)
        return self._told(used, seconds, self.how.examples)

    def rest(self) -> None:
        self.optimizer = None
        for parameter in self.trained:
            parameter.grad = None

    def _batches(self) -> list[list[Prompt]]:
        """Of training: in an order by seed, or of equal length, those about as long as the mean row first.

        Costs go with length, so that these have the speed of all of them together. Of evaluation: one sample.
        """
        if not self.job.train:
            return [speed_data.spread(self.prompts, self.how.eval_rows)]
        if not self.how.tuned:
            shuffled = [self.prompts[i] for i in np.random.default_rng(0).permutation(len(self.prompts))]
            return cut(shuffled, self.how.examples)
        mean = np.mean([len(p.tokens) for p in self.prompts])
        batches = cut(sorted(self.prompts, key=lambda p: len(p.tokens)), self.how.examples)
        return sorted(batches, key=lambda batch: abs(np.mean([len(p.tokens) for p in batch]) - mean))

    def _one_step(self, prompts: Sequence[Prompt]) -> float:
        """Forward and backward, without an update."""
        loss = self._loss(prompts)
        loss.backward()
        self.rest()
        return loss.item()

    def _train(self, prompts: Sequence[Prompt]) -> None:
        loss = self._loss(prompts)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        loss.item()

    def _loss(self, prompts: Sequence[Prompt]) -> torch.Tensor:
        """Mean KL(target || softmax over the options)."""
        log_shares = self._log_shares(prompts)
        target = torch.zeros_like(log_shares)
        for row, prompt in zip(target, prompts, strict=True):
            row[: len(prompt.order)] = torch.tensor(prompt.target)
        exists = target > 0
        log_shares = torch.where(exists, log_shares, 0.0)
        return (torch.special.xlogy(target, target) - target * log_shares).sum() / len(prompts)

    def _predict(self, prompts: Sequence[Prompt]) -> np.ndarray:
        """Shares [n, K]; the most alike in length together, if tuned."""
        shares = np.zeros((len(prompts), len(self.letters)))
        order = np.argsort([len(p.tokens) for p in prompts], kind="stable") if self.how.tuned else range(len(prompts))
        with torch.inference_mode() if self.how.tuned else torch.no_grad():
            for picks in cut(list(order), self.how.eval_batch):
                shares[picks] = self._log_shares([prompts[i] for i in picks]).exp().numpy()
        return shares

    def _log_shares(self, prompts: Sequence[Prompt]) -> torch.Tensor:
        """Log-softmax over the options [n, K], letters that a row lacks at minus infinity; float32."""
        lengths = torch.tensor([len(p.tokens) for p in prompts])
        tokens = torch.zeros((len(prompts), self.how.pad or int(lengths.max())), dtype=torch.long)
        for row, prompt in zip(tokens, prompts, strict=True):
            row[: len(prompt.tokens)] = torch.from_numpy(prompt.tokens)
        at = torch.arange(len(prompts)), lengths - 1
        with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
            if self.how.tuned:
                hidden = self.inner(input_ids=tokens, use_cache=False).last_hidden_state[at]
                logits = torch.nn.functional.linear(hidden, self.head[self.letters])
            else:
                mask = (torch.arange(tokens.shape[1]) < lengths[:, None]).long()
                logits = self.causal(input_ids=tokens, attention_mask=mask, use_cache=False).logits[at]
                logits = logits[:, self.letters]
        exists = torch.arange(len(self.letters)) < torch.tensor([len(p.order) for p in prompts])[:, None]
        return torch.where(exists, logits.float(), -torch.inf).log_softmax(-1)

    def _told(self, batches: Sequence[Sequence[Prompt]], seconds: list[float], size: int) -> dict[str, Any]:
        parts = [part for batch in batches for part in cut(sorted(batch, key=lambda p: len(p.tokens)), size)]
        computed = sum(len(part) * (self.how.pad or len(part[-1].tokens)) for part in parts)
        lengths = [len(p.tokens) for part in parts for p in part]
        return dataclasses.asdict(Round(seconds, len(lengths), computed, [(length, []) for length in lengths]))


def with_adapters(causal: Any, job: Job) -> Any:
    """Puts PEFT's adapters into a model, in place; the rest is frozen."""
    modules = [MODULES[name] for name in job.projections]
    settings = peft.LoraConfig(r=job.rank, lora_alpha=ALPHA, target_modules=modules, task_type="CAUSAL_LM")
    return peft.get_peft_model(causal, settings).base_model.model


def cut(items: Sequence[Any], size: int) -> list[Any]:
    """Consecutive parts; the last may be smaller."""
    return [items[i : i + size] for i in range(0, len(items), size)]


if __name__ == "__main__":
    serve(TorchRecipe)
