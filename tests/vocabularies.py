"""Real vocabularies of families whose weights are too large to test with: `python tests/vocabularies.py` fetches them.

They are vocabulary-only GGUF files of llama.cpp (MIT licence; the vocabularies have their models' terms), each with
texts and the tokens that the original tokenizer makes of them, as llama-cpp-python's source package carries them.
"""

import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PIN = "llama-cpp-python==0.3.9"
SHA256 = "a3a985f558385e2f5de5b663f4e9b0817506d6af98122450142cd98e79216370"
FOLDER = Path(__file__).parents[1] / "checkpoints" / "weights" / "vocabularies"
FAMILIES = {
    "llama-spm": "Llama 1 and 2, Vicuna",
    "llama-bpe": "Llama 3 to 3.3, SmolLM3",
    "qwen2": "Qwen 2 to 3, DeepSeek-R1-Distill-Qwen",
    "phi-3": "Phi-3",
}
_FILES = [f"ggml-vocab-{name}.gguf{suffix}" for name in FAMILIES for suffix in ("", ".inp", ".out")]


def fetch() -> None:
    """Unpacks the files into FOLDER unless they are there; pip checks the hash of what it downloads."""
    if all((FOLDER / file).is_file() for file in _FILES):
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        requirements = Path(temporary, "requirements.txt")
        requirements.write_text(f"{PIN} --hash=sha256:{SHA256}\n")
        options = ["--no-deps", "--require-hashes", "--no-binary=:all:", "--quiet", "--disable-pip-version-check"]
        pip = [sys.executable, "-m", "pip", "download", *options, "--dest", temporary, "-r", str(requirements)]
        subprocess.run(pip, check=True)
        with tarfile.open(next(Path(temporary).glob("*.tar.gz"))) as archive:
            for member in archive:
                name = member.name.rpartition("/")[2]
                if name in _FILES and (content := archive.extractfile(member)):
                    (FOLDER / name).write_bytes(content.read())


if __name__ == "__main__":
    fetch()
