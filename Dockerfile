# xclip in a container, for a CPU:       docker build -t xclip .
# with CUDA, for `docker run --gpus all`: docker build -t xclip --build-arg CUDA=1 .
ARG PYTHON=3.13
FROM python:${PYTHON}-slim

# Empty: torch without CUDA, which saves gigabytes. Anything else: the build of torch that brings CUDA along.
ARG CUDA=

COPY pyproject.toml constraints.txt README.md LICENSE /src/
COPY prompts /src/prompts
COPY xclip_cli /src/xclip_cli
RUN [ -n "$CUDA" ] || export PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu; \
    pip install --no-cache-dir --constraint /src/constraints.txt "/src[parquet,otio]" && rm -r /src

# Downloaded models and text features: mount a volume here to keep them. Any user may write, for `docker run --user`.
ENV HF_HOME=/cache/huggingface XCLIP_CACHE=/cache/xclip
RUN useradd --create-home xclip && mkdir --mode 1777 /cache
USER xclip
WORKDIR /work
ENTRYPOINT ["xclip"]
