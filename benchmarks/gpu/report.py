"""What the hour found, as tables for docs/performance.md, and what is wrong with it."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from benchmarks.gpu.runner import REASONS
from benchmarks.speed.speed_report import table

Results = Mapping[str, Mapping[str, Any]]
GIGA, TERA = 1e9, 1e12
# Relative distance of logits or gradients from float32 that is never too far; and how many times as far as dense
# attention in the same dtype another back end may be.
CLOSE, TIMES = 0.02, 3.0


def markdown(about: Mapping[str, Any], results: Results) -> str:
    """All tables that have a row."""
    tables = [
        ("What the commands did with a tiny model.", smoke),
        ("Distance of bfloat16 from dense attention in float32, with LoRA on all projections; and how far answers move "
         "when another branch changes.", parity),
        ("A training step. FLOP/s are those of tokens really there, each once; memory is the device's peak, or else as "
         "compiled.", speed),
        ("Memory of a step, GB.", memory),
        ("Small trainings, from the first step to the report.", training),
    ]  # fmt: skip
    parts = [heading(about)]
    for title, make in tables:
        head, rows = make(results)
        if rows:
            parts.append(f"{title}\n\n{table(head, rows)}")
    if without := [f"- {key}: {why}" for key, why in absent(results)]:
        parts.append("Without a result:\n\n" + "\n".join(without))
    if later := [key for key, result in results.items() if "left_out" in result]:
        parts.append(f"Left out for lack of time: {', '.join(later)}.")
    return "\n\n".join(parts)


def heading(about: Mapping[str, Any]) -> str:
    """The machine, in a sentence or three."""
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    memory = f", {about['memory'] / GIGA:.0f} GB for jax" if about["memory"] else ""
    share = f" ({about['product_flops'] / about['peak_flops']:.0%} of the data sheet)" if about["peak_flops"] else ""
    product = f"a large bfloat16 product here: {about['product_flops'] / TERA:.4g} TFLOP/s{share}"
    rehearsal = "A rehearsal: the figures mean nothing. " if about["rehearsal"] else ""
    return (
        f"{rehearsal}{about['devices']} x {about['device']}{memory}; {product}. Python {about['python']}, {versions}."
    )


def found(results: Results, part: str) -> Iterator[tuple[list[str], Mapping[str, Any]]]:
    """The rest of a part's keys, split, with what was measured."""
    for key, result in results.items():
        name, *rest = key.split("/")
        if name == part and not set(REASONS) & set(result):
            yield rest, result


def absent(results: Results) -> Iterator[tuple[str, str]]:
    """Keys of what failed or is unavailable, and why."""
    for key, result in results.items():
        for reason in ("failed", "unavailable"):
            if reason in result:
                yield key, f"{reason}: {result[reason]}"


Table = tuple[tuple[str, ...], list[list[str]]]


def smoke(results: Results) -> Table:
    """Seconds and losses."""
    head = ("train, s", "resume, s", "eval, s", "loss before and after resuming")
    return head, [
        [*(f"{r[name]:.1f}" for name in ("train", "resume", "eval")), " -> ".join(f"{x:.4f}" for x in r["losses"])]
        for _, r in found(results, "smoke")
    ]


def parity(results: Results) -> Table:
    """With leaks in the last column."""
    leaks = {tuple(rest): r["leak"] for rest, r in found(results, "leak")}
    near = {tuple(rest): r for rest, r in found(results, "parity")}
    head = ("model", "attention", "logits", "gradient", "probabilities", "leak")
    measures = ("logits", "gradient", "probabilities")
    return head, [
        [
            *names,
            *(f"{near[names][m]:.2g}" if names in near else "" for m in measures),
            f"{leaks[names]:.2g}" if names in leaks else "",
        ]
        for names in dict.fromkeys([*near, *leaks])
    ]


def speed(results: Results) -> Table:
    """Ours, each with how many times as fast as the fastest of PyTorch's on that model and job; then PyTorch's."""
    theirs: dict[tuple[str, str], float] = {}
    for (model, job, _), r in found(results, "torch"):
        theirs[model, job] = max(per_second(r), theirs.get((model, job), 0.0))
    rows = []
    for part in ("speed", "torch"):
        for (model, job, *base, side), r in found(results, part):
            best, flops = theirs.get((model, job)), r["flops"] / r["seconds"]
            rows.append(
                [
                    model,
                    job,
                    *(base or [""]),
                    side if part == "speed" else f"PyTorch, {side}",
                    f"{per_second(r):.4g}",
                    f"{per_second(r) / best:.2f}" if best and part == "speed" else "",
                    f"{r['seconds']:.4g}",
                    f"{flops / TERA:.4g}",
                    f"{flops / r['peak_flops']:.0%}" if r["peak_flops"] else "",
                    f"{(r['device_peak'] or r['memory']) / GIGA:.3g}",
                    f"{r['compiled_in']:.1f}",
                ]
            )
    head = ("model", "trained", "base", "attention", "examples/s", "times PyTorch", "step, s", "TFLOP/s", "of peak",
            "memory, GB", "compiled in, s")  # fmt: skip
    return head, rows


def per_second(result: Mapping[str, Any]) -> float:
    """Examples."""
    return result["examples"] / result["seconds"]


def memory(results: Results) -> Table:
    """Planned, as compiled, and the device's peak."""
    head = ("model", "trained", "attention", "planned", "as compiled", "device's peak", "planned / peak")
    rows = []
    for (model, job, *_, side), r in found(results, "memory"):
        sizes = [r["planned"], r["memory"], r["device_peak"]]
        ratio = f"{r['planned'] / r['device_peak']:.2f}" if r["device_peak"] else ""
        rows.append([model, job, side, *(f"{x / GIGA:.3g}" if x else "" for x in sizes), ratio])
    return head, rows


def training(results: Results) -> Table:
    """From the first step to the report."""
    head = ("weights", "data", "steps", "examples/s", "MFU", "training, s", "evaluation, s",
            "KL on valid, first and best", "KL on new questions: model, best rule", "GB")  # fmt: skip
    optional: Callable[[Any, str], str] = lambda x, form: "" if x is None else format(x, form)  # noqa: E731
    return head, [
        [
            *names,
            str(r["steps"]),
            optional(r["examples_per_second"], ".4g"),
            optional(r["mfu"], ".1%"),
            f"{r['train']:.0f}",
            optional(r.get("eval"), ".0f"),
            " -> ".join(f"{x:.3f}" for x in r["valid_kl"]),
            ", ".join(f"{x:.3f}" for x in r.get("kl", {}).get("unseen_question", ())),
            optional(r["device_peak_gb"], ".2f"),
        ]
        for names, r in found(results, "training")
    ]


def wrong(results: Results) -> list[str]:
    """What failed; where a back end is too far from float32; and where branches see one another."""
    said = [f"{key}: {result['failed']}" for key, result in results.items() if "failed" in result]
    near = {tuple(rest): r for rest, r in found(results, "parity")}
    for (model, side), r in near.items():
        dense = near.get((model, "dense"))
        for measure in ("logits", "gradient"):
            most = max(CLOSE, TIMES * dense[measure]) if dense else TIMES * CLOSE
            if r[measure] > most:
                said.append(f"parity/{model}/{side}: {measure} {r[measure]:.2g} from float32, more than {most:.2g}")
    said += [
        f"leak/{'/'.join(rest)}: a branch sees another (its answer moved by {r['leak']:.2g})"
        for rest, r in found(results, "leak")
        if r["leak"] > 0
    ]
    return said
