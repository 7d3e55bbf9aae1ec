# The project and what it needs, for CPUs; with --build-arg EXTRA=cuda12 (or cuda13, tpu), for accelerators. docs/install.md
# has the commands. CUDA comes with jax's packages: the host needs the driver and NVIDIA's container toolkit.
FROM python:3.12-slim

# Of setup.py's extras, with commas between.
ARG EXTRA=""

WORKDIR /survey_jax
COPY setup.py pyproject.toml README.md LICENSE ./
COPY constraints constraints
COPY survey_jax survey_jax
COPY configs configs
COPY launch launch
RUN pip install --no-cache-dir --constraint constraints/python3.12.txt ".${EXTRA:+[$EXTRA]}"

# Tables, weights and runs: mount a folder here.
WORKDIR /work
ENTRYPOINT ["survey-jax"]
CMD ["--help"]
