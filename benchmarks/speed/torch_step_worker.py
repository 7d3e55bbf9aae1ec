"""A training step of PyTorch, tuned (recipe b of torch_recipes.py), on random weights and tokens, for benchmarks.gpu.

`python -m benchmarks.speed.torch_step_worker SPECIFICATION` is not for people. A specification is that of
made_model.py, with "steps" to time, and in place of "side" a "kernel": "sdpa" (attention as PyTorch chooses), "flash"
(its flash kernel or nothing) or "compiled" (as "sdpa", by torch.compile). A step has about as many tokens as ours.
Prints a line of JSON as step_worker.py does, less "parameters" and "computed"; "memory" is the most that the GPU held,
on CPUs the process.
"""

import contextlib
from typing import Any

import numpy as np

from benchmarks.speed import made_model, speed_data
from benchmarks.speed.made_model import OPTIONS, AbsentError
from benchmarks.speed.speed_flops import unique_flops
from benchmarks.speed.speed_worker import memory
from survey_jax.common.errors import UserError
from survey_jax.inputs.prompts import Prompt
from survey_jax.planning.architectures import read_architecture


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """What the process prints. AbsentError where a package is missing, UserError where PyTorch has no such kernel."""
    try:
        import torch
        import transformers

        from benchmarks.speed.torch_recipes import CLIP, LR, with_adapters
    except ImportError as error:
        raise AbsentError(f"it needs PyTorch, transformers and PEFT: {error}") from error

    decoder, job = read_architecture(spec["model"]), speed_data.JOBS[spec["job"]]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    chosen = choose(made_model.prompts(made_model.questions(spec, decoder.vocab_size)), spec)
    with torch.device(device):
        causal = transformers.AutoModelForCausalLM.from_config(
            transformers.AutoConfig.for_model(**made_model.json_config(spec["model"])),
            dtype=getattr(torch, spec["dtype"]),
            attn_implementation="sdpa",
        )
    causal.requires_grad_(False)
    causal = with_adapters(causal, job).to(device).train()
    trained = [p for p in causal.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.data = parameter.data.float()
    inner = getattr(causal.model, "language_model", causal.model)
    if spec["kernel"] == "compiled":
        inner = torch.compile(inner)
    optimizer = torch.optim.AdamW(trained, lr=LR, weight_decay=0.0, fused=True)
    lengths = torch.tensor([len(p.tokens) for p in chosen])
    tokens = torch.zeros((len(chosen), int(lengths.max())), dtype=torch.long)
    for line, prompt in zip(tokens, chosen, strict=True):
        line[: len(prompt.tokens)] = torch.from_numpy(prompt.tokens)
    tokens, at = tokens.to(device), (torch.arange(len(chosen), device=device), (lengths - 1).to(device))
    target = torch.tensor(np.array([p.target for p in chosen]), device=device, dtype=torch.float32)
    losses = []

    def once() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=spec["dtype"] == "bfloat16"):
            hidden = inner(input_ids=tokens, use_cache=False).last_hidden_state[at]
            logits = torch.nn.functional.linear(hidden, causal.lm_head.weight[:OPTIONS])
        log_shares = logits.float().log_softmax(-1)
        loss = (torch.special.xlogy(target, target) - target * log_shares).sum() / len(chosen)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())

    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    try:
        with flash_only() if spec["kernel"] == "flash" else contextlib.nullcontext():
            seconds = made_model.timed(once, spec["steps"])
    except RuntimeError as error:
        if "No available kernel" in str(error):
            raise UserError("PyTorch's flash kernel cannot compute this model's attention") from error
        raise
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else memory("VmHWM")
    return {
        "device": name,
        "peak_flops": made_model.peak_flops(name),
        "seconds": seconds,
        "examples": len(chosen),
        "tokens": tokens.numel(),
        "flops": unique_flops(decoder, [(int(n), []) for n in lengths], job, OPTIONS),
        "memory": peak,
        "device_peak": peak if device == "cuda" else None,
        "compiled_in": 0.0,
        "loss": losses[0],
    }


def choose(prompts: list[Prompt], spec: dict[str, Any]) -> list[Prompt]:
    """As many prompts as have the tokens of our step, of neighbouring lengths, so that hardly any is padding."""
    everything = sorted(prompts, key=lambda p: len(p.tokens))
    mean = np.mean([len(p.tokens) for p in everything])
    count = max(1, int(spec["rows"] * spec["row_tokens"] / mean))
    first = max(0, (len(everything) - count) // 2)
    return everything[first : first + count]


def flash_only() -> Any:
    """PyTorch refuses attention that its flash kernel cannot compute."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    return sdpa_kernel([SDPBackend.FLASH_ATTENTION])


if __name__ == "__main__":
    made_model.tell(measure)
